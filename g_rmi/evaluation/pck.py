"""PCK: the share of labelled joints found within a part of the torso's or the head's length.

The measure of data sets with one labelled person a picture, such as Leeds Sports Pose (torso) and
MPII (head: PCKh).
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from g_rmi.evaluation.truth import Truth
from g_rmi.skeleton import COCO, Skeleton


class Pck(NamedTuple):
    """Counts behind a PCK: joints found and looked for, by joint.

    `people` count; the `excluded` are labelled, too, but have no reference length.
    """

    correct: Int[np.ndarray, " K"]
    labelled: Int[np.ndarray, " K"]
    people: int
    excluded: int

    def numbers(self, skeleton: Skeleton = COCO, *, name: str = "PCK") -> dict[str, float]:
        """`PCK` over all joints, `PCK_<joint>` (-1 for a joint nobody has labelled), the counts."""
        correct, labelled = int(self.correct.sum()), int(self.labelled.sum())
        values = {name: correct / labelled if labelled else -1.0}
        for joint, right, count in zip(skeleton.names, self.correct, self.labelled, strict=True):
            values[f"{name}_{joint}"] = float(right / count) if count else -1.0
        counts = {f"{name}_people": self.people, f"{name}_excluded": self.excluded}
        return values | {key: float(count) for key, count in counts.items()}


def torso_lengths(
    keypoints: Float[np.ndarray, "N K 2"],
    visible: Bool[np.ndarray, "N K"],
    *,
    skeleton: Skeleton = COCO,
) -> Float[np.ndarray, " N"]:
    """The longest of the labelled shoulder-to-hip distances: as a rule, a diagonal of the torso.

    Taking the longest makes it the same in a mirrored picture and keeps it from collapsing in a
    profile. NaN where no shoulder or no hip is labelled.

    Raises:
      ValueError: The skeleton has no shoulders or hips.
    """
    corners = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    if missing := [name for name in corners if name not in skeleton.names]:
        raise ValueError(f"the torso needs {missing[0]!r}, which the skeleton does not have")
    rows = [skeleton.names.index(name) for name in corners]
    shoulders, hips = np.split(np.where(visible[..., None], keypoints, np.nan)[:, rows], 2, axis=1)
    lengths = np.linalg.norm(shoulders[:, :, None] - hips[:, None], axis=-1)
    return np.fmax.reduce(lengths, axis=(1, 2))


def head_sizes(boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """MPII's size of a head: .6 of the diagonal of its box (x0, y0, x1, y1)."""
    return 0.6 * np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1)


def pckh(
    keypoints: Float[np.ndarray, "N K 2"],
    visible: Bool[np.ndarray, "N K"],
    predictions: Float[np.ndarray, "N K 2"],
    head_boxes: Float[np.ndarray, "N 4"],
    *,
    threshold: float = 0.5,
) -> Pck:
    """PCKh (Andriluka et al. 2014): `pck` by the size of the head; NaN where it has no box."""
    return pck(
        keypoints, visible, predictions, threshold=threshold, reference=head_sizes(head_boxes)
    )


def pck(
    keypoints: Float[np.ndarray, "N K 2"],
    visible: Bool[np.ndarray, "N K"],
    predictions: Float[np.ndarray, "N K 2"],
    *,
    threshold: float = 0.2,
    reference: Literal["torso"] | Float[np.ndarray, " N"] = "torso",
    skeleton: Skeleton = COCO,
) -> Pck:
    """Counts the labelled joints whose prediction is within `threshold` times the reference length.

    A prediction for each person, in the same pixels; NaN is a joint that was not found and counts
    as wrong. The reference is `torso_lengths`, or a length in pixels for each person; NaN or zero
    takes the person out.
    """
    if isinstance(reference, str):
        reference = torso_lengths(keypoints, visible, skeleton=skeleton)
    counts = reference > 0
    labelled = visible & counts[:, None]
    distances = np.linalg.norm(predictions - keypoints, axis=-1)
    correct = labelled & (distances <= threshold * reference[:, None])
    people, excluded = (int((who & visible.any(axis=1)).sum()) for who in (counts, ~counts))
    return Pck(correct.sum(axis=0), labelled.sum(axis=0), people, excluded)


def evaluate_pck(
    truth: Truth,
    annotation_ids: Sequence[int] | Int[np.ndarray, " N"],
    predictions: Float[np.ndarray, "N K 2"],
    *,
    threshold: float = 0.2,
) -> Pck:
    """PCK of the torso over all labelled people; crowds are left out.

    Predictions are in the pixels of the image, each for the annotation of that id; a person without
    one is missed in every joint.

    Raises:
      ValueError: An id occurs twice or is not in the truth.
    """
    people = _by_person(truth, annotation_ids, predictions)
    return pck(*people[:3], threshold=threshold, skeleton=truth.skeleton)


def evaluate_pckh(
    truth: Truth,
    annotation_ids: Sequence[int] | Int[np.ndarray, " N"],
    predictions: Float[np.ndarray, "N K 2"],
    head_boxes: Mapping[int, Float[np.ndarray, "4"]],
    *,
    threshold: float = 0.5,
) -> Pck:
    """`evaluate_pck` by the size of heads, whose boxes are known by annotation id; PCKh."""
    joints, visible, found, ids = _by_person(truth, annotation_ids, predictions)
    nothing = np.full(4, np.nan)
    boxes = np.array([head_boxes.get(i, nothing) for i in ids], np.float64).reshape(-1, 4)
    return pckh(joints, visible, found, boxes, threshold=threshold)


def _by_person(
    truth: Truth, annotation_ids: Sequence[int] | np.ndarray, predictions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Joints, which are labelled, predictions and id of everybody who is no crowd."""
    rows = {person["original_id"]: row for row, person in enumerate(truth.people)}
    aligned = np.full(truth.keypoints[..., :2].shape, np.nan)
    seen = set()
    for i, prediction in zip(np.asarray(annotation_ids).tolist(), predictions, strict=True):
        if i in seen:
            raise ValueError(f"annotation {i} has two predictions")
        if i not in rows:
            raise ValueError(f"predictions for annotation {i}, which the file does not have")
        seen.add(i)
        aligned[rows[i]] = prediction
    counts = [not person["iscrowd"] for person in truth.people]
    labels = truth.keypoints[counts]
    ids = [person["original_id"] for person in truth.people if not person["iscrowd"]]
    return labels[..., :2], labels[..., 2] > 0, aligned[counts], ids
