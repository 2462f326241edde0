"""A linter for data directories: `python -m data_pipeline.check DIR`.

Errors stop or spoil a training and give exit status 1; warnings are worth a look; notes are counts
of what is as it should be.
"""

import dataclasses
import itertools
import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float, Shaped
from rich.console import Console
from rich.progress import track

from data_pipeline.images import ImageError, decode, read_header
from data_pipeline.readers import read
from data_pipeline.readers.reader import ASSUMED, REFUSED, Problem
from data_pipeline.schema import SPLITS, DataError, Dataset, MissingDataError, Split
from g_rmi.files import check_file, print_anything, write_whole
from g_rmi.skeleton import COCO, Skeleton, side_of
from g_rmi.viz.table import show

ERRORS = REFUSED | {
    "unknown category": "an annotation of a category that is not listed; ignored",
    "missing image": "the image file is not there",
    "undecodable image": "the image file is broken or no picture",
    "size mismatch": "the image file has another size than annotated",
    "no area": "area <= 0: OKS divides by it",
    "degenerate box": "a box without inside",
    "normalised": "a box or joints between 0 and 1: shares of the picture, not pixels",
    "no people": "nobody to train on or to evaluate",
}
WARNINGS = {
    "other category": "not a person; ignored",
    "keypoint outside": "an annotated joint more than a pixel outside the image",
    "box outside": "a box more than a pixel outside the image",
    "num_keypoints": "num_keypoints is not the number of joints with v > 0",
    "joints outside box": "all annotated joints of a person lie outside the box",
    "joints in the corner": "v > 0 at a corner of the picture or the box: not labelled?",
    "no joints": "joints are declared, but nobody's are labelled: for detectors only",
    "not mirrored": "joints that do not change sides where pictures are mirrored",
    "corners": "boxes that could be corners (x0, y0, x1, y1); COCO's are x, y, width, height",
    "lying": "most people lie on their side: are x and y exchanged?",
    "same picture": "one picture more than once",
    "mask": "run lengths that nobody can read; they are not used",
    "orientation": "EXIF turns the picture; its size does not say if it was annotated upright",
}
NOTES = {
    ASSUMED: "what the format does not say, and what is taken in its place",
    "no keypoints": "people (no crowds) without an annotated joint, as many of COCO's are",
    "central": "joints of the set's own that stay themselves where pictures are mirrored",
}
_SLACK = 1.0  # COCO's own annotations reach the far edge of the last pixel.
_EXAMPLES = 3
_FEW = 5  # Of fewer people nothing is said that holds of most.
_SHOULDERS, _HIPS = ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")


@dataclasses.dataclass
class Report:
    """Problems of one split."""

    # occurrences by kind (a key of `ERRORS`, `WARNINGS` or `NOTES`)
    count: Counter[str] = dataclasses.field(default_factory=Counter)
    # the first few of each kind, in words
    examples: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    images: int = 0  # images that could be read
    people: int = 0  # people that could be read
    skeleton: Skeleton | None = None  # None: nobody's joints are labelled

    def add(self, problem: Problem) -> None:
        """Notes one problem."""
        self.count[problem.kind] += 1
        if len(self.examples[problem.kind]) < _EXAMPLES:
            self.examples[problem.kind].append(problem.text)

    def of(self, kinds: Iterable[str]) -> dict[str, int]:
        """How often each of some kinds occurs, where it does."""
        return {kind: self.count[kind] for kind in kinds if self.count[kind]}

    @property
    def errors(self) -> int:
        """Problems that are errors."""
        return sum(self.of(ERRORS).values())


def check_split(directory: str | Path, split: str, *, decoding: bool = True) -> Report:
    """Checks one split of a data directory in any format that `data_pipeline.readers` reads.

    Of the images the headers are read, and with `decoding` all that is in them. A MissingDataError
    if the split is not there.
    """
    report = Report()
    try:
        dataset = read(directory, split, report.add)
    except MissingDataError:
        raise
    except DataError as error:
        report.add(Problem("malformed", directory, str(error)))
        return report
    report.images, report.people = len(dataset.images), len(dataset.people)
    report.skeleton = dataset.skeleton if dataset.labelled.any() else None
    for problem in itertools.chain(_table_problems(dataset), _file_problems(dataset, decoding)):
        report.add(problem)
    return report


