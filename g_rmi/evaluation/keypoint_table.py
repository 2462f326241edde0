"""Which joints are hard: one row of numbers for each joint."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO as CocoIndex

from g_rmi.evaluation import coco
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
      ap: COCO's AP with this joint alone.
    """

    name: str
    labelled: int
    found: int
    oks: float
    within: float
    ap: float


def keypoint_table(
    annotations: coco.Annotations,
    results: Sequence[coco.Result],
    *,
    skeleton: Skeleton = COCO,
    image_ids: coco.ImageIds | None = None,
    backend: coco.Backend = "pycocotools",
) -> list[KeypointRow]:
    """A row for each joint and one for all, from the arguments of `coco.evaluate_keypoints`.

    Takes as long as that many evaluations, since each AP is one.
    """
    truth = coco.ground_truth(annotations, joints=len(skeleton))
    options = {"skeleton": skeleton, "image_ids": image_ids}

    def evaluate(people: CocoIndex) -> coco.Evaluation:
        return coco.run(people, results, "keypoints", **options, backend=backend)

    whole = coco.run(truth, results, "keypoints", **options)
    labelled, similarity = _similarities(whole, skeleton)
    rows = [
        _row(name, labelled[:, k], similarity[:, k], evaluate(_only(truth, k, len(skeleton))))
        for k, name in enumerate(skeleton.names)
    ]
    return [*rows, _row("all", labelled, similarity, whole)]


def format_table(rows: Iterable[KeypointRow]) -> str:
    """The rows as a Markdown table that also reads well as plain text."""
    lines = [KeypointRow._fields]
    for row in rows:
        shares = ("-" if value < 0 else f"{value:.3f}" for value in (row.oks, row.within, row.ap))
        lines.append((row.name, str(row.labelled), str(row.found), *shares))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    text = [
        [line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (text[0], ruler, *text[1:]))


def keypoint_similarity(
    keypoints: Float[np.ndarray, "*N K 2"],
    joints: Float[np.ndarray, "*M K 2"],
    areas: Float[np.ndarray, "*M"] | float,
    *,
    skeleton: Skeleton = COCO,
) -> Float[np.ndarray, "*L K"]:
    """Each joint's term of the OKS, exp(-d^2 / (2 area k^2)); leading axes broadcast.

    Args:
      keypoints: Found joints, in pixels.
      joints: Labelled ones.
      areas: Of the labelled people, in square pixels.
      skeleton: Gives k = 2 sigma.
    """
    variances = (2 * np.asarray(skeleton.sigmas)) ** 2
    squares = ((keypoints - joints) ** 2).sum(axis=-1)
    return np.exp(-squares / (2 * variances * (np.asarray(areas)[..., None] + np.spacing(1))))


def _row(
    name: str, labelled: np.ndarray, similarity: np.ndarray, evaluation: coco.Evaluation
) -> KeypointRow:
    terms = similarity[labelled & ~np.isnan(similarity)]
    count = int(labelled.sum())
    return KeypointRow(
        name=name,
        labelled=count,
        found=len(terms),
        oks=float(terms.mean()) if len(terms) else -1.0,
        within=float((terms >= 0.5).sum() / count) if count else -1.0,
        ap=coco.numbers(evaluation, coco.KEYPOINT_METRICS)["AP"],
    )


def _similarities(evaluation: coco.Evaluation, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Labels and OKS terms [N, K] of the people who count; NaN for people who were not found."""
    labelled, similarity = [], []
    # The images of the first area range, "all"; the first row of matches is OKS .5.
    for image in evaluation.evalImgs[: len(evaluation.params.imgIds)]:
        if image is None:
            continue
        for person_id, pose_id, ignored in zip(
            image["gtIds"], image["gtMatches"][0], image["gtIgnore"], strict=True
        ):
            if ignored:
                continue
            person = evaluation.cocoGt.anns[person_id]
            joints = np.reshape(person["keypoints"], (-1, 3))
            term = np.full(len(joints), np.nan)
            if pose_id:
                pose = np.reshape(evaluation.cocoDt.anns[int(pose_id)]["keypoints"], (-1, 3))
                pair = pose[:, :2], joints[:, :2].astype(float)
                term = keypoint_similarity(*pair, person["area"], skeleton=skeleton)
            labelled.append(joints[:, 2] > 0)
            similarity.append(term)
    shape = (-1, len(skeleton))
    return np.array(labelled, bool).reshape(shape), np.array(similarity, float).reshape(shape)


def _only(truth: CocoIndex, k: int, joints: int) -> CocoIndex:
    """The ground truth with joint k as the only labelled one."""
    people = []
    for person in truth.dataset["annotations"]:
        keypoints = np.reshape(person["keypoints"], (-1, 3)).copy()
        keypoints[np.arange(joints) != k, 2] = 0
        single = {
            "keypoints": keypoints.ravel().tolist(),
            "num_keypoints": int(keypoints[k, 2] > 0),
        }
        people.append(person | single)
    return coco.ground_truth(truth.dataset | {"annotations": people}, joints=joints)
