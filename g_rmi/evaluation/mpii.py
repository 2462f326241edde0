"""MPII's average precision of many people's joints (Pishchulin et al. 2016, DeepCut)."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from g_rmi.skeleton import Skeleton


class JointsOfPicture(NamedTuple):
    """P annotated and D found people of a picture, in its pixels."""

    keypoints: Float[np.ndarray, "P K 2"]
    visible: Bool[np.ndarray, "P K"]
    head_sizes: Float[np.ndarray, " P"]  # `g_rmi.evaluation.pck.head_sizes`
    predictions: Float[np.ndarray, "D K 2"]  # NaN: the person has no such joint
    scores: Float[np.ndarray, "D K"]  # of each joint


def multi_person_ap(
    pictures: Iterable[JointsOfPicture], *, threshold: float = 0.5
) -> Float[np.ndarray, " K"]:
    """Average precision of each joint over a data set, NaN where nobody has it annotated.

    A joint is right within `threshold` times the size of the head. Each found person stands for the
    annotated one of whose joints it has the largest share right; each annotated person is then
    found by the best of those that stand for it, if any joint is right. The joints of found people
    who are assigned are right or wrong, those of all others wrong; ties go to the first. Then, by
    falling score, the area under the precision's envelope over recall.

    The joints of an assigned person that the annotated one lacks do not count. Unlike the authors'
    script, pictures in which nobody was found count as well, and nothing is cut out of a picture:
    they evaluate rectangles around groups.

    Returns:
      The average precision of each joint, 0 to 1.

    Raises:
      ValueError: There are no pictures.
    """
    tables = [_assigned(picture, threshold) for picture in pictures]
    if not tables:
        raise ValueError("no pictures to evaluate")
    scores, right = (np.concatenate(column) for column in list(zip(*tables))[:2])
    annotated = np.sum([table[2] for table in tables], axis=0)
    return np.array(
        [
            _average_precision(scores[~np.isnan(s), k], right[~np.isnan(s), k], int(annotated[k]))
            for k, s in enumerate(scores.T)
        ]
    )


def ap_numbers(ap: Float[np.ndarray, " K"], skeleton: Skeleton) -> dict[str, float]:
    """`mAP` over the joints, `mAP_<joint>`; -1 for a joint nobody has annotated.

    The authors' table has a mean over both sides of each part, and one over all joints that counts
    the upper body once more; this mean counts every joint once.
    """
    some = ap[~np.isnan(ap)]
    values = {"mAP": float(some.mean()) if len(some) else -1.0}
    for name, value in zip(skeleton.names, ap.tolist(), strict=True):
        values[f"mAP_{name}"] = -1.0 if math.isnan(value) else value
    return values


def _assigned(
    picture: JointsOfPicture, threshold: float
) -> tuple[Float[np.ndarray, "D K"], Bool[np.ndarray, "D K"], Int[np.ndarray, " K"]]:
    """Scores of found joints (NaN: does not count), which are right, and how many are annotated."""
    annotated = picture.visible & (picture.head_sizes > 0)[:, None]
    away = np.linalg.norm(picture.predictions[:, None] - picture.keypoints[None], axis=-1)
    right = annotated & (away <= threshold * picture.head_sizes[:, None])  # [D, P, K]
    there = ~np.isnan(picture.predictions).any(axis=-1)
    scores, counted = np.where(there, picture.scores, np.nan), np.zeros(there.shape, bool)
    if right.shape[0] and right.shape[1]:
        share = right.sum(axis=-1) / np.maximum(annotated.sum(axis=-1), 1)
        person = share.argmax(axis=1)  # whom each found person stands for
        own = np.where(np.arange(right.shape[1]) == person[:, None], share, 0.0)
        for p, d in enumerate(own.argmax(axis=0)):
            if own[d, p] > 0:
                counted[d] = right[d, p]
                scores[d, ~annotated[p]] = np.nan
    return scores, counted, annotated.sum(axis=0)


def _average_precision(
    scores: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], annotated: int
) -> float:
    """Area under the enveloped curve of precision over recall."""
    if not annotated:
        return math.nan
    right = right[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / annotated)