def _table_problems(dataset: Dataset) -> Iterator[Problem]:
    """What is readable and yet wrong, whatever the format."""
    people, images = dataset.people, dataset.images
    size = np.stack([images.width, images.height], axis=1)[people.image]
    joints = people.visibility > 0
    outside = _leaves(people.keypoints, size) & joints
    # A box of a pixel in the corner, or two and more joints there.
    small = people.has_inside & (people.box <= 1).all(axis=1)
    crowded = (people.keypoints <= 1).all(axis=2) | ~joints
    small |= crowded.all(axis=1) & (people.num_keypoints > 1)
    low, high = people.box[:, None, :2] - _SLACK, people.box[:, None, 2:] + _SLACK
    within = ((people.keypoints >= low) & (people.keypoints <= high)).all(axis=2)
    apart = people.has_joints & people.has_inside & ~(within & joints).any(axis=1) & ~small
    corner = (_at_corner(people.keypoints, size, people.box) & joints).any(axis=1)
    box_outside = people.has_inside & _leaves(people.box.reshape(-1, 2, 2), size).any(axis=1)
    no_joints = ~people.is_crowd & (people.num_keypoints == 0) & dataset.labelled.any()
    box, area = people.box.round(2).tolist(), people.area.tolist()
    for kind, rows, text in (
        ("degenerate box", ~people.has_inside, lambda i: f"box {box[i]}"),
        ("no area", people.area <= 0, lambda i: f"area {area[i]:g}"),
        ("box outside", box_outside, lambda i: f"box {box[i]} in {size[i, 0]} x {size[i, 1]}"),
        ("keypoint outside", outside.any(axis=1), lambda i: f"in {size[i, 0]} x {size[i, 1]}"),
        ("no keypoints", no_joints, lambda i: "v = 0 throughout"),
        ("normalised", small, lambda i: f"box {box[i]}"),
        ("joints outside box", apart, lambda i: f"box {box[i]}"),
        ("joints in the corner", corner, lambda i: f"of {size[i, 0]} x {size[i, 1]}, box {box[i]}"),
    ):
        for i in np.flatnonzero(rows):
            yield Problem(kind, dataset.directory, f"annotation {people.id[i]}: {text(i)}")
    wanted = people.has_joints if dataset.labelled.any() else ~people.is_crowd
    if not (wanted & people.has_inside).any():
        text = f"{len(people)} annotations of people"
        text += ", all of them crowds or without a joint or box" if len(people) else ""
        yield Problem("no people", dataset.directory, text)
    yield from _sides(dataset)
    if text := _corners(dataset):
        yield Problem("corners", dataset.directory, text)
    if text := _lying(dataset):
        yield Problem("lying", dataset.directory, text)


def _corners(dataset: Dataset) -> str | None:
    """Says so if widths and heights could be second corners: all joints lie within, too."""
    people = dataset.people.take(dataset.people.has_joints & dataset.people.has_inside)
    low, end = people.box[:, None, :2], people.box[:, None, 2:] - people.box[:, None, :2]
    within = (people.keypoints >= low - _SLACK) & (people.keypoints <= end + _SLACK)
    fits = (within.all(axis=2) | (people.visibility == 0)).all() and (end > low).all()
    if len(people) < _FEW or not fits or np.median(low / end) < 0.05:
        return None
    return f"all {len(people)} people with joints, such as annotation {people.id[0]}"


def _lying(dataset: Dataset) -> str | None:
    """Says so if most people's shoulders are beside their hips."""
    names, people = dataset.skeleton.names, dataset.people
    if not {*_SHOULDERS, *_HIPS} <= {*names}:
        return None
    rows = [[names.index(name) for name in joints] for joints in (_SHOULDERS, _HIPS)]
    whole = (people.visibility[:, [*rows[0], *rows[1]]] > 0).all(axis=1)
    shoulders, hips = (people.keypoints[whole][:, row].mean(axis=1) for row in rows)
    x, y = np.abs(shoulders - hips).T
    lying, count = int((x > y).sum()), len(x)
    return f"{lying} of {count}" if count >= 2 * _FEW and lying > 0.75 * count else None


def _sides(dataset: Dataset) -> Iterator[Problem]:
    """Joints whose names say a side but not whose other side; a set without any sides."""
    skeleton = dataset.skeleton
    alone = [n for k, n in enumerate(skeleton.names) if skeleton.flip[k] == k]
    sided = [name for name in alone if side_of(name)]
    if dataset.labelled.any() and (sided or len(alone) == len(skeleton) > 1):
        text = f"no other side of {', '.join(sided or alone)}; write left_x and right_x"
        yield Problem("not mirrored", dataset.directory, text)
    elif dataset.labelled.any() and alone and skeleton.names != COCO.names:
        yield Problem("central", dataset.directory, ", ".join(alone))


