"""Which least score to show people at: how many are right, doubled, false and missed at each."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from g_rmi.evaluation.keypoint_table import keypoint_similarity
from g_rmi.evaluation.results import Result, keypoints_of, of_people
from g_rmi.evaluation.truth import Truth
from g_rmi.geometry import from_xywh

SCORES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
ALIKE = 0.4  # Least IoU of the boxes, or OKS, with which a person is found.


class ThresholdRow(NamedTuple):
    """Counts of the people shown at a least score, `score`.

    `right` find an annotated person whom nobody with a better score has found; `doubled` find one
    who was; `crowd` lie mainly inside an annotated crowd; `false` are the others. `missed`
    are the annotated people whom nobody finds, `empty` those of `shown` on images without anybody.
    """

    score: float
    shown: int
    right: int
    doubled: int
    crowd: int
    false: int
    missed: int
    empty: int


def thresholds(
    truth: Truth, results: Sequence[Result], scores: Sequence[float] = SCORES
) -> list[ThresholdRow]:
    """A row for each least score, of poses as `keypoint_results` makes them, with their "bbox"."""
    annotated, found = defaultdict(list), defaultdict(list)
    for row, person in enumerate(truth.people):
        annotated[person["image_id"]].append(row)
    for result in sorted(of_people(results), key=lambda result: -result["score"]):
        found[result["image_id"]].append(result)
    shown = []  # Score, what the person is, whether the image has nobody.
    for image in truth.image_ids:
        rows = annotated[image]
        kinds = _kinds(truth, rows, found[image]) if found[image] else []
        shown += [(one["score"], kind, not rows) for one, kind in zip(found[image], kinds)]
    images = set(truth.image_ids)
    people = sum(not one["iscrowd"] and one["image_id"] in images for one in truth.people)
    table = []
    for score in scores:
        counted = [(kind, empty) for value, kind, empty in shown if value >= score]
        kinds = [kind for kind, _ in counted]
        count = {kind: kinds.count(kind) for kind in ("right", "doubled", "crowd", "false")}
        rest = {"missed": people - count["right"], "empty": sum(empty for _, empty in counted)}
        table.append(ThresholdRow(score=score, shown=len(kinds), **count, **rest))
    return table


def _kinds(truth: Truth, rows: Sequence[int], found: Sequence[Result]) -> list[str]:
    """What each of an image's people is, the best-scored first."""
    crowd = np.array([bool(truth.people[row]["iscrowd"]) for row in rows], bool)
    boxes = from_xywh(np.array([one["bbox"] for one in found], np.float64))
    inside = _intersections(boxes, truth.boxes[rows])
    areas, theirs = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, truth.boxes[rows]))
    alike = inside / np.maximum(areas[:, None] + theirs - inside, 1e-9)
    joints = keypoints_of(found, len(truth.skeleton))[..., :2]
    for column, row in enumerate(rows):
        labelled = truth.keypoints[row, :, 2] > 0
        if labelled.any():
            one, area = truth.keypoints[row, :, :2], truth.areas[row]
            terms = keypoint_similarity(joints, one, area, skeleton=truth.skeleton)
            alike[:, column] = np.maximum(alike[:, column], terms[:, labelled].mean(axis=1))
    in_crowd = np.any(inside[:, crowd] > areas[:, None] / 2, axis=1).tolist()
    alike[:, crowd] = 0
    kinds, taken = [], np.zeros(len(rows), bool)
    for i, row in enumerate(alike):
        free = np.where(taken, 0, row)
        if (free >= ALIKE).any():
            taken[free.argmax()] = True
            kinds.append("right")
        else:
            kinds.append("doubled" if (row >= ALIKE).any() else "crowd" if in_crowd[i] else "false")
    return kinds


def _intersections(
    a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]
) -> Float[np.ndarray, "N M"]:
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    return np.maximum(high - low, 0).prod(axis=2)
