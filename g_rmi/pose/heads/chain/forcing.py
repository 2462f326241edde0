"""Scheduled sampling (Bengio et al., 2015): when the truth is fed, and when what was found."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def truth_share(step: Int[Array, ""] | int, steps: int) -> Float[Array, ""]:
    """The probability that the truth is fed: 1 at first, then linearly to 0 within so many steps.

    0 steps: always 1.
    """
    if steps == 0:
        return jnp.ones(())
    return jnp.clip(1.0 - jnp.asarray(step, jnp.float32) / steps, 0.0, 1.0)


def draw_truth(
    key: Key[Array, ""], share: Float[Array, ""], shape: tuple[int, ...]
) -> Bool[Array, "..."]:
    """Where the truth is fed, each with that probability."""
    return jax.random.uniform(key, shape) < share
