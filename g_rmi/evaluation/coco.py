"""COCO's border: its results format, its `xywh` boxes, and its numbers from pycocotools.

The rest of the project has boxes `(x0, y0, x1, y1)`; a COCO box is `(x0, y0, x1 - x0, y1 - y0)` in
the same frame, without any half-pixel shift. Nothing here changes what it is given: pycocotools,
which writes into its annotations, works on copies.

faster-coco-eval, pycocotools' evaluation in C++, gives the same numbers sooner where it is
installed and asked for; it does not say who was matched with whom.
"""

import contextlib
import importlib.util
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from pycocotools.coco import COCO as CocoIndex
from pycocotools.cocoeval import COCOeval

from g_rmi.config import nearest
from g_rmi.skeleton import COCO, Skeleton

PERSON = 1
"""COCO's category id of people."""

KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
BOX_METRICS = tuple(
    "box_" + name
    for name in (
        *("AP", "AP50", "AP75", "APS", "APM", "APL"),
        *("AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
    )
)

Result = dict[str, Any]
Kind = Literal["keypoints", "bbox"]
Backend = Literal["pycocotools", "faster"]
Evaluation = Any
"""pycocotools' COCOeval, or that of faster-coco-eval, which is alike but no subclass."""
Annotations = str | os.PathLike | Mapping[str, Any]
ImageIds = Sequence[int] | Int[np.ndarray, " N"]


def to_xywh(boxes: Float[np.ndarray, "*N 4"]) -> Float[np.ndarray, "*N 4"]:
    """`(x0, y0, x1, y1)` to COCO's `(x, y, width, height)`."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def from_xywh(boxes: Float[np.ndarray, "*N 4"]) -> Float[np.ndarray, "*N 4"]:
    """COCO's `(x, y, width, height)` to `(x0, y0, x1, y1)`."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def keypoint_results(
    image_ids: ImageIds,
    keypoints: Float[np.ndarray, "N K 2"],
    keypoint_scores: Float[np.ndarray, "N K"],
    scores: Float[np.ndarray, " N"],
) -> list[Result]:
    """Poses in COCO's results format.

    The third number of each joint is its score; COCO's evaluation reads only the coordinates.
    Coordinates keep two decimals; scores keep float32's precision, so that no tie appears.

    Args:
      image_ids: Image of each pose.
      keypoints: In the pixels of that image.
      keypoint_scores: Between 0 and 1.
      scores: Pose scores, by which the evaluation ranks.

    Returns:
      One `{image_id, category_id, keypoints, score}` per pose, plain JSON values.
    """
    joints = np.asarray(keypoints, np.float64).round(2)
    joint_scores = np.asarray(keypoint_scores, np.float64).round(4)
    rows = np.concatenate([joints, joint_scores[..., None]], axis=-1)
    return _results("keypoints", image_ids, rows.reshape(len(rows), 3 * rows.shape[1]), scores)


def box_results(
    image_ids: ImageIds, boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"]
) -> list[Result]:
    """Person boxes in COCO's results format, `xywh` with two decimals.

    Args:
      image_ids: Image of each box.
      boxes: `(x0, y0, x1, y1)` in the pixels of that image.
      scores: By which the evaluation ranks.

    Returns:
      One `{image_id, category_id, bbox, score}` per box, plain JSON values.
    """
    return _results("bbox", image_ids, to_xywh(np.asarray(boxes, np.float64)).round(2), scores)


def _results(kind: Kind, image_ids: ImageIds, rows: np.ndarray, scores: np.ndarray) -> list[Result]:
    return [
        {
            "image_id": image_id,
            "category_id": PERSON,
            kind: row,
            # The shortest decimal that is the same float32.
            "score": float(str(np.float32(score))),
        }
        for image_id, row, score in zip(
            np.asarray(image_ids).tolist(), rows.tolist(), scores, strict=True
        )
    ]


def write_results(path: str | os.PathLike, results: Sequence[Result]) -> None:
    """Writes results as one JSON array, one entry a line."""
    lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in results)
    Path(path).write_text(f"[{lines}]\n")


def read_results(path: str | os.PathLike, *, kind: Kind) -> list[Result]:
    """Reads a results file strictly.

    Args:
      path: JSON array of results.
      kind: "keypoints" for poses, "bbox" for boxes.

    Raises:
      ValueError: The file is not a JSON array, or an entry is not a result of this kind.
    """
    results = _load(path)
    if not isinstance(results, list):
        raise ValueError(f"{path}: a results file is a JSON array, not {type(results).__name__}")
    for i, entry in enumerate(results):
        _check_result(entry, kind, f"{path}: entry {i}")
    return results


