"""Why poses fail, after Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance
Pose Estimation" (ICCV 2017).

Detections are matched to people as COCO does, but from OKS .1 on (section 3). A labelled joint of a
matched detection is, by its keypoint similarity ks = exp(-d^2 / (2 area k^2)) (section 3.1):

* good: ks >= .85 with its own label;
* jitter: .5 <= ks < .85 with it, else
* inversion: ks >= .5 with the same person's joint of the other side;
* swap: ks >= .5 with that joint, of either side, of another person;
* miss: none of these.

A scoring error is a person whom a better detection would have found, had it not been outscored
(section 3.2). Detections without a person are false positives, people without a detection false
negatives (section 3.3). "AP if fixed" corrects one kind of error and evaluates again.

From memory of the paper, not its text; where that leaves a choice:

* Another person's joint is compared at that person's own scale; of inversion and swap the more
  similar one counts.
* Fixing a joint puts it onto its label.
* The optimal score is the OKS with the person of the best one-to-one assignment, best pairs first,
  and 0 for the rest; the paper takes the highest OKS with anyone, which ranks duplicates high.
* False positives include duplicates: all that COCO counts as false at OKS .1.
* Groups of people have a recall instead of an AP: a false positive belongs to no group.
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_mask

from g_rmi.evaluation.crowding import OVERLAP
from g_rmi.evaluation.keypoint_table import keypoint_similarity
from g_rmi.evaluation.results import Result, keypoints_of, of_people
from g_rmi.evaluation.truth import Truth, evaluate_keypoints, matches
from g_rmi.geometry import to_xywh
from g_rmi.skeleton import COCO, Skeleton

KINDS = ("good", "jitter", "inversion", "swap", "miss")
"""What becomes of a labelled joint of a found person."""
ERRORS = ("miss", "swap", "inversion", "jitter", "score", "false positive", "false negative")
"""In the order in which the paper fixes them, one after the other."""

GOOD, NEAR, MATCH = 0.85, 0.5, 0.1
THRESHOLDS = (MATCH, *(0.5 + 0.05 * i for i in range(10)))


class Diagnosis(NamedTuple):
    """What became of every labelled person who counts (no crowds), P of them, and of the rest.

    Attributes:
      person: Row of the person among the truth's people.
      image: Image id.
      found: Index among the results of people of the detection matched at OKS .1; -1 for none.
      oks: With that detection; 0 for none.
      kinds: Index into `KINDS` of each joint; -1 if it is not labelled or the person not found.
      outscored: Another detection took the place of the best one.
      recall: Share of COCO's ten thresholds at which the person is found.
      area: Square pixels, as annotated.
      labelled: Labelled joints.
      overlapping: Other people in the picture whose box has an IoU of at least .1.
      false_positives: Indices among the results of people.
    """

    person: Int[np.ndarray, " P"]
    image: Int[np.ndarray, " P"]
    found: Int[np.ndarray, " P"]
    oks: Float[np.ndarray, " P"]
    kinds: Int[np.ndarray, "P K"]
    outscored: Bool[np.ndarray, " P"]
    recall: Float[np.ndarray, " P"]
    area: Float[np.ndarray, " P"]
    labelled: Int[np.ndarray, " P"]
    overlapping: Int[np.ndarray, " P"]
    false_positives: Int[np.ndarray, " F"]


def joint_kinds(
    pose: Float[np.ndarray, "K 2"],
    person: int,
    joints: Float[np.ndarray, "P K 2"],
    visible: Bool[np.ndarray, "P K"],
    areas: Float[np.ndarray, " P"],
    *,
    skeleton: Skeleton = COCO,
) -> Int[np.ndarray, " K"]:
    """The kind of each joint of a pose, matched to one of the people of its picture, in pixels.

    Indices into `KINDS`; -1 where the person's joint is not labelled.
    """
    flip = skeleton.flip_index
    same = keypoint_similarity(pose[None], joints, areas, skeleton=skeleton) * visible
    mirrored = keypoint_similarity(pose[None, flip], joints, areas, skeleton=skeleton)
    mirrored = (mirrored * visible)[:, flip]
    others = np.arange(len(joints)) != person
    swapped = np.maximum(same, mirrored)[others].max(axis=0, initial=0.0)
    own, inverted = same[person], mirrored[person]
    inversion, swap = inverted >= np.maximum(swapped, NEAR), swapped >= NEAR
    cases = [~visible[person], own >= GOOD, own >= NEAR, inversion, swap]
    return np.select(cases, [-1, *range(4)], default=4)


def diagnose(truth: Truth, results: Sequence[Result]) -> Diagnosis:
    """What became of everyone, by the poses that were found."""
    results = of_people(results)
    poses = keypoints_of(results, len(truth.skeleton))[..., :2]
    evaluation = truth.evaluate(results, "keypoints", thresholds=THRESHOLDS, backend="pycocotools")
    owners, _ = _best_assignment(truth, results)
    best = {owner: i for i, owner in enumerate(owners) if owner >= 0}
    people, false_positives = [], []
    for match in matches(evaluation):
        false_positives += match.detections[~match.right[0]].tolist()  # the first row: OKS .1
        columns = dict(zip(match.people.tolist(), match.found.T, strict=True))
        rows = truth.rows(match.image)
        joints, areas = truth.keypoints[rows], truth.areas[rows]
        labels = joints[..., :2], joints[..., 2] > 0, areas
        boxes = to_xywh(truth.boxes[rows])
        iou = np.array(coco_mask.iou(boxes, boxes, [False] * len(rows)))
        overlapping = (iou >= OVERLAP).sum(axis=-1) - 1
        for n, row in enumerate(rows):
            found, *rest = columns[row].tolist()
            kinds, oks = np.full(len(truth.skeleton), -1), 0.0
            if found >= 0:
                kinds = joint_kinds(poses[found], n, *labels, skeleton=truth.skeleton)
                oks = _oks(poses[found], truth, rows)[n]
            outscored = found >= 0 and best.get(row, found) != found
            reached = np.mean(np.array(rest) >= 0)
            facts = areas[n], labels[1][n].sum(), overlapping[n]
            people.append((row, match.image, found, oks, kinds, outscored, reached, *facts))
    joint_kind = int, (len(truth.skeleton),)
    types = [int, int, int, float, joint_kind, bool, float, float, int, int]
    names = Diagnosis._fields[: len(types)]
    table = np.array(people, np.dtype({"names": names, "formats": types}))
    return Diagnosis._make([*(table[name] for name in names), np.array(false_positives, int)])


def if_fixed(
    truth: Truth, results: Sequence[Result], diagnosis: Diagnosis
) -> dict[str, tuple[float, float]]:
    """For each of `ERRORS` the AP if it alone were fixed, and if all before it were too.

    From the arguments of `diagnose` and what it returned. The last number is hardly below 1: good
    joints keep their last pixels.
    """
    results = of_people(results)

    @functools.cache
    def ap(errors: frozenset[str]) -> float:
        return evaluate_keypoints(*_fixed(truth, results, diagnosis, errors))["AP"]

    return {
        error: (ap(frozenset([error])), ap(frozenset(ERRORS[: i + 1])))
        for i, error in enumerate(ERRORS)
    }


def groups(diagnosis: Diagnosis) -> dict[str, Bool[np.ndarray, " P"]]:
    """Masks of people by size, overlap and number of labelled joints, with the paper's bounds."""
    sides = np.sqrt(diagnosis.area)
    bounds = {
        "{} px": (sides, (0, 32, 64, 96, 128, np.inf)),
        "{} overlapping": (diagnosis.overlapping, (0, 1, 3, np.inf)),
        "{} joints": (diagnosis.labelled, (1, 6, 11, 16, np.inf)),
    }
    masks = {}
    for name, (values, edges) in bounds.items():
        for low, high in zip(edges, edges[1:]):
            last = high if values is sides else high - 1
            span = f"{low}+" if high == np.inf else f"{low}-{last}" if low < last else f"{low}"
            masks[name.format(span)] = (values >= low) & (values < high)
    return masks


