"""People ranked and duplicates dropped (paper, section 3.2.3), on the device and over data sets."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g_rmi.inference.settings import Ranking, Settings
from g_rmi.ops.nms import box_nms as _box_nms
from g_rmi.ops.nms import oks_nms as _oks_nms
from g_rmi.skeleton import Skeleton
from g_rmi.types import People


def rank(
    keypoints: Float[Array, "N K 2"],
    pose_scores: Float[Array, " N"],
    boxes: Float[Array, "N 4"],
    box_scores: Float[Array, " N"],
    valid: Bool[Array, " N"],
    *,
    sigmas: tuple[float, ...],
    ranking: Ranking,
    min_score: float | Array,
    box_nms: float | Array | None,
    oks_nms: float | Array | None,
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """Scores the people of one picture, in image pixels, and says who stays.

    Options as in `Settings`, but a threshold of None keeps all duplicates. Boxes are compared
    before the poses are, and their areas are the scale of OKS. Of two duplicates the one with the
    higher score stays.
    """
    scores = {"pose": pose_scores, "box": box_scores, "product": pose_scores * box_scores}[ranking]
    # Without a least score, a person whose score is nan stays.
    keep = valid & ~(scores < min_score)
    if box_nms is not None:
        keep = _box_nms(boxes, scores, keep, threshold=box_nms)
    if oks_nms is not None:
        areas = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
        keep = _oks_nms(keypoints, scores, areas, keep, sigmas=sigmas, threshold=oks_nms)
    return scores, keep


def rank_classes(
    keypoints: Float[Array, "N K 2"],
    pose_scores: Float[Array, " N"],
    boxes: Float[Array, "N 4"],
    box_scores: Float[Array, " N"],
    valid: Bool[Array, " N"],
    classes: Int[Array, " N"] | None,
    *,
    skeleton: Skeleton,
    **options: Any,
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """`rank` inside each class, by its own joints; without classes, of all."""
    if classes is None:
        given = keypoints, pose_scores, boxes, box_scores, valid
        return rank(*given, sigmas=skeleton.sigmas, **options)
    found = []
    for number, block in enumerate(skeleton.blocks.values()):
        given = keypoints[:, block], pose_scores, boxes, box_scores, valid & (classes == number)
        found.append(rank(*given, sigmas=skeleton.sigmas[block], **options))
    scores, keep = zip(*found)
    return scores[0], jnp.stack(keep).any(0)


def rank_options(settings: Settings) -> dict:
    """The settings that `rank` takes; thresholds of 1 keep all."""
    thresholds = {"box_nms": settings.box_nms, "oks_nms": settings.oks_nms}
    return {
        "ranking": settings.ranking,
        "min_score": settings.min_score,
        **{name: value if value < 1 else None for name, value in thresholds.items()},
    }


_rank = jax.jit(rank, static_argnames=("sigmas", "ranking"))


def rank_images(
    people: People,
    image_ids: Int[np.ndarray, " N"],
    box_scores: Float[np.ndarray, " N"],
    *,
    sigmas: tuple[float, ...],
    settings: Settings,
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """`rank` for the people of many images, who come with their pose scores."""
    scores, keep = np.zeros(len(image_ids), np.float32), np.zeros(len(image_ids), bool)
    ranked = partial(_rank, sigmas=sigmas, **rank_options(settings))
    order = np.argsort(image_ids, kind="stable")
    starts = np.flatnonzero(np.diff(image_ids[order], prepend=-1))
    for rows in filter(len, np.split(order, starts)):
        # Power-of-two padding: few compilations for any number of people.
        padding = (1 << (len(rows) - 1).bit_length()) - len(rows)

        def padded(column, rows=rows, padding=padding):
            values = np.asarray(column, np.float32)[rows]
            return np.pad(values, [(0, padding)] + [(0, 0)] * (values.ndim - 1))

        tables = map(padded, (people.keypoints, people.scores, people.boxes, box_scores))
        valid = np.arange(len(rows) + padding) < len(rows)
        each, kept = ranked(*tables, valid)
        scores[rows], keep[rows] = np.asarray(each)[: len(rows)], np.asarray(kept)[: len(rows)]
    return scores, keep
