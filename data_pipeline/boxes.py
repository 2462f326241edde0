"""Tables of person boxes: annotated ones, or those of a file, matched to images by id or name.

A file of boxes is a list in COCO's results format, `{"image_id", "category_id", "bbox": [x, y, w,
h], "score"}`, or an object `{image: [[x0, y0, x1, y1], ...]}`. Category and score may be missing:
a person, and 1. "file_name" goes before "image_id".
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.readers.reader import load_json
from data_pipeline.schema import DataError, Dataset, MissingDataError
from g_rmi.geometry import from_xywh
from g_rmi.types import PERSON


@dataclasses.dataclass(frozen=True)
class PersonBoxes:
    """One row per box."""

    image: Int[np.ndarray, " M"]  # row in the data set's `images`, or in the list of names
    box: Float[np.ndarray, "M 4"]  # (x0, y0, x1, y1) in image pixels
    score: Float[np.ndarray, " M"]  # 1 for annotated boxes and where a file says none
    person: Int[np.ndarray, " M"]  # row in `people` of annotated boxes, else -1
    ignored: int = 0  # boxes of the file that were left out: of another category

    def __len__(self) -> int:
        return len(self.image)


def annotated_boxes(dataset: Dataset, rows: Int[np.ndarray, " M"]) -> PersonBoxes:
    """The annotated boxes of rows of `dataset.people`."""
    people = dataset.people
    return PersonBoxes(people.image[rows], people.box[rows], np.ones(len(rows)), rows)


def ground_truth_boxes(dataset: Dataset) -> PersonBoxes:
    """The annotated boxes of people with at least one annotated joint, no crowds."""
    return annotated_boxes(dataset, np.flatnonzero(dataset.people.has_joints))


def read_boxes(
    path: str | Path,
    images: Dataset | Sequence[str],
    *,
    min_score: float = 0.0,
    max_per_image: int | None = None,
) -> PersonBoxes:
    """Reads a file of boxes, sorted by image, then best first.

    The images of a data set are named by their ids. A list of names is matched by the path below
    the folder that was given, by file name, by that without the ending, or, as in COCO, by the
    number that it is; what names two of them names none. See `best_boxes` for what is kept.

    Raises:
      MissingDataError: No such file.
      DataError: Not the format; an image that is not in the data set; or none of the images is
        among the names.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no file of boxes {path}")
    rows = _ids(images) if isinstance(images, Dataset) else _aliases(images)
    table, first, ignored = [], None, 0
    for where, image, category, box, score in _entries(load_json(path), path):
        if category != PERSON:
            ignored += 1
            continue
        if not np.isfinite((*box, score)).all():
            raise DataError(f"{where}: not finite: {box}, score {score}")
        if box[0] > box[2] or box[1] > box[3]:
            raise DataError(f"{where}: {box} is no box x0 <= x1, y0 <= y1")
        first = image if first is None else first
        if image in rows:
            table.append((rows[image], score, box))
        elif isinstance(images, Dataset):
            raise DataError(f"{where}: image_id {image} is not in {images}")
    if first is not None and not table:
        raise DataError(
            f"{path}: none of its images, such as {first!r}, is among those given, such as "
            f"{next(iter(rows), None)!r}"
        )
    image, score, box = (np.array(c) for c in zip(*table)) if table else np.zeros((3, 0))
    kept = {"min_score": min_score, "max_per_image": max_per_image}
    found = best_boxes(image.astype(np.int64), box.reshape(-1, 4), score, **kept)
    return dataclasses.replace(found, ignored=ignored)


def _entries(content: Any, path: Path) -> Iterator[tuple[str, Any, Any, list[float], float]]:
    """Where it stands, image, category, corners and score of each box."""
    if isinstance(content, Mapping):
        for image, boxes in content.items():
            try:
                table = np.array(boxes, np.float64) if boxes else np.zeros((0, 4))
            except (TypeError, ValueError):
                table = np.zeros(())
            if table.ndim != 2 or table.shape[1] != 4:
                raise DataError(f"{path}: {image}: must be [[x0, y0, x1, y1], ...]")
            for i, box in enumerate(table):
                yield f"{path}: {image}: box {i}", image, PERSON, box.tolist(), 1.0
        return
    if not isinstance(content, list):
        raise DataError(f"{path}: neither COCO's results format nor {{image: boxes}}")
    for i, record in enumerate(content):
        where = f"{path}: detection {i}"
        try:
            image = record["file_name"] if "file_name" in record else record["image_id"]
            x, y, w, h = map(float, record["bbox"])
            score = float(record.get("score", 1.0))
            hash(image)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: {error!r} in {record!s:.120}") from None
        box = from_xywh(np.array([x, y, w, h])).tolist()
        yield where, image, record.get("category_id", PERSON), box, score


def _ids(dataset: Dataset) -> dict[Any, int]:
    """Rows of a data set's images by id, which JSON's objects write as text, and by file name."""
    images = dataset.images
    by_name = {name: row for row, name in enumerate(images.file_name)}
    by_id = {number: row for row, number in enumerate(images.id.tolist())}
    return by_name | {str(number): row for number, row in by_id.items()} | by_id


def _aliases(names: Sequence[str]) -> dict[str | int, int]:
    """What may name an image, and its row; what names two of them names none."""
    aliases: list[tuple[str | int, int]] = []
    for row, path in enumerate(map(PurePosixPath, names)):
        number = {int(path.stem)} if path.stem.isdecimal() else set()
        aliases += [(alias, row) for alias in {path.name, path.stem} | number]
    count = Counter(alias for alias, _ in aliases)
    rows: dict[str | int, int] = {name: row for row, name in enumerate(names)}
    return rows | {a: row for a, row in aliases if count[a] == 1 and a not in rows}


def best_boxes(
    image: Int[np.ndarray, " N"],
    box: Float[np.ndarray, "N 4"],
    score: Float[np.ndarray, " N"],
    *,
    min_score: float = 0.0,
    max_per_image: int | None = None,
) -> PersonBoxes:
    """A table of detections, sorted by image (its row), then best first.

    Boxes below `min_score` are left out; of each image the `max_per_image` best are kept.
    """
    order = np.lexsort((-score, image))
    order = order[score[order] >= min_score]
    first = np.searchsorted(image[order], image[order])  # where the image's boxes begin
    if max_per_image is not None:
        order = order[np.arange(len(order)) - first < max_per_image]
    image, box, score = image[order].astype(np.int32), box[order], score[order]
    nobody = np.full(len(order), -1, np.int64)
    return PersonBoxes(image, box.astype(np.float64), score.astype(np.float64), nobody)
