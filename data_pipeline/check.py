"""A linter for data directories: `python -m data_pipeline.check DIR`.

Errors stop or spoil a training and give exit status 1; warnings are worth a look.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from data_pipeline.coco import (
    ImageFolder,
    as_coco,
    declared_skeleton,
    find_split,
    has_keypoints,
    is_inside,
    load_json,
    person_category,
    read,
)
from data_pipeline.images import ImageError, decode, read_header
from data_pipeline.prepared import SPLITS, find_prepared
from data_pipeline.schema import DataError, ImageSource, MissingDataError
from g_rmi.skeleton import COCO, Skeleton

ERRORS = {
    "malformed": "not a COCO annotation file, or a field is missing or of the wrong type",
    "wrong joints": "the declared joints are neither COCO's nor a complete set of their own",
    "duplicate image id": "two images with one id",
    "duplicate annotation id": "two annotations with one id",
    "unsafe file name": "the file name leads out of the image folder",
    "missing image": "the image file is not there",
    "undecodable image": "the image file is broken or no JPEG or PNG",
    "size mismatch": "the image file has another size than annotated",
    "unknown image": "an annotation of an image that is not listed",
    "unknown category": "an annotation of a category that is not listed",
    "keypoint count": "not three numbers per joint",
    "keypoint flag": "a v that is not 0, 1 or 2",
    "no area": "area <= 0: OKS divides by it",
    "degenerate box": "a box without inside",
}
WARNINGS = {
    "other category": "not a person; ignored",
    "keypoint outside": "an annotated joint more than a pixel outside the image",
    "box outside": "a box more than a pixel outside the image",
    "num_keypoints": "num_keypoints is not the number of joints with v > 0",
    "no keypoints": "a person (no crowd) without an annotated joint",
    "no people": "nobody to train on or to evaluate",
}
_SLACK = 1.0  # COCO's own annotations reach the far edge of the last pixel.
_EXAMPLES = 3

Split = Literal["train", "val"]


class Report:
    """Problems of one split: how many of each kind, and the first few.

    Attributes:
      count: Occurrences by kind (a key of `ERRORS` or `WARNINGS`).
      examples: The first of them, in words.
      images: Pictures listed.
      people: Annotations of people.
    """

    def __init__(self):
        self.count: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.images = 0
        self.people = 0

    def add(self, kind: str, example: str) -> None:
        """Notes one problem."""
        self.count[kind] += 1
        if len(self.examples[kind]) < _EXAMPLES:
            self.examples[kind].append(example)

    @property
    def errors(self) -> int:
        """Problems that are errors."""
        return sum(self.count[kind] for kind in ERRORS)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "images": self.images,
            "people": self.people,
            "errors": {kind: self.count[kind] for kind in ERRORS if self.count[kind]},
            "warnings": {kind: self.count[kind] for kind in WARNINGS if self.count[kind]},
            "examples": dict(self.examples),
        }


def check_split(directory: str | Path, split: str, *, decoding: bool = True) -> Report:
    """Checks one split of a data directory in any layout that `data_pipeline.coco.read` reads.

    Args:
      directory: The data directory.
      split: "train" or "val".
      decoding: Decode every picture; else read only its header.

    Raises:
      MissingDataError: The split is not there.
    """
    report = Report()
    content, source = _open(Path(directory), split, report)
    if source is None:
        return report
    try:
        skeleton = declared_skeleton(content)
    except ValueError as error:
        report.add("wrong joints", str(error))
        skeleton = COCO
    images = _check_images(content["images"], report)
    _check_annotations(content, images, skeleton, report)
    _check_files(list(images.values()), source, report, decoding)
    return report


def _open(
    directory: Path, split: str, report: Report
) -> tuple[Mapping[str, Any], ImageSource | None]:
    """The annotations and their pictures; no pictures if the annotations are not readable."""
    if find_prepared(directory):
        dataset = read(directory, split)
        return as_coco(dataset), dataset.source
    path, folder = find_split(directory, split)
    try:
        content = load_json(path)
    except DataError as error:
        report.add("malformed", str(error))
        return {}, None
    if not isinstance(content, dict):
        content = {}
    for section in ("images", "annotations"):
        records = content.get(section)
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            report.add("malformed", f"{path}: {section!r} is not a list of objects")
            return {}, None
    names = tuple(str(image.get("file_name")) for image in content["images"])
    return content, ImageFolder(folder, names)


def _check_images(records: list, report: Report) -> dict[int, Mapping[str, Any]]:
    """The well-formed images by id, with their row as "row"."""
    report.images = len(records)
    images: dict[int, Mapping[str, Any]] = {}
    for row, record in enumerate(records):
        where = f"image {record.get('id')}"
        wrong = [f for f in ("id", "width", "height") if type(record.get(f)) is not int]
        if not isinstance(record.get("file_name"), str):
            wrong.append("file_name")
        if wrong:
            report.add("malformed", f"{where}: {', '.join(wrong)}")
        elif not is_inside(record["file_name"]):
            report.add("unsafe file name", f"{where}: {record['file_name']}")
        elif record["id"] in images:
            report.add("duplicate image id", where)
        else:
            images[record["id"]] = {**record, "row": row}
    return images


def _check_annotations(
    content: Mapping[str, Any], images: Mapping[int, Mapping], skeleton: Skeleton, report: Report
) -> None:
    person = person_category(content)["id"]
    known = {category.get("id") for category in content.get("categories") or [{"id": 1}]}
    joints = len(skeleton) if has_keypoints(content) else None
    seen = set()
    for record in content["annotations"]:
        where = f"annotation {record.get('id')}"
        if wrong := [f for f in ("id", "image_id") if type(record.get(f)) is not int]:
            report.add("malformed", f"{where}: {', '.join(wrong)}")
            continue
        if record["id"] in seen:
            report.add("duplicate annotation id", where)
        seen.add(record["id"])
        category = record.get("category_id", person)
        if category != person:
            kind = "other category" if category in known else "unknown category"
            report.add(kind, f"{where}: category_id {category}")
            continue
        report.people += 1
        image = images.get(record["image_id"])
        if image is None:
            report.add("unknown image", f"{where}: image_id {record['image_id']}")
        for kind, detail in _person_problems(record, image, joints):
            report.add(kind, f"{where}: {detail}")
    if not report.people:
        report.add("no people", "no annotation of a person")


def _person_problems(
    record: Mapping[str, Any], image: Mapping[str, Any] | None, joints: int | None
) -> Iterator[tuple[str, str]]:
    box, area = _array(record.get("bbox")), _array(record.get("area"))
    if box is None or box.shape != (4,):
        yield "malformed", f"bbox {record.get('bbox')}"
    elif not (box[2:] > 0).all():
        yield "degenerate box", f"bbox {record['bbox']}"
    elif image is not None and _leaves(box[:2], image) | _leaves(box[:2] + box[2:], image):
        yield "box outside", f"bbox {record['bbox']} in {image['width']} x {image['height']}"
    if area is None or area.shape != ():
        yield "malformed", f"area {record.get('area')}"
    elif area <= 0:
        yield "no area", f"area {record['area']}"
    if joints is None:
        return
    points = _array(record.get("keypoints"))
    if points is None or points.shape != (3 * joints,):
        size = "no" if points is None else points.size
        yield "keypoint count", f"{size} numbers, not {3 * joints}"
        return
    points = points.reshape(joints, 3)
    labelled = points[points[:, 2] > 0]
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        yield "keypoint flag", f"v {points[:, 2].tolist()}"
    if image is not None and len(labelled) and _leaves(labelled[:, :2], image):
        yield "keypoint outside", f"in {image['width']} x {image['height']}"
    if record.get("num_keypoints", len(labelled)) != len(labelled):
        yield "num_keypoints", f"says {record['num_keypoints']}, has {len(labelled)}"
    if not len(labelled) and not record.get("iscrowd"):
        yield "no keypoints", "v = 0 throughout"


def _array(value: Any) -> np.ndarray | None:
    """Finite numbers as an array; None for anything else."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        return None
    return array if value is not None and np.isfinite(array).all() else None