def boxes_by_image(
    results: Iterable[Result],
) -> dict[int, tuple[Float[np.ndarray, "N 4"], Float[np.ndarray, " N"]]]:
    """Person boxes `(x0, y0, x1, y1)` and scores of each image that has any, best first."""
    grouped: dict[int, list[Result]] = {}
    for entry in results:
        if entry["category_id"] == PERSON:
            grouped.setdefault(entry["image_id"], []).append(entry)
    images = {}
    for image_id, entries in grouped.items():
        entries.sort(key=lambda entry: -entry["score"])
        boxes = np.array([entry["bbox"] for entry in entries], np.float64)
        images[image_id] = (from_xywh(boxes), np.array([float(e["score"]) for e in entries]))
    return images


def evaluate_keypoints(
    annotations: Annotations,
    results: Sequence[Result],
    *,
    skeleton: Skeleton = COCO,
    image_ids: ImageIds | None = None,
    backend: Backend = "pycocotools",
) -> dict[str, float]:
    """COCO's ten keypoint numbers.

    Args:
      annotations: COCO annotations of people: the file, or what it holds.
      results: Poses as `keypoint_results` makes them; other categories are left out.
      skeleton: Keypoint set of both; its sigmas define the OKS.
      image_ids: Images to evaluate; all by default. Results of the others do not count.
      backend: Who computes; see `run`.

    Returns:
      `KEYPOINT_METRICS` by name. As COCO does, -1 stands where there is nothing to find (APM
      without any medium-sized person).

    Raises:
      ValueError: An annotation or a result is malformed, or names an image that is not there.
    """
    truth = ground_truth(annotations, joints=len(skeleton))
    options = {"skeleton": skeleton, "image_ids": image_ids, "backend": backend}
    evaluation = run(truth, results, "keypoints", **options)
    return numbers(evaluation, KEYPOINT_METRICS)


def evaluate_boxes(
    annotations: Annotations,
    results: Sequence[Result],
    *,
    image_ids: ImageIds | None = None,
    backend: Backend = "pycocotools",
) -> dict[str, float]:
    """COCO's twelve box numbers for people.

    Args:
      annotations: COCO annotations: the file, or what it holds.
      results: Boxes as `box_results` makes them; other categories are left out.
      image_ids: Images to evaluate; all by default. Results of the others do not count.
      backend: Who computes; see `run`.

    Returns:
      `BOX_METRICS` by name; -1 where there is nothing to find.

    Raises:
      ValueError: An annotation or a result is malformed, or names an image that is not there.
    """
    truth = ground_truth(annotations)
    evaluation = run(truth, results, "bbox", image_ids=image_ids, backend=backend)
    return numbers(evaluation, BOX_METRICS)


def ground_truth(annotations: Annotations, *, joints: int | None = None) -> CocoIndex:
    """The people of a COCO file as pycocotools wants them: a checked and completed copy.

    Annotation ids become 1, 2, ... in the order of the file (pycocotools takes a match with id 0
    for none); `original_id` keeps the file's. People without keypoints get zeros, which COCO's
    evaluation passes over as it does crowds.

    Args:
      annotations: The file, or what it holds.
      joints: K; None if the keypoints do not matter.

    Raises:
      ValueError: A field is missing or malformed.
    """
    name = "annotations" if isinstance(annotations, Mapping) else os.fspath(annotations)
    if not isinstance(annotations, Mapping):
        annotations = _load(annotations)
    for field in ("images", "annotations"):
        if field not in annotations:
            raise ValueError(f"{name}: not a COCO annotation file, it has no {field!r}")
    index = CocoIndex()
    people = [_person(annotation, joints, name) for annotation in annotations["annotations"]]
    people = [person for person in people if person["category_id"] == PERSON]
    for i, person in enumerate(people, 1):
        person["original_id"], person["id"] = person["id"], i
    index.dataset = {
        "images": [{"id": image["id"]} for image in annotations["images"]],
        "annotations": people,
        "categories": [{"id": PERSON, "name": "person"}],
    }
    with _silence():
        index.createIndex()
    return index


