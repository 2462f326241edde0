"""Tables of person boxes: annotated ones, or those of a file, matched to images by id or name.

A file of boxes is a list in COCO's results format, `{"image_id", "category_id", "bbox": [x, y, w,
h], "score"}`, or an object `{image: [[x0, y0, x1, y1], ...]}`. Category and score may be missing:
a person, and 1. "file_name" goes before "image_id".
"""

import dataclasses
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
    """One row per box.

    Attributes:
      image: Row of the image in the data set's `images`, or in the list of names.
      box: `(x0, y0, x1, y1)` in image pixels.
      score: Of the detection; 1 for annotated boxes and where a file says none.
      person: Row in the data set's `people` for annotated boxes, else -1.
      ignored: Boxes of the file that were left out because they are of another category.
    """

    image: Int[np.ndarray, " M"]
    box: Float[np.ndarray, "M 4"]
    score: Float[np.ndarray, " M"]
    person: Int[np.ndarray, " M"]
    ignored: int = 0

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

    Args:
      path: JSON file.
      images: A data set, whose images are named by their ids; or names of images. They are named
        by their path below the folder that was given, by their file name, by that without the
        ending, or, as in COCO, by the number that it is. What names two of them names none.
      min_score: Boxes below are left out.
      max_per_image: So many best boxes of each image are kept; None for all.

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
    found = best_boxes(
        image.astype(np.int64),
        box.reshape(-1, 4),
        score,
        min_score=min_score,
        max_per_image=max_per_image,
    )
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
    aliases: dict[str | int, int] = {}
    twice: set[str | int] = set()
    for row, name in enumerate(names):
        stem = PurePosixPath(name).stem
        short: list[str | int] = [PurePosixPath(name).name, stem]
        if stem.isdecimal():
            short.append(int(stem))
        for alias in dict.fromkeys(short):
            twice |= {alias} & aliases.keys()
            aliases[alias] = row
    unique = {alias: row for alias, row in aliases.items() if alias not in twice}
    return unique | {name: row for row, name in enumerate(names)}


def best_boxes(
    image: Int[np.ndarray, " N"],
    box: Float[np.ndarray, "N 4"],
    score: Float[np.ndarray, " N"],
    *,
    min_score: float = 0.0,
    max_per_image: int | None = None,
) -> PersonBoxes:
    """A table of detections, sorted by image, then best first.

    Args:
      image: Row of each box's image.
      box: `(x0, y0, x1, y1)` in image pixels.
      score: Of the detections.
      min_score: Boxes below are left out.
      max_per_image: So many best boxes of each image are kept; None for all.
    """
    order = np.lexsort((-score, image))
    order = order[score[order] >= min_score]
    first = np.searchsorted(image[order], image[order])  # where the image's boxes begin
    if max_per_image is not None:
        order = order[np.arange(len(order)) - first < max_per_image]
    return PersonBoxes(
        image=image[order].astype(np.int32),
        box=box[order].astype(np.float64),
        score=score[order].astype(np.float64),
        person=np.full(len(order), -1, np.int64),
    )
