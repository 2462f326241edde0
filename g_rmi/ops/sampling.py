"""The anchors or proposals of a picture that enter the loss."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32, Key, Real


def hard_negatives(
    losses: Real[ArrayLike, " A"], negative: Bool[ArrayLike, " A"], count: Real[ArrayLike, ""]
) -> Bool[Array, " A"]:
    """The negatives of the highest loss (SSD, section 2.2, hard negative mining).

    Args:
      losses: What each anchor costs if it is background. A NaN is the highest: left out, it would
        hide that a training went wrong.
      negative: Anchors that may be chosen.
      count: How many, rounded down; a number on the device, since it follows from the positives.

    Returns:
      The chosen, all negatives if there are not as many; of equal losses the lowest index.
    """
    losses, negative = jnp.asarray(losses, jnp.float32), jnp.asarray(negative)
    losses = jnp.where(jnp.isnan(losses), jnp.inf, losses)
    # Two keys: a negative of loss -inf still comes before what is no negative.
    order = jnp.lexsort((-losses, ~negative))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(len(losses), dtype=order.dtype))
    return negative & (rank < jnp.floor(jnp.asarray(count, jnp.float32)).astype(rank.dtype))


def sample(
    key: Key[Array, ""],
    positive: Bool[ArrayLike, " A"],
    negative: Bool[ArrayLike, " A"],
    *,
    size: int,
    positive_share: float,
    share: Float[ArrayLike, " A"] | None = None,
) -> tuple[Int32[Array, " size"], Bool[Array, " size"]]:
    """Draws a fixed number of anchors without replacement.

    Args:
      key: Of the draw.
      positive: Anchors of which at most `floor(size * positive_share)` are drawn.
      negative: Anchors that fill the rest, as far as they go; none is positive, too.
      size: Rows of the result.
      positive_share: Largest share of positives.
      share: Relative chance of each positive, above 0; None: all the same.

    Returns:
      The indices, positives first and then negatives, and which rows hold one; the others are 0.
    """
    positive, negative = jnp.asarray(positive), jnp.asarray(negative)
    anchors = positive.shape[0]
    most = int(size * positive_share)
    if anchors == 0:
        return jnp.zeros(size, jnp.int32), jnp.zeros(size, bool)
    order = jax.random.uniform(key, (anchors,), jnp.float32)

    def draw(members, count):
        drawn, index = lax.top_k(jnp.where(members, order, -1.0), min(count, anchors))
        return index, jnp.sum(drawn >= 0)

    row = jnp.arange(size)
    negatives, m = draw(negative, size)
    if share is not None:
        # The largest u ** (1 / share) are a weighted draw (Efraimidis and Spirakis, 2006);
        # 1 / (1 - x) sorts their logarithms x likewise and does not underflow.
        order = 1 / (1 - jnp.log(order) / jnp.asarray(share, jnp.float32))
    positives, n = draw(positive, most)
    from_positives = jnp.take(positives, row, mode="clip") if most else row
    from_negatives = jnp.take(negatives, row - n, mode="clip")
    valid = row < n + m
    index = jnp.where(row < n, from_positives, from_negatives)
    return jnp.where(valid, index, 0).astype(jnp.int32), valid
