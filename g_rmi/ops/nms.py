"""Greedy non-maximum suppression: the result of the sequential algorithm, found in parallel."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

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
    return _greedy(
        lambda rows: similarity.at[rows].get(mode="clip"), scores, valid, threshold=threshold
    )


def box_nms(
    boxes: Real[ArrayLike, "N 4"],
    scores: Real[ArrayLike, " N"],
    valid: Bool[ArrayLike, " N"],
    *,
    threshold: Real[ArrayLike, ""],
) -> Bool[Array, " N"]:
    """`greedy_nms` by the IoU of boxes; the N x N matrix is never held.

    Args:
      boxes: `(x0, y0, x1, y1)`.
      scores: Higher is better; equal scores go by the lowest index.
      valid: Candidates that take part.
      threshold: IoU above which the worse of two boxes is dropped; .6 in the paper.

    Returns:
      The boxes that are kept.
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    return _greedy(
        lambda rows: iou(boxes.at[rows].get(mode="clip"), boxes), scores, valid, threshold=threshold
    )


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


def _greedy(
    similarity: Callable[[Int[Array, " block"]], Float[Array, "block N"]],
    scores: Real[ArrayLike, " N"],
    valid: Bool[ArrayLike, " N"],
    *,
    threshold: Real[ArrayLike, ""],
) -> Bool[Array, " N"]:
    """Greedy suppression from rows of the similarity matrix, block by block in score order."""
    scores = jnp.asarray(scores, jnp.float32)
    alive = jnp.asarray(valid) & ~jnp.isnan(scores)
    threshold = jnp.asarray(threshold, jnp.float32)
    n = len(scores)
    if n == 0:
        return alive
    block = min(_BLOCK, n)
    order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
    rank = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    # Index n stands for nobody: out of bounds, so never alive and never written.
    blocks = jnp.pad(order, (0, -n % block), constant_values=n).reshape(-1, block)
    earlier = jnp.arange(block)[:, None] < jnp.arange(block)[None, :]

    def decide(alive, block_and_end):
        rows, end = block_and_end
        drops = similarity(rows) > threshold
        candidates = alive.at[rows].get(mode="fill", fill_value=False)
        keep = _settle(candidates, drops.at[:, rows].get(mode="clip") & earlier)
        dropped = jnp.any(drops & keep[:, None], axis=0) & (rank >= end)
        return (alive & ~dropped).at[rows].set(keep, mode="drop"), None

    ends = block * jnp.arange(1, len(blocks) + 1, dtype=jnp.int32)
    alive, _ = lax.scan(decide, alive, (blocks, ends))
    return alive


def _settle(
    candidates: Bool[Array, " block"], drops: Bool[Array, "block block"]
) -> Bool[Array, " block"]:
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
