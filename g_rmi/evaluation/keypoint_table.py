"""Which joints are hard: one row of numbers for each joint."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from g_rmi.evaluation.results import Result, keypoints_of, of_people
from g_rmi.evaluation.truth import Evaluation, Truth, matches, numbers
from g_rmi.skeleton import COCO, Skeleton


class KeypointRow(NamedTuple):
    """Numbers of one joint, or of all; -1 where there is nothing to measure.

    A person counts as found if COCO's evaluation matches a pose at OKS .5; a joint's similarity is
    its term of the OKS, exp(-d^2 / (2 area k^2)).

    Attributes:
      name: The joint, or "all".
      labelled: Labelled joints (v > 0) of the people who count: no crowds.
      found: Those of found people.
      oks: Mean similarity over these.
      within: Share of all labelled joints with a similarity of at least .5; people who were not
        found count as misses.
      occluded: Labelled joints that something hides (v = 1).
      occluded_within: `within` of these alone.
      ap: COCO's AP with this joint alone.
    """

    name: str
    labelled: int
    found: int
    oks: float
    within: float
    occluded: int
    occluded_within: float
    ap: float


def keypoint_table(truth: Truth, results: Sequence[Result]) -> list[KeypointRow]:
    """A row for each joint and one for all, of poses as `keypoint_results` makes them.

    Takes as long as that many evaluations, since each AP is one.
    """
    whole = truth.evaluate(results, "keypoints", backend="pycocotools")
    flags, similarity, _ = joints_of_people(truth, of_people(results), whole)
    rows = [
        _row(name, flags[:, k], similarity[:, k], _only(truth, k).evaluate(results, "keypoints"))
        for k, name in enumerate(truth.skeleton.names)
    ]
    return [*rows, _row("all", flags, similarity, whole)]


def keypoint_similarity(
    keypoints: Float[np.ndarray, "*N K 2"],
    joints: Float[np.ndarray, "*M K 2"],
    areas: Float[np.ndarray, "*M"] | float,
    *,
    skeleton: Skeleton = COCO,
) -> Float[np.ndarray, "*L K"]:
    """Each joint's term of the OKS, exp(-d^2 / (2 area k^2)) with k = 2 sigma.

    Found keypoints and labelled joints are in pixels, the areas of the labelled people in square
    pixels; leading axes broadcast.
    """
    variances = (2 * np.asarray(skeleton.sigmas)) ** 2
    squares = ((keypoints - joints) ** 2).sum(axis=-1)
    return np.exp(-squares / (2 * variances * (np.asarray(areas)[..., None] + np.spacing(1))))


def _row(
    name: str, flags: np.ndarray, similarity: np.ndarray, evaluation: Evaluation
) -> KeypointRow:
    labelled, occluded = flags > 0, flags == 1
    terms = similarity[labelled & ~np.isnan(similarity)]

    def share(which: np.ndarray) -> float:
        return float((similarity[which] >= 0.5).mean()) if which.any() else -1.0

    return KeypointRow(
        name=name,
        labelled=int(labelled.sum()),
        found=len(terms),
        oks=float(terms.mean()) if len(terms) else -1.0,
        within=share(labelled),
        occluded=int(occluded.sum()),
        occluded_within=share(occluded),
        ap=numbers(evaluation)["AP"],
    )


class PeoplesJoints(NamedTuple):
    """Joints of the P people who count.

    Attributes:
      flags: COCO's v.
      similarity: Terms of the OKS; NaN for people who were not found.
      found: Whose pose it is: index of the result at OKS .5; -1 for none.
    """

    flags: Real[np.ndarray, "P K"]
    similarity: Float[np.ndarray, "P K"]
    found: Int[np.ndarray, " P"]


def joints_of_people(
    truth: Truth, results: Sequence[Result], evaluation: Evaluation
) -> PeoplesJoints:
    """Of results of people, and their evaluation by pycocotools."""
    rows, found = [], []
    for match in matches(evaluation):
        rows += match.people[match.counts].tolist()
        found += match.found[0, match.counts].tolist()  # the first row: OKS .5
    labels, areas = truth.keypoints[rows], truth.areas[rows]
    joints, poses = labels[..., :2], np.full(labels.shape, np.nan)
    poses[np.array(found, int) >= 0] = keypoints_of(
        [results[i] for i in found if i >= 0], len(truth.skeleton)
    )
    similarity = keypoint_similarity(poses[..., :2], joints, areas, skeleton=truth.skeleton)
    return PeoplesJoints(labels[..., 2], similarity, np.array(found, int))


def _only(truth: Truth, k: int) -> Truth:
    """The truth with joint k as the only labelled one."""
    keypoints = truth.keypoints.copy()
    keypoints[:, np.arange(len(truth.skeleton)) != k, 2] = 0
    return truth.with_people(
        person | {"keypoints": joints.ravel().tolist(), "num_keypoints": int(joints[k, 2] > 0)}
        for person, joints in zip(truth.people, keypoints, strict=True)
    )
