"""Whether networks know which joints one sees: one row of numbers for each joint."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from g_rmi.evaluation.keypoint_table import joints_of_people
from g_rmi.evaluation.results import Result, of_people, visibility_of
from g_rmi.evaluation.truth import Truth


class VisibilityRow(NamedTuple):
    """Numbers of one joint, or of all; -1 where there is nothing to measure.

    Of labelled joints that were found: of a person whom COCO's evaluation matches with a pose at
    OKS .5, with a similarity of at least .5 (see `KeypointRow`).

    Attributes:
      name: The joint, or "all".
      seen: Joints that one sees (COCO's v of 2).
      hidden: Joints that something hides (v of 1).
      accuracy: Share of which the likelier of the two is right.
      balanced: Mean of the shares of the seen and of the hidden that are told as such.
      auc: Share of the pairs of a seen and a hidden one of which the seen one is thought likelier
        to be seen, ties counting half: the area under the ROC curve.
    """

    name: str
    seen: int
    hidden: int
    accuracy: float
    balanced: float
    auc: float


def visibility_table(truth: Truth, results: Sequence[Result]) -> list[VisibilityRow]:
    """A row for each joint and one for all, of poses as `keypoint_results` makes them.

    No rows if no label says hidden, or not all results have a visibility.
    """
    results, joints = of_people(results), len(truth.skeleton)
    told = visibility_of(results, joints)
    if told is None or not (truth.keypoints[..., 2] == 1).any():
        return []
    whole = truth.evaluate(results, "keypoints", backend="pycocotools")
    flags, similarity, found = joints_of_people(truth, results, whole)
    visibility = np.full(flags.shape, np.nan)
    visibility[found >= 0] = told[found[found >= 0]]
    near = similarity >= 0.5  # and found: NaN is not
    names, columns = [*truth.skeleton.names, "all"], [*range(joints), slice(None)]
    return [
        _row(name, visibility[:, k][near[:, k]], flags[:, k][near[:, k]])
        for name, k in zip(names, columns, strict=True)
    ]


def _row(name: str, visibility: Float[np.ndarray, " N"], flags: np.ndarray) -> VisibilityRow:
    """Of joints that were found, and COCO's v of them."""
    seen, hidden = flags == 2, flags == 1
    right = np.where(seen, visibility >= 0.5, visibility < 0.5)

    def share(which: Bool[np.ndarray, " N"]) -> float:
        return float(right[which].mean()) if which.any() else -1.0

    both = seen.any() and hidden.any()
    return VisibilityRow(
        name=name,
        seen=int(seen.sum()),
        hidden=int(hidden.sum()),
        accuracy=share(seen | hidden),
        balanced=(share(seen) + share(hidden)) / 2 if both else -1.0,
        auc=_auc(visibility[seen], visibility[hidden]) if both else -1.0,
    )


def _auc(seen: Float[np.ndarray, " S"], hidden: Float[np.ndarray, " H"]) -> float:
    order = np.sort(hidden)
    below, up_to = (np.searchsorted(order, seen, side) for side in ("left", "right"))
    return float((below + up_to).sum() / (2 * len(seen) * len(hidden)))
