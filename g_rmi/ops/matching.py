"""Which ground truth an anchor or a proposal learns from."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Real

# Overlaps that differ by less are equal: the same overlap computed twice may round differently.
_ROUNDING = 2.0**-20


class Match(NamedTuple):
    """What each anchor learns; those that are neither positive nor negative teach nothing."""

    index: Int32[Array, " A"]  # the valid ground truth it overlaps most; 0 where there is none
    positive: Bool[Array, " A"]  # it learns to be that
    negative: Bool[Array, " A"]  # it learns to be background


def match(
    overlap: Real[ArrayLike, "G A"],
    valid: Bool[ArrayLike, " G"],
    *,
    positive: Real[ArrayLike, ""],
    negative: Real[ArrayLike, ""],
    force: bool,
    claim: bool = False,
) -> Match:
    """Matches every anchor with the ground truth it overlaps most (Faster R-CNN, section 3.1.2).

    Args:
      overlap: IoU of ground truth g and anchor a.
      valid: Rows that are ground truth; without any, all anchors are negative.
      positive: Anchors whose best overlap is at least this are positive.
      negative: Anchors whose best overlap is less than this are negative.
      force: Also make positive whatever overlaps a valid ground truth most, ties included, so that
        each one that is overlapped at all has an anchor. Its index stays its own best.
      claim: Also let each valid ground truth in turn claim the one anchor that it overlaps most of
        those that none before it claimed (SSD, section 2.2): that anchor is positive, and learns
        it even where it overlaps another more. What overlaps no free anchor claims none.

    Returns:
      The match of each anchor; of equal overlaps, with the lowest index.
    """
    overlap = jnp.asarray(overlap, jnp.float32)
    rows, anchors = overlap.shape
    if rows == 0 or anchors == 0:
        nothing = jnp.zeros(anchors, bool)
        return Match(jnp.zeros(anchors, jnp.int32), nothing, ~nothing)

    def learn(state, row):
        best, index, forced, owner = state
        overlap, valid, g = row
        overlap = jnp.where(valid & ~jnp.isnan(overlap), overlap, -1.0)
        better = overlap > best
        if force:
            highest = jnp.max(overlap)
            forced |= (overlap >= highest * (1.0 - _ROUNDING)) & (highest > 0)
        if claim:
            free = jnp.where(owner < 0, overlap, -1.0)
            highest = jnp.max(free)
            first = jnp.argmax(free >= highest * (1.0 - _ROUNDING))
            mine = (jnp.arange(anchors) == first) & (highest > 0)
            owner = jnp.where(mine, g, owner)
        best, index = jnp.where(better, overlap, best), jnp.where(better, g, index)
        return (best, index, forced, owner), None

    # Row by row: on CPUs a reduction of the whole matrix strides through memory, 5 times slower.
    nobody = jnp.isnan(overlap[0]) & False  # of the data's own type on a device mesh
    zeros = nobody.astype(jnp.int32)
    start = nobody.astype(jnp.float32) - 1.0, zeros, nobody, zeros - 1
    ground_truth = (overlap, jnp.asarray(valid), jnp.arange(rows, dtype=jnp.int32))
    (best, index, forced, owner), _ = lax.scan(learn, start, ground_truth)
    index, forced = jnp.where(owner < 0, index, owner), forced | (owner >= 0)
    is_positive = (best >= jnp.asarray(positive, jnp.float32)) | forced
    is_negative = (best < jnp.asarray(negative, jnp.float32)) & ~is_positive
    return Match(index, is_positive, is_negative)
