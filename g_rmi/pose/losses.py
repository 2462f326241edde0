"""The pose network's losses, as sums over positions; the task divides once (paper, eq. 2)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from g_rmi.nn.losses import huber, logistic


def heatmap_loss(
    logits: Float[Array, "*grid K"],
    target: Float[Array, "*grid K"],
    include: Bool[Array, "*grid K"],
) -> Float[Array, ""]:
    """Logistic loss, summed over the included positions and joints."""
    return jnp.sum(logistic(logits, target), where=include)


def offset_loss(
    offset: Float[Array, "*grid K 2"],
    target: Float[Array, "*grid K 2"],
    include: Bool[Array, "*grid K"],
    *,
    delta: float,
) -> Float[Array, ""]:
    """Huber loss of the distance ||F_k(x) - (l_k - x)||, summed over the included positions.

    Args:
      offset: Predicted F_k, in crop pixels.
      target: l_k - x, in crop pixels.
      include: Positions within R of the joint.
      delta: Where the loss turns linear, in crop pixels.

    Returns:
      The sum, with a zero gradient where the prediction is exact.
    """
    square = jnp.sum((offset - target) ** 2, axis=-1)
    # The root's gradient at 0 is infinite; Huber's there is 0. Keep the root away from it.
    distance = jnp.sqrt(jnp.maximum(square, 1e-12))
    return jnp.sum(huber(distance, delta), where=include)
