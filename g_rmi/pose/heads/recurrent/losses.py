"""Squares of which a map's few bright positions weigh as much as its many dark ones."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def balanced_squares(
    maps: Float[Array, "H W C"], target: Float[Array, "H W C"], include: Bool[Array, " C"]
) -> Float[Array, ""]:
    """Squared error, balanced between foreground (where a target is above 0) and background.

        1/2 sum_c sum_x w_c(x) (maps_c(x) - target_c(x))^2

    In a map of n positions of which f are foreground, w is (n - f) / n there and f / n elsewhere;
    1 everywhere if f is more than half of n. A map without foreground teaches nothing, not even
    that the joint is absent. What is not included is left out.
    """
    bright = target > 0
    share = jnp.mean(bright, axis=(0, 1), dtype=jnp.float32)
    weight = jnp.where(bright, (1.0 - share)[None, None], share[None, None])
    weight = jnp.where((share > 0.5)[None, None], 1.0, weight)
    counts = (include & (share > 0))[None, None]
    return 0.5 * jnp.sum(jnp.where(counts, weight * (maps - target) ** 2, 0.0))
