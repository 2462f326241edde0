"""One step of a beam search over the cells of a map."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def local_maxima(maps: Float[Array, "N H W"]) -> Bool[Array, "N H W"]:
    """Cells that none of the eight around them exceeds."""
    greatest = nn.max_pool(maps[..., None], window_shape=(3, 3), strides=(1, 1), padding="SAME")
    return maps >= greatest[..., 0]


def extend(
    scores: Float[Array, " N"], log_p: Float[Array, "N H W"], count: int
) -> tuple[Float[Array, " M"], Int[Array, " M"], Int[Array, " M"]]:
    """The best continuations of N hypotheses by one cell each, best first.

    Cells are a hypothesis's local maxima: those beside one say the same place. Where there are too
    few, the rest have a score of -inf.

    Args:
      scores: Logarithms of the hypotheses' probabilities.
      log_p: Of the next cell, given each.
      count: Most continuations.

    Returns:
      Their scores, the hypothesis that each continues, and its cell, counted by rows. Equal scores
      go by the lowest hypothesis, then cell. M is `count`, or N H W if that is less.
    """
    cells = log_p.shape[1] * log_p.shape[2]
    total = jnp.where(local_maxima(log_p), scores[:, None, None] + log_p, -jnp.inf)
    best, index = lax.top_k(total.reshape(-1), min(count, total.size))
    return best, index // cells, index % cells