def _oks(pose: Float[np.ndarray, "K 2"], truth: Truth, rows: list[int]) -> Float[np.ndarray, " P"]:
    """OKS of a pose with each of these people."""
    joints = truth.keypoints[rows]
    terms = keypoint_similarity(
        pose[None], joints[..., :2], truth.areas[rows], skeleton=truth.skeleton
    )
    return terms.mean(axis=1, where=joints[..., 2] > 0)


def _best_assignment(truth: Truth, results: Sequence[Result]) -> tuple[list[int], list[float]]:
    """For each result the person it is for, -1 for nobody, and its OKS with them, 0 for nobody.

    In each picture the most similar pair first, then the most similar of the rest.
    """
    poses = keypoints_of(results, len(truth.skeleton))[..., :2]
    found = defaultdict(list)
    for i, entry in enumerate(results):
        found[entry["image_id"]].append(i)
    owners, scores = [-1] * len(results), [0.0] * len(results)
    for image, indices in found.items():
        if not (rows := truth.rows(image)):
            continue
        oks = np.array([_oks(poses[i], truth, rows) for i in indices])
        while (top := float(oks.max())) >= MATCH:
            i, n = np.unravel_index(oks.argmax(), oks.shape)
            owners[indices[i]], scores[indices[i]] = rows[n], top
            oks[i], oks[:, n] = 0.0, 0.0
    return owners, scores


def _fixed(
    truth: Truth, results: list[Result], diagnosis: Diagnosis, errors: frozenset[str]
) -> tuple[Truth, list[Result]]:
    """Truth and results without these errors."""
    results = list(results)
    to_fix = [KINDS.index(error) for error in errors if error in KINDS]
    for row, i, kinds in zip(diagnosis.person, diagnosis.found, diagnosis.kinds):
        wrong = np.isin(kinds, to_fix)
        if wrong.any():
            (keypoints,) = keypoints_of([results[i]], len(truth.skeleton))
            keypoints[wrong, :2] = truth.keypoints[row, wrong, :2]
            results[i] = results[i] | {"keypoints": keypoints.ravel().tolist()}
    if "score" in errors:
        _, scores = _best_assignment(truth, results)
        results = [entry | {"score": s} for entry, s in zip(results, scores, strict=True)]
    if "false positive" in errors:
        false = set(diagnosis.false_positives.tolist())
        results = [entry for i, entry in enumerate(results) if i not in false]
    if "false negative" in errors:
        unfound = set(diagnosis.person[diagnosis.found < 0].tolist())
        truth = truth.with_people(p for n, p in enumerate(truth.people) if n not in unfound)
    return truth, results
