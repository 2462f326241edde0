"""Tables of person boxes: annotated ones, or those of a file, matched to images by id or name.

A file of boxes is a list in COCO's results format, `{"image_id", "category_id", "bbox": [x, y, w,
h], "score"}`, or an object `{image: [[x0, y0, x1, y1], ...]}`. Category and score may be missing:
a person, and 1; or have other programs' names, "class", "label", "confidence". A category is 1,
"person", or 0 if none is 1. "file_name" goes before "image_id".
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.readers.reader import PEOPLE, load_json, number, numbers, whole
from data_pipeline.schema import DataError, Dataset, MissingDataError
from g_rmi.config import did_you_mean
from g_rmi.geometry import MAX_SCORE, are_shares, misfit, without_inside
from g_rmi.types import PERSON

SizeOf = Callable[[int], Sequence[int] | None]  # Width and height of a row, if that is known.
_SEEN = 100  # Boxes that are compared with the sizes of their pictures.

# What fields are called; the last one goes first.
_IMAGE = ("image_id", "file_name")
_CATEGORY = ("category", "category_name", "class", "class_id", "class_name", "label", "category_id")
_SCORE = ("confidence", "conf", "score")


@dataclasses.dataclass(frozen=True)
class PersonBoxes:
    """One row per box."""

    image: Int[np.ndarray, " M"]  # row in the data set's `images`, or in the list of names
    box: Float[np.ndarray, "M 4"]  # (x0, y0, x1, y1) in image pixels
    score: Float[np.ndarray, " M"]  # 1 for annotated boxes and where a file says none
    person: Int[np.ndarray, " M"]  # row in `people` of annotated boxes, else -1
    # boxes of a file that were left out: of other categories, without inside, by their scores or
    # their number
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def note(self) -> str | None:
        """What to say of boxes that were left out, if there are such."""
        if not self.ignored:
            return None
        why = "of other categories, without inside, below --min-box-score or beyond --max-people"
        return f"{self.ignored} boxes are not looked into, {why}"


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
    sizes: SizeOf | None = None,
    min_score: float = 0.0,
    max_per_image: int | None = None,
    only: frozenset[int | str] = frozenset(),
) -> PersonBoxes:
    """Reads a file of boxes, sorted by image, then best first.

    The images of a data set are named by their ids. A list of names is matched by the path below
    the folder that was given, by file name, by that without the ending, or, as in COCO, by the
    number that it is; what names two of them names none. `sizes` tells their sizes, as a data set
    does. The categories `only` are read, if there are any, not those of people. See `best_boxes`
    for what is kept.

    Raises:
      MissingDataError: No such file.
      DataError: Not the format; an image that is not in the data set; none of the images is among
        the names; nobody among the categories; or boxes that are not in the pictures' pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no file of boxes {path}")
    rows = _ids(images) if isinstance(images, Dataset) else _aliases(images)
    if isinstance(images, Dataset):
        sizes = np.stack([images.images.width, images.images.height], axis=1).__getitem__
    entries = list(_entries(load_json(path), path))
    own = images.categories if isinstance(images, Dataset) else frozenset()
    ours = only or _people_of(entries, path, own)
    found, table = 0, []
    for entry in entries:
        row = _row(entry.image, rows)
        found += row is not None
        if entry.category not in ours:
            continue
        if reason := misfit(entry.box):
            raise DataError(f"{entry.where}: {reason}: {entry.box}")
        if row is not None and not without_inside(entry.box):
            table.append((row, entry))
        elif row is None and isinstance(images, Dataset):
            raise DataError(f"{entry.where}: image_id {entry.image!s:.80} is not in {images}")
    if entries and not found:
        raise DataError(
            f"{path}: none of its images, such as {entries[0].image!r:.80}, is among those given, "
            f"such as {next(iter(rows), None)!r}"
        )
    _check_frame(table, sizes)
    image = np.array([row for row, _ in table], np.int64)
    box = np.array([entry.box for _, entry in table], np.float64).reshape(-1, 4)
    score = np.array([entry.score for _, entry in table], np.float64)
    best = best_boxes(image, box, score, min_score=min_score, max_per_image=max_per_image)
    return dataclasses.replace(best, ignored=found - len(best))


class _Entry(NamedTuple):
    """A box of a file, and where it stands there."""

    where: str
    image: Any
    category: Any  # a number or a word in lower case
    box: list[float]  # corners
    score: float
    sized: bool = False  # the file gives a width and a height, not a second corner