def _leaves(
    points: Float[np.ndarray, "N P 2"], size: Shaped[np.ndarray, "N 2"]
) -> Bool[np.ndarray, "N P"]:
    outside = (points < -0.5 - _SLACK) | (points > size[:, None] - 0.5 + _SLACK)
    return outside[..., 0] | outside[..., 1]


def _at_corner(
    points: Float[np.ndarray, "N P 2"],
    size: Shaped[np.ndarray, "N 2"],
    box: Float[np.ndarray, "N 4"],
) -> Bool[np.ndarray, "N P"]:
    """Points on a corner of the picture, however its pixels are counted, or of the box."""
    last, low, high = size[:, None], *np.split(box.astype(points.dtype)[:, None], 2, axis=2)
    picture = np.isin(points, (0, -1)) | (points == last) | (points == last - 1)
    own = (points == low) | (points == high)
    return np.asarray(picture.all(axis=2) | own.all(axis=2))


def _file_problems(dataset: Dataset, decoding: bool) -> Iterator[Problem]:
    cv2.setNumThreads(1)
    images, source = dataset.images, dataset.source
    contents: list[Any] = [None] * len(images)  # lengths and checksums

    def problem(row: int) -> Problem | None:
        name, size = source.name(row), (int(images.width[row]), int(images.height[row]))
        try:
            data = source.read(row)
            header = read_header(data)
            if size not in (header.size, header.stored):
                sizes = f"{header.width} x {header.height}, not {size[0]} x {size[1]}"
                return Problem("size mismatch", name, f"{name}: {sizes}")
            contents[row] = len(data), zlib.crc32(data)
            if decoding:
                decode(data)
        except OSError as error:
            return Problem("missing image", name, f"{name}: {error.strerror or error}")
        except ImageError as error:
            return Problem("undecodable image", name, f"{name}: {error}")
        if header.orientation == 1 or header.size != header.stored:
            return None
        text = f"{name}: orientation {header.orientation}; it is taken as annotated upright"
        return Problem("orientation", name, text)

    console = Console(stderr=True)
    with ThreadPoolExecutor() as pool:
        found = track(
            pool.map(problem, range(len(images))),
            total=len(images),
            description="decoding" if decoding else "reading headers",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        yield from filter(None, found)
    first: dict[Any, str] = {}
    for row, content in enumerate(contents):
        name = source.name(row)
        if content and (other := first.setdefault(content, name)) != name:
            yield Problem("same picture", name, f"{name}: the same as {other}")


def _print(split: str, report: Report) -> None:
    warnings = sum(report.of(WARNINGS).values())
    print(
        f"{split}: {report.images} images, {report.people} people, {report.errors} errors, "
        f"{warnings} warnings"
    )
    rows = [
        (kind, level, str(count), "\n".join([kinds[kind], *report.examples[kind]]))
        for level, kinds in (("error", ERRORS), ("warning", WARNINGS), ("note", NOTES))
        for kind, count in report.of(kinds).items()
    ]
    if rows:
        show(("what", "level", "count", "meaning and examples"), rows, fold=True)


def main(
    directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    split: Annotated[Split | None, tyro.conf.arg(metavar="train|val")] = None,
    decode: bool = True,
    report: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> int:
    """Check a data directory: files, ids, boxes, keypoints.

    Args:
      directory: Data directory in the format of COCO, YOLO, CVAT, Label Studio or labelme, or one
        made by data_pipeline.prepare.
      split: Only this split; else all there are.
      decode: Decode every image; else only read the headers.
      report: Write the findings here.
    """
    try:
        if report:
            check_file(report)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    reports, missing = {}, None
    for name in [split] if split else SPLITS:
        try:
            reports[name] = check_split(directory, name, decoding=decode)
        except MissingDataError as error:
            missing = error
    if missing and (split or not reports or not directory.is_dir()):
        print(missing, file=sys.stderr)
        return 1
    if missing:
        print(f"note: {missing}")
    train, val = (reports[s].skeleton if s in reports else None for s in SPLITS)
    if train and val and (difference := val.difference(train)):
        reports["val"].add(Problem("wrong joints", directory, f"{difference}, as in train"))
    for name, found in reports.items():
        _print(name, found)
    if report:
        content = {
            name: {
                "images": found.images,
                "people": found.people,
                "errors": found.of(ERRORS),
                "warnings": found.of(WARNINGS),
                "notes": found.of(NOTES),
                "examples": found.examples,
            }
            for name, found in reports.items()
        }
        write_whole(report, json.dumps(content, indent=2) + "\n")
    return int(any(found.errors for found in reports.values()))


if __name__ == "__main__":
    print_anything()
    sys.exit(tyro.cli(main, prog="python -m data_pipeline.check"))
