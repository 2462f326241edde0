"""Losses of single numbers, which both stages sum in their own ways.

Not optax's: its logistic loss takes 1.4 times as long, and inference does without that import.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def huber(distance: Float[Array, "..."], delta: float) -> Float[Array, "..."]:
    """d^2 / 2 up to delta, then delta (d - delta / 2), for d >= 0."""
    return jnp.where(distance <= delta, 0.5 * distance**2, delta * (distance - 0.5 * delta))


def logistic(logits: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """-log p of a target in [0, 1] under p = sigmoid(logit)."""
    # log(1 + e^z) - y z: one softplus, and exact for the soft targets of mixed pictures too.
    return jax.nn.softplus(logits) - target * logits
