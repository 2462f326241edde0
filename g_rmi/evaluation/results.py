"""COCO's results format: what was found, as JSON entries with `xywh` boxes, checked and written.

The rest of the project has boxes `(x0, y0, x1, y1)`; a COCO box is `(x0, y0, x1 - x0, y1 - y0)` in
the same frame, without any half-pixel shift.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from g_rmi.config import nearest
from g_rmi.files import write_whole
from g_rmi.geometry import to_xywh
from g_rmi.skeleton import Skeleton
from g_rmi.types import PERSON

Result = dict[str, Any]
Kind = Literal["keypoints", "bbox"]
ImageIds = Sequence[int] | Int[np.ndarray, " N"]


def keypoint_results(
    image_ids: ImageIds,
    keypoints: Float[np.ndarray, "N K 2"],
    keypoint_scores: Float[np.ndarray, "N K"],
    scores: Float[np.ndarray, " N"],
    visibility: Float[np.ndarray, "N K"] | None = None,
) -> list[Result]:
    """Poses in pixels as COCO's results, one `{image_id, category_id, keypoints, score}` each.

    The third number of each joint is its score, between 0 and 1; COCO's evaluation reads only the
    coordinates and ranks by `scores`. Coordinates keep two decimals, pose scores float32's
    precision, so that no tie appears. Where it is given, a field "visibility" has the probability
    that one sees each joint, which COCO's evaluation does not read.
    """
    joints = np.asarray(keypoints, np.float64).round(2)
    joint_scores = np.asarray(keypoint_scores, np.float64).round(4)
    rows = np.concatenate([joints, joint_scores[..., None]], axis=-1)
    results = _results("keypoints", image_ids, rows.reshape(len(rows), 3 * rows.shape[1]), scores)
    if visibility is None:
        return results
    seen = np.asarray(visibility, np.float64).round(4).tolist()
    return [result | {"visibility": row} for result, row in zip(results, seen, strict=True)]


def box_results(
    image_ids: ImageIds, boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"]
) -> list[Result]:
    """Person boxes `(x0, y0, x1, y1)` in pixels as COCO's results, `xywh` with two decimals."""
    return _results("bbox", image_ids, to_xywh(np.asarray(boxes, np.float64)).round(2), scores)


def _results(kind: Kind, image_ids: ImageIds, rows: np.ndarray, scores: np.ndarray) -> list[Result]:
    columns = np.asarray(image_ids).tolist(), rows.tolist(), np.asarray(scores, np.float32)
    return [  # with the shortest decimal that is the same float32
        {"image_id": image_id, "category_id": PERSON, kind: row, "score": float(str(score))}
        for image_id, row, score in zip(*columns, strict=True)
    ]


def write_results(path: str | os.PathLike, results: Sequence[Result]) -> None:
    """Writes results as one JSON array, one entry a line, whole or not at all."""
    lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in results)
    write_whole(path, f"[{lines}]\n")


def columns_of(
    results: Sequence[Result],
    skeleton: Skeleton,
    *,
    min_score: float,
    visibility: bool = False,
    first: Sequence[str] = (),
) -> dict[str, list]:
    """Poses with boxes as the columns of a table, in which nothing is rounded once more.

    The fields `first` (None where a result has none), then `score`, `bbox_x`, `bbox_y`,
    `bbox_width`, `bbox_height`, and of each joint `NAME_x`, `NAME_y`, `NAME_score` and, if the
    results have it, `NAME_visibility`; x, y and visibility are None where the joint scores lower
    than `min_score`. Of several classes the joints of the same name share columns; all are None
    where a result's class has no such joint.
    """
    columns: dict[str, list] = {name: [r.get(name) for r in results] for name in (*first, "score")}
    for i, name in enumerate(("x", "y", "width", "height")):
        columns[f"bbox_{name}"] = [result["bbox"][i] for result in results]
    sets = {name: skeleton.of_class(name) for name in skeleton.blocks} or {None: skeleton}
    places = {name: {joint: k for k, joint in enumerate(own.names)} for name, own in sets.items()}
    for joint in dict.fromkeys(joint for own in sets.values() for joint in own.names):
        numbers = [
            places[r["category_name"] if skeleton.classes else None].get(joint) for r in results
        ]
        triples = [
            (None,) * 3 if k is None else result["keypoints"][3 * k : 3 * k + 3]
            for k, result in zip(numbers, results)
        ]
        sure = [score is not None and score >= min_score for _, _, score in triples]
        for i, name in enumerate(("x", "y")):
            columns[f"{joint}_{name}"] = [t[i] if s else None for t, s in zip(triples, sure)]
        columns[f"{joint}_score"] = [score for _, _, score in triples]
        if visibility:
            seen = [None if k is None else r["visibility"][k] for k, r in zip(numbers, results)]
            columns[f"{joint}_visibility"] = [v if s else None for v, s in zip(seen, sure)]
    return columns


def of_people(results: Iterable[Result]) -> list[Result]:
    """The results whose category is that of people."""
    return [entry for entry in results if entry["category_id"] == PERSON]


def keypoints_of(entries: Sequence[Result], joints: int) -> Float[np.ndarray, "N K 3"]:
    """The keypoints of results or annotations as one array: x, y, and the score or COCO's v."""
    values = [entry["keypoints"] for entry in entries]
    return np.array(values, np.float64).reshape(-1, joints, 3)


def visibility_of(entries: Sequence[Result], joints: int) -> Float[np.ndarray, "N K"] | None:
    """The joints' visibility in results as one array; None if one of them has none."""
    if not all("visibility" in entry for entry in entries):
        return None
    values = [entry["visibility"] for entry in entries]
    return np.array(values, np.float64).reshape(-1, joints)


def check_result(entry: Result, kind: Kind, where: str, *, joints: int) -> None:
    """Raises a ValueError that begins with `where` unless the entry is a result of that kind."""
    for field in ("image_id", "category_id", kind, "score"):
        if field not in entry:
            raise ValueError(f"{where} has no {field!r}{nearest(field, entry)}")
    values = entry[kind] if isinstance(entry[kind], list) else []
    count, wanted = (4, "4") if kind == "bbox" else (3 * joints, f"3 x {joints}")
    if len(values) != count:
        raise ValueError(f"{where}: {kind} must be a list of {wanted} numbers, got {len(values)}")
    # A NaN compares as a match in pycocotools: it must not come that far.
    for value in (*values, entry["score"]):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: {value!r} is not a finite number")
    if kind == "bbox" and min(values[2:]) < 0:
        raise ValueError(f"{where}: bbox is [x, y, width, height], got {values}")