def _leaves(points: np.ndarray, image: Mapping[str, Any]) -> bool:
    size = np.array([image["width"], image["height"]])
    return bool(((points < -0.5 - _SLACK) | (points > size - 0.5 + _SLACK)).any())


def _check_files(
    images: list[Mapping[str, Any]], source: ImageSource, report: Report, decoding: bool
) -> None:
    cv2.setNumThreads(1)

    def problem(image: Mapping[str, Any]) -> tuple[str, str] | None:
        name = source.name(image["row"])
        try:
            data = source.read(image["row"])
            header = read_header(data)
            if decoding:
                decode(data)
        except OSError as error:
            return "missing image", f"{name}: {error.strerror or error}"
        except ImageError as error:
            return "undecodable image", f"{name}: {error}"
        if (header.width, header.height) != (image["width"], image["height"]):
            sizes = f"{header.width} x {header.height}, not {image['width']} x {image['height']}"
            return "size mismatch", f"{name}: {sizes}"
        return None

    console = Console(stderr=True)
    with ThreadPoolExecutor() as pool:
        found = track(
            pool.map(problem, images),
            total=len(images),
            description="decoding" if decoding else "reading headers",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        for kind_and_example in filter(None, found):
            report.add(*kind_and_example)


def _print(console: Console, split: str, report: Report) -> None:
    console.print(
        f"[bold]{split}[/bold]: {report.images} images, {report.people} people, "
        f"{report.errors} errors, {report.count.total() - report.errors} warnings"
    )
    if not report.count:
        return
    table = Table("", "problem", "count", "meaning and examples")
    for level, kinds in (("error", ERRORS), ("warning", WARNINGS)):
        for kind, meaning in kinds.items():
            if count := report.count[kind]:
                lines = "\n".join([f"[dim]{meaning}[/dim]", *map(_plain, report.examples[kind])])
                table.add_row(level, kind, str(count), lines)
    console.print(table)


def _plain(text: str) -> str:
    """Text that rich does not take for markup."""
    return text.replace("[", r"\[")


def main(
    directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    split: Annotated[Split | None, tyro.conf.arg(metavar="train|val")] = None,
    decode: bool = True,
    report: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> int:
    """Check a data directory: files, ids, boxes, keypoints.

    Args:
      directory: Directory in COCO's layout, or one made by data_pipeline.prepare.
      split: Only this split; else all there are.
      decode: Decode every picture; else only read the headers.
      report: Write the findings here.

    Returns:
      1 if there are errors, else 0.
    """
    reports, missing = {}, None
    for name in [split] if split else SPLITS:
        try:
            reports[name] = check_split(directory, name, decoding=decode)
        except MissingDataError as error:
            missing = error
        except DataError as error:
            print(error, file=sys.stderr)
            return 1
    if missing and (split or not reports or not directory.is_dir()):
        print(missing, file=sys.stderr)
        return 1
    console = Console()
    for name, found in reports.items():
        _print(console, name, found)
    if report:
        content = {name: found.as_dict() for name, found in reports.items()}
        report.write_text(json.dumps(content, indent=2) + "\n")
    return int(any(found.errors for found in reports.values()))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
