"""Greedy non-maximum suppression: the result of the sequential algorithm, found in parallel."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Real

from g_rmi.ops.boxes import iou
from g_rmi.ops.oks import pairwise_oks

# Candidates decided together. Bounds the work on long chains, where every sweep decides one
# candidate, and the memory of `box_nms` to _BLOCK x N.
_BLOCK = 256


def greedy_nms(
    similarity: Real[ArrayLike, "N N"],
    scores: Real[ArrayLike, " N"],
    valid: Bool[ArrayLike, " N"],
    *,
    threshold: Real[ArrayLike, ""],
) -> Bool[Array, " N"]:
    """Keeps the best candidate, drops all that are too similar to it, and so on with the rest.

    Args:
      similarity: `similarity[i, j]` decides whether a kept i drops j.
      scores: Higher is better; equal scores go by the lowest index.
      valid: Candidates that take part. A NaN score takes its candidate out as well.
      threshold: What is greater than this is dropped.

    Returns:
      The candidates that are kept.
    """
    similarity = jnp.asarray(similarity, jnp.float32)

    def among(rows):
        taken = similarity.at[rows].get(mode="clip")
        return taken.at[:, rows].get(mode="clip"), taken

    return _greedy(among, scores, valid, threshold=threshold)


def box_nms(
    boxes: Real[ArrayLike, "N 4"],
    scores: Real[ArrayLike, " N"],
    valid: Bool[ArrayLike, " N"],
    *,
    threshold: Real[ArrayLike, ""],
    limit: int | None = None,
    classes: Int[ArrayLike, " N"] | None = None,
) -> Bool[Array, " N"]:
    """`greedy_nms` by the IoU of boxes; the N x N matrix is never held.

    Args:
      boxes: `(x0, y0, x1, y1)`.
      scores: Higher is better; equal scores go by the lowest index.
      valid: Candidates that take part.
      threshold: IoU above which the worse of two boxes is dropped; .6 in the paper.
      limit: Only the best so many of the kept ones are wanted; the rest is not looked for.
      classes: Boxes of different classes do not drop each other; None: all are of one.

    Returns:
      The boxes that are kept.
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    numbers = None if classes is None else jnp.asarray(classes)

    def among(rows):
        block = boxes.at[rows].get(mode="clip")
        # The small matrix is computed twice: cheaper than cutting it out of the large one.
        in_block, with_all = iou(block, block), iou(block, boxes)
        if numbers is None:
            return in_block, with_all
        own = numbers.at[rows].get(mode="clip")[:, None]
        return (
            jnp.where(own == c, x, 0.0) for c, x in ((own.T, in_block), (numbers[None], with_all))
        )

    return _greedy(among, scores, valid, threshold=threshold, limit=limit)


def oks_nms(
    keypoints: Real[ArrayLike, "N K 2"],
    scores: Real[ArrayLike, " N"],
    areas: Real[ArrayLike, " N"],
    valid: Bool[ArrayLike, " N"],
    *,
    sigmas: Sequence[float] | Real[ArrayLike, " K"],
    threshold: Real[ArrayLike, ""],
) -> Bool[Array, " N"]:
    """`greedy_nms` by the OKS of poses (paper, section 3.2.3).

    Args:
      keypoints: The poses, in pixels.
      scores: Higher is better; equal scores go by the lowest index.
      areas: Area of each person in square pixels.
      valid: Candidates that take part.
      sigmas: Fall-off per joint, `Skeleton.sigmas`.
      threshold: OKS above which the worse of two poses is dropped; .5 in the paper.

    Returns:
      The poses that are kept.
    """
    similarity = pairwise_oks(keypoints, areas, sigmas=sigmas)
    return greedy_nms(similarity, scores, valid, threshold=threshold)


def _greedy(among, scores, valid, *, threshold, limit=None):
    """Greedy suppression, block by block of the best that are left.

    `among` gives the similarities of the rows of a block with each other and with everybody.
    """
    scores = jnp.asarray(scores, jnp.float32)
    pending = jnp.asarray(valid) & ~jnp.isnan(scores)
    threshold = jnp.asarray(threshold, jnp.float32)
    n = len(scores)
    if n == 0:
        return pending
    limit = n if limit is None else limit
    block = min(_BLOCK, n)
    order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
    places = jnp.arange(1, block + 1, dtype=jnp.int32)
    earlier = places[:, None] < places[None, :]

    def decide(state):
        pending, keep = state
        place = jnp.cumsum(pending[order], dtype=jnp.int32)
        # Index n stands for nobody: out of bounds, so never a candidate and never written.
        best = jnp.searchsorted(place, places, method="scan_unrolled")
        rows = order.at[best].get(mode="fill", fill_value=n)
        in_block, with_all = among(rows)
        kept = _settle(rows < n, (in_block > threshold) & earlier)
        dropped = jnp.any((with_all > threshold) & kept[:, None], axis=0)
        pending = (pending & ~dropped).at[rows].set(False, mode="drop")
        return pending, keep.at[rows].set(kept, mode="drop")

    def unfinished(state):
        pending, keep = state
        return jnp.any(pending) & (jnp.sum(keep) < limit)

    # Nobody is kept yet; made from the data, so that its type is the same on a device mesh.
    _, keep = lax.while_loop(unfinished, decide, (pending, pending & False))
    if limit >= n:
        return keep
    ranked = keep[order]
    return keep.at[order].set(ranked & (jnp.cumsum(ranked) <= limit))


def _settle(candidates, drops):
    """Solves keep[j] = candidates[j] and not any_i(keep[i] and drops[i, j]), drops[i, j] => i < j.

    Each sweep settles at least the first unsettled candidate for good, so the solution is unique
    and reached; where suppression is shallow, a few sweeps do.
    """

    def sweep(state):
        keep, _ = state
        swept = candidates & ~jnp.any(drops & keep[:, None], axis=0)
        return swept, jnp.any(swept != keep)

    # "changed" starts from the data, so that both have the same type on a device mesh.
    return lax.while_loop(lambda state: state[1], sweep, (candidates, jnp.any(candidates)))[0]