def run(
    truth: CocoIndex,
    results: Sequence[Result],
    kind: Kind,
    *,
    skeleton: Skeleton = COCO,
    image_ids: ImageIds | None = None,
    thresholds: Sequence[float] | None = None,
    backend: Backend = "pycocotools",
) -> Evaluation:
    """Runs COCO's evaluation, up to and including `accumulate`.

    Args:
      truth: From `ground_truth`.
      results: Poses or boxes; entries of other categories are left out.
      kind: "keypoints" or "bbox".
      skeleton: Keypoint set; its sigmas define the OKS.
      image_ids: Images to evaluate; all by default.
      thresholds: Of the OKS or IoU; COCO's .5 to .95 by default.
      backend: "faster" is faster-coco-eval, whose answer has the arrays (`eval`) but not the
        matches (`evalImgs`).

    Raises:
      ValueError: A result is malformed, an image id is not one of the ground truth's, or
        faster-coco-eval is asked for and not installed.
    """
    entries = []
    for i, entry in enumerate(results):
        _check_result(entry, kind, f"result {i}", joints=len(skeleton))
        if entry["category_id"] == PERSON:
            # Exactly these fields: pycocotools would take a pose's area from a stray `bbox`.
            fields = ("image_id", "category_id", kind, "score")
            entries.append({field: entry[field] for field in fields})
    _check_images((entry["image_id"] for entry in entries), truth, "the results")
    with _silence():
        make, index = (COCOeval, truth) if backend == "pycocotools" else _faster(truth)
        evaluation = make(index, index.loadRes(entries) if entries else type(index)(), kind)
        evaluation.params.catIds = [PERSON]
        if image_ids is not None:
            evaluation.params.imgIds = np.asarray(image_ids).tolist()
            _check_images(evaluation.params.imgIds, truth, "image_ids")
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.asarray(skeleton.sigmas)
        if thresholds is not None:
            evaluation.params.iouThrs = np.asarray(thresholds)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def precision_recall(evaluation: Evaluation) -> dict[str, Float[np.ndarray, " R"]]:
    """The curves behind AP: precision at recalls 0, .01, ... 1, all sizes, most detections.

    Returns:
      For the thresholds .5, .75, .95 and for the mean over all ten, by these names; precision is
      -1 everywhere if there is nobody to find.
    """
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    rows = {f"{t:.2g}": precision[i] for i, t in enumerate(evaluation.params.iouThrs)}
    curves = {name.lstrip("0"): rows[name] for name in ("0.5", "0.75", "0.95")}
    return {**curves, "mean": precision.mean(axis=0)}


def numbers(evaluation: Evaluation, names: Sequence[str]) -> dict[str, float]:
    """What pycocotools' `summarize` prints, by name."""
    with _silence():
        evaluation.summarize()
    # pycocotools' precision is tp / (tp + fp + 2^-52): perfection may come as 1 - 2^-52.
    return {name: round(float(x), 12) for name, x in zip(names, evaluation.stats, strict=True)}


def average_precision(evaluation: Evaluation) -> Float[np.ndarray, " T"]:
    """AP at each threshold, all sizes, most detections; -1 if there is nobody to find."""
    return evaluation.eval["precision"][:, :, 0, 0, -1].mean(axis=1)


def require(backend: Backend) -> None:
    """Raises a ValueError if the backend is not installed."""
    if backend == "faster" and importlib.util.find_spec("faster_coco_eval") is None:
        raise ValueError("faster-coco-eval is not installed: pip install faster-coco-eval")


def _faster(truth: CocoIndex) -> tuple[Callable[..., Evaluation], Any]:
    """faster-coco-eval's evaluation, and the ground truth as it wants it."""
    require("faster")
    import faster_coco_eval

    index = faster_coco_eval.COCO()
    index.dataset = truth.dataset
    index.createIndex()
    return faster_coco_eval.COCOeval_faster, index


def _load(path: str | os.PathLike) -> Any:
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from None


def _silence() -> contextlib.AbstractContextManager:
    return contextlib.redirect_stdout(io.StringIO())


def _person(annotation: Mapping[str, Any], joints: int | None, name: str) -> dict[str, Any]:
    """A copy of one annotation with everything that pycocotools reads."""
    where = f"{name}: annotation {annotation.get('id')}"
    for field in ("id", "image_id", "category_id", "bbox", "area"):
        if field not in annotation:
            raise ValueError(f"{where} has no {field!r}{nearest(field, annotation)}")
    person: dict[str, Any] = {"iscrowd": 0, **annotation}
    if joints is not None and person["category_id"] == PERSON:
        keypoints = person.setdefault("keypoints", [0] * (3 * joints))
        if len(keypoints) != 3 * joints:
            raise ValueError(
                f"{where} has {len(keypoints)} keypoint numbers, not 3 x {joints} as the skeleton"
            )
        person.setdefault("num_keypoints", sum(v > 0 for v in keypoints[2::3]))
    return person


def _check_result(entry: Any, kind: Kind, where: str, *, joints: int | None = None) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not an object but {type(entry).__name__}")
    for field in ("image_id", "category_id", kind, "score"):
        if field not in entry:
            raise ValueError(f"{where} has no {field!r}{nearest(field, entry)}")
    values = entry[kind] if isinstance(entry[kind], list) else []
    if kind == "bbox":
        wanted, right = "4 numbers", len(values) == 4
    elif joints is None:
        wanted, right = "3 numbers a joint", len(values) > 0 and len(values) % 3 == 0
    else:
        wanted, right = f"3 x {joints} numbers", len(values) == 3 * joints
    if not right:
        raise ValueError(f"{where}: {kind} must be a list of {wanted}, got {len(values)}")
    # A NaN compares as a match in pycocotools: it must not come that far.
    for value in (*values, entry["score"]):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: {value!r} is not a finite number")
    if kind == "bbox" and min(values[2:]) < 0:
        raise ValueError(f"{where}: bbox is [x, y, width, height], got {values}")


def _check_images(image_ids: Iterable[int], truth: CocoIndex, what: str) -> None:
    if unknown := sorted(set(image_ids) - set(truth.imgs)):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ValueError(f"{what} name image {unknown[0]}{more}, which the ground truth has not")