def _entries(content: Any, path: Path) -> Iterator[_Entry]:
    if isinstance(content, Mapping):
        for image, boxes in content.items():
            try:
                table = np.zeros((0, 4)) if boxes == [] else np.array(boxes, np.float64)
            except (TypeError, ValueError, OverflowError):
                table = np.zeros(())
            if table.ndim != 2 or table.shape[1] != 4:
                raise DataError(f"{path}: {image}: must be [[x0, y0, x1, y1], ...]")
            for i, box in enumerate(table):
                yield _Entry(f"{path}: {image}: box {i}", image, PERSON, box.tolist(), 1.0)
        return
    if not isinstance(content, list):
        raise DataError(f"{path}: neither COCO's results format nor {{image: boxes}}")
    for i, record in enumerate(content):
        where = f"{path}: detection {i}"
        if not isinstance(record, Mapping):
            raise DataError(f"{where}: no object with 'image_id' and 'bbox': {record!s:.80}")
        image, said, score = (_given(record, names) for names in (_IMAGE, _CATEGORY, _SCORE))
        image = image[0] if isinstance(image, list) and len(image) == 1 else image
        box = numbers(record.get("bbox"), 4, math.inf)
        score = 1.0 if score is None and "score" not in record else number(score, MAX_SCORE)
        for field, sound, wanted in (
            ("image_id", isinstance(image, str | int | float), "the number or name of a picture"),
            ("bbox", box is not None, "4 finite numbers [x, y, width, height]"),
            ("score", score is not None and score >= 0, f"a number from 0 to {MAX_SCORE:g}"),
        ):
            if not sound and field not in record:
                raise DataError(f"{where}: field {field!r} is missing{did_you_mean(field, record)}")
            if not sound:
                raise DataError(f"{where}: {field} = {record[field]!r:.80}: must be {wanted}")
        assert box is not None
        assert score is not None
        category = PERSON if said is None else whole(said)
        if category is None:
            category = str(said).strip().lower()
        x, y, w, h = map(float, box)
        yield _Entry(where, image, category, [x, y, x + w, y + h], float(score), sized=True)


def _given(record: Mapping, names: Sequence[str]) -> Any:
    """What stands under the last of some names that says something."""
    return next((record[n] for n in reversed(names) if record.get(n) is not None), None)


def _people_of(entries: Sequence[_Entry], path: Path, own: frozenset[int | str]) -> set[Any]:
    """The categories of people: 1, words for people, and 0 where a program counts from 0.

    Among several, or where these are not there, it is the data set's `own` that are meant.
    """
    there = {entry.category for entry in entries}
    ours = there & {PERSON, *PEOPLE}
    if own & there and (len(there) > 1 or not ours):
        ours = there & (own | PEOPLE)
    if 0 in there - own and (others := ours - PEOPLE):
        some = min(others, key=str)
        raise DataError(f"{path}: category_id 0 and {some}: which are people? Leave only them")
    if not ours and 0 in there:
        ours = {0}
    if entries and not ours:
        some = ", ".join(map(repr, sorted(there, key=str)[:5]))
        raise DataError(f"{path}: no box of a person: category_id {some}; people have {PERSON}")
    return ours


def _check_frame(table: Sequence[tuple[int, _Entry]], sizes: SizeOf | None) -> None:
    """Refuses corners in the place of sizes, and shares of the picture in the place of pixels."""
    if not table:
        return
    box, first = np.array([entry.box for _, entry in table]), table[0][1]
    if are_shares(box):
        raise DataError(f"{first.where}: {first.box}: shares of the picture, not pixels?")
    seen = [(entry, sizes(row)) for row, entry in table[:_SEEN]] if sizes else []
    known = [(entry, (int(size[0]), int(size[1]))) for entry, size in seen if size is not None]
    if not known:
        return
    x0, y0, x1, y1 = np.array([entry.box for entry, _ in known]).T
    width, height = np.array([size for _, size in known]).T
    beyond = (x1 > 1.1 * width) | (y1 > 1.1 * height)
    w, h = x1 - x0, y1 - y0
    corners = (w > x0) & (h > y0) & (w <= 1.1 * width) & (h <= 1.1 * height)
    if first.sized and beyond.any() and corners.all():
        entry, (width, height) = known[int(np.argmax(beyond))]
        raise DataError(
            f"{entry.where}: bbox reaches to ({entry.box[2]:g}, {entry.box[3]:g}), beyond its "
            f"picture of {width} x {height}; are these corners (x0, y0, x1, y1)? bbox is [x, y, "
            "width, height]; corners are written as {image: [[x0, y0, x1, y1], ...]}"
        )
    for entry, (width, height) in known:
        if reason := misfit(entry.box, (width, height)):
            raise DataError(f"{entry.where}: {reason}: {entry.box}")


def _row(image: Any, rows: Mapping[Any, int]) -> int | None:
    """The row that a name or number stands for; a name may have another system's slashes."""
    if image not in rows and isinstance(image, str):
        name = PurePosixPath(image.replace("\\", "/")).as_posix()
        image = name if name in rows else whole(image)
    return rows.get(image)


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
