"""COCO's annotation format: reads a directory into a `Dataset`, and writes one.

Three layouts of files are understood, tried in this order (SPLIT is "train" or "val"):

    annotations/person_keypoints_{SPLIT}2017.json + {SPLIT}2017/      COCO's own
    annotations/*_{SPLIT}.json                    + images/
    annotations.json                              + images/           train only
"""

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.readers.reader import (
    ImageFolder,
    Problem,
    Report,
    is_inside,
    load_json,
    refuse,
)
from data_pipeline.schema import (
    SPLITS,
    DataError,
    Dataset,
    Images,
    MissingDataError,
    Outline,
    People,
)
from g_rmi.geometry import from_xywh, to_xywh
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import PERSON

Faults = Iterator[tuple[str, str]]  # kinds and texts of a record's problems


def find_split(directory: str | Path, split: str) -> tuple[Path, Path]:
    """Finds the files of one split.

    Returns:
      The annotation file and the folder of its pictures, both existing.

    Raises:
      MissingDataError: Something is not there; names what was looked for and the nearest thing
        that is.
      DataError: Several annotation files fit.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise MissingDataError(f"no data directory {directory}{_existing(directory)}")
    annotations = directory / "annotations"
    own = annotations / f"person_keypoints_{split}2017.json"
    others = sorted(annotations.glob(f"*_{split}.json"))
    if own.is_file():
        return own, _folder(directory / f"{split}2017")
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise DataError(f"{annotations}: several files fit split {split!r}: {names}")
    if others:
        return others[0], _folder(directory / "images")
    single = directory / "annotations.json"
    if single.is_file() and split == "train":
        return single, _folder(directory / "images")
    if single.is_file():
        raise MissingDataError(f"{single} has only a train split, not {split!r}")
    found = sorted(path.name for path in annotations.glob("*.json"))
    raise MissingDataError(
        f"{directory}: no annotations of split {split!r}; looked for "
        f"annotations/{own.name}, annotations/*_{split}.json and annotations.json; "
        + (f"found annotations/{', annotations/'.join(found)}" if found else "found none")
    )


def _existing(path: Path) -> str:
    """The end of a message: the nearest thing that exists."""
    parent = next(parent for parent in path.absolute().parents if parent.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    close = difflib.get_close_matches(missing, [p.name for p in parent.iterdir()], n=1)
    return f"; did you mean {parent / close[0]}?" if close else f"; {parent} exists"


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingDataError(f"no image folder {folder}{_existing(folder)}")
    return folder


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in COCO's format."""

    def is_there(split: str) -> bool:
        try:
            find_split(directory, split)
        except MissingDataError:
            return False
        return True

    return tuple(filter(is_there, SPLITS))


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Reads a split; see `Reader.read`.

    Its keypoint set is COCO's, or that which the category of people declares.
    """
    path, folder = find_split(directory, split)
    content = load_json(path)
    for name in ("images", "annotations"):
        records = content.get(name) if isinstance(content, dict) else None
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise DataError(f"{path}: no list of {name!r}: not a COCO annotation file")

    def wrong(kind: str, text: str) -> None:
        report(Problem(kind, path, text))

    try:
        skeleton = declared_skeleton(content)
    except ValueError as error:
        wrong("wrong joints", str(error))
        skeleton = COCO
    images = _sound("image", content["images"], _image_faults, wrong)
    rows = {record["id"]: row for row, record in enumerate(images)}
    joints = len(skeleton) if "keypoints" in _person_category(content) else 0
    people = _sound(
        "annotation",
        _people_records(content, wrong),
        lambda record: _person_faults(record, rows, joints),
        wrong,
    )
    people.sort(key=lambda record: rows[record["image_id"]])
    table = _people(people, rows, joints, skeleton)
    for record, count in zip(people, table.num_keypoints.tolist() if joints else ()):
        if (said := record.get("num_keypoints", count)) != count:
            wrong("num_keypoints", f"annotation {record['id']}: says {said}, has {count}")
    names = tuple(record["file_name"] for record in images)
    return Dataset(
        directory=directory,
        split=split,
        skeleton=skeleton,
        images=Images(
            id=np.array([record["id"] for record in images], np.int64),
            file_name=names,
            width=np.array([record["width"] for record in images], np.int32),
            height=np.array([record["height"] for record in images], np.int32),
            boxes_complete=np.array([_is_complete(record) for record in images], bool),
        ),
        people=table,
        source=ImageFolder(folder, names),
        outlines={record["id"]: outline for record in people if (outline := _outline(record))},
    )


def _sound(
    what: str,
    records: list[dict],
    faults: Callable[[dict], Faults],
    wrong: Callable[[str, str], None],
) -> list[dict]:
    """The records without a fault, and with an id of their own; of the others it is told."""
    sound: dict[int, dict] = {}
    for record in records:
        found = [*_integer_faults(record, "id"), *faults(record)]
        for kind, text in found:
            wrong(kind, f"{what} {record.get('id')}: {text}")
        if not found and record["id"] in sound:
            wrong(f"duplicate {what} id", f"{what} id {record['id']} appears more than once")
        elif not found:
            sound[record["id"]] = record
    return list(sound.values())


def _integer_faults(record: Mapping, field: str) -> Faults:
    value = record.get(field)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        problem = "is missing" if field not in record else f"= {value!r} is not an integer"
        yield "malformed", f"field {field!r} {problem}"


def _image_faults(record: Mapping) -> Faults:
    for field in ("width", "height"):
        yield from (found := list(_integer_faults(record, field)))
        if not found and not 0 < record[field] < 2**31:
            yield "malformed", f"field {field!r} = {record[field]} is no size"
    name = record.get("file_name")
    if not isinstance(name, str) or not is_inside(name):
        kind = "unsafe file name" if isinstance(name, str) else "malformed"
        yield kind, f"field 'file_name' = {name!r} is not a path inside the image folder"


def _person_faults(record: Mapping, images: Mapping[int, int], joints: int) -> Faults:
    yield from (found := list(_integer_faults(record, "image_id")))
    if not found and record["image_id"] not in images:
        yield "unknown image", f"image_id {record['image_id']} is not among the images"
    yield from _number_faults(record, "bbox", 4)
    yield from _number_faults(record, "area", None)
    if joints:
        yield from (found := list(_number_faults(record, "keypoints", 3 * joints)))
        if not found and not {0, 1, 2}.issuperset(record["keypoints"][2::3]):
            yield "keypoint flag", "a keypoint's v is not 0, 1 or 2"
    polygons = record.get("segmentation")
    if isinstance(polygons, list) and not all(map(_is_polygon, polygons)):
        yield (
            "malformed",
            "field 'segmentation' is not a list of polygons (x0, y0, x1, y1, ...)",
        )


def _number_faults(record: Mapping, field: str, count: int | None) -> Faults:
    """Of a field of `count` finite numbers; None for one that is no list."""
    wanted = "a number" if count is None else f"{count} numbers"
    if field not in record:
        yield "malformed", f"field {field!r} is missing"
        return
    value = record[field]
    values = [value] if count is None else value
    if not isinstance(values, list) or len(values) != (count or 1):
        size = f"{len(values)} values" if isinstance(values, list) else repr(value)
        kind = "keypoint count" if field == "keypoints" else "malformed"
        yield kind, f"field {field!r} has {size}, not {wanted}"
    elif not _are_finite(values):
        yield "malformed", f"field {field!r} is not {wanted}: {value}"


def _are_finite(values: list) -> bool:
    try:
        return math.isfinite(math.fsum(values))  # refuses what is no number
    except (TypeError, OverflowError, ValueError):
        return False


def _is_polygon(flat: Any) -> bool:
    return isinstance(flat, list) and len(flat) % 2 == 0 and _are_finite(flat)


def _is_complete(image: Mapping) -> bool:
    """PASCAL VOC's small or hard people may be left out, which the image then says."""
    return bool(image.get("person_boxes_complete", True)) and not image.get("difficult_left_out")


def _person_category(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The category of people: the one named "person", or that with its id."""
    unnamed = {"id": PERSON}
    categories = content.get("categories") or [unnamed | {"keypoints": None}]
    named = [c for c in categories if c.get("name") == "person"]
    return (named or [c for c in categories if c.get("id") == PERSON] or [unnamed])[0]


def _people_records(content: Mapping[str, Any], wrong: Callable[[str, str], None]) -> list[dict]:
    person = _person_category(content).get("id", PERSON)
    known = [category.get("id") for category in content.get("categories") or [{"id": PERSON}]]
    people = []
    for record in content["annotations"]:
        category = record.get("category_id", person)
        if category == person:
            people.append(record)
        else:
            kind = "other category" if category in known else "unknown category"
            wrong(kind, f"annotation {record.get('id')}: category_id {category}")
    return people


def declared_skeleton(content: Mapping[str, Any]) -> Skeleton:
    """The keypoint set of the category of people; COCO's if it declares none.

    A set of its own has `keypoints` (names; left_x and right_x mirror each other), `skeleton`
    (limbs, pairs of joint numbers from 1) and `sigmas`.

    Raises:
      ValueError: It is neither COCO's nor complete.
    """
    category = _person_category(content)
    names = category.get("keypoints")
    if names is None or list(names) == list(COCO.names):
        return COCO
    if "sigmas" not in category:
        raise ValueError(
            f"{_difference(names)}, and a keypoint set of its own needs 'sigmas' in its category: "
            f"a number for each joint, COCO's lie between {min(COCO.sigmas)} and {max(COCO.sigmas)}"
        )
    limbs = category.get("skeleton") or ()
    try:
        pairs = [(names[a - 1], names[b - 1]) for a, b in limbs if min(a, b) > 0]
    except (IndexError, TypeError, ValueError):
        pairs = []
    if len(pairs) < len(limbs):
        raise ValueError(f"'skeleton' must be pairs of joint numbers 1 to {len(names)}: {limbs}")
    return Skeleton.create(names, limbs=pairs, sigmas=category["sigmas"])


def _difference(names: Sequence[str]) -> str:
    if len(names) != len(COCO):
        return f"{len(names)} joints are declared, COCO has {len(COCO)}"
    k = next(k for k, name in enumerate(COCO.names) if names[k] != name)
    return f"joint {k} is {names[k]!r}, COCO's is {COCO.names[k]!r}"


def _people(
    records: list[dict], rows: Mapping[int, int], joints: int, skeleton: Skeleton
) -> People:
    count = len(records)
    points = np.zeros((count, len(skeleton), 3))
    if joints:
        flat = np.array([record["keypoints"] for record in records], np.float64)
        points = flat.reshape(points.shape)
    box = np.array([record["bbox"] for record in records], np.float64).reshape(count, 4)
    return People(
        id=np.array([record["id"] for record in records], np.int64),
        image=np.array([rows[record["image_id"]] for record in records], np.int32),
        box=from_xywh(box),
        area=np.array([record["area"] for record in records], np.float64),
        is_crowd=np.array([bool(record.get("iscrowd", 0)) for record in records], bool),
        keypoints=(points[..., :2] * (points[..., 2:] > 0)).astype(np.float32),
        visibility=points[..., 2].astype(np.uint8),
    )


def _outline(record: Mapping) -> Outline:
    """The person's polygons; run-length masks, which crowds have, are left out."""
    polygons = record.get("segmentation")
    if not isinstance(polygons, list):
        return ()
    # COCO's pixel i lies between i and i + 1; here its centre is at i.
    return tuple(
        np.array(flat, np.float32).reshape(-1, 2) - 0.5 for flat in polygons if len(flat) > 4
    )


def as_coco(dataset: Dataset) -> dict[str, Any]:
    """The tables as the content of a COCO annotation file, as its evaluation wants it."""
    images, people = dataset.images, dataset.people
    joints = np.concatenate([people.keypoints, people.visibility[..., None]], axis=-1)
    columns = zip(
        people.id.tolist(),
        images.id[people.image].tolist(),
        to_xywh(people.box).tolist(),
        people.area.tolist(),
        people.is_crowd.astype(int).tolist(),
        joints.reshape(len(people), 3 * joints.shape[1]).tolist(),
        people.num_keypoints.tolist(),
    )
    names = ("id", "image_id", "bbox", "area", "iscrowd", "keypoints", "num_keypoints")
    image_columns = zip(
        images.id.tolist(),
        images.file_name,
        images.width.tolist(),
        images.height.tolist(),
        images.boxes_complete.tolist(),
    )
    image_names = ("id", "file_name", "width", "height", "person_boxes_complete")
    return {
        "images": [dict(zip(image_names, row)) for row in image_columns],
        "annotations": [
            dict(zip(names, row), category_id=PERSON, **_segmentation(dataset.outlines.get(row[0])))
            for row in columns
        ],
        "categories": [{"id": PERSON, "name": "person", **_declaration(dataset)}],
    }


def _declaration(dataset: Dataset) -> dict[str, Any]:
    """What the category says of the joints; of a set of boxes only, nothing."""
    skeleton = dataset.skeleton
    if not dataset.labelled.any():
        return {}
    names = {"keypoints": list(skeleton.names)}
    if skeleton == COCO:
        return names
    limbs = [[a + 1, b + 1] for a, b in skeleton.limbs]
    return names | {"skeleton": limbs, "sigmas": list(skeleton.sigmas)}


def _segmentation(outline: Outline | None) -> dict[str, Any]:
    """The field of an annotation, if the person has an outline; undoes `_outline`."""
    if outline is None:
        return {}
    return {"segmentation": [(polygon + 0.5).ravel().tolist() for polygon in outline]}


def write(directory: Path, dataset: Dataset, *, description: str = "") -> Path:
    """Writes a data set in COCO's own layout: the annotations, and a link to the image folder.

    Args:
      directory: The new data directory; splits that it has already stay.
      dataset: Of images that are files.
      description: Goes into the annotation file.

    Returns:
      The annotation file.

    Raises:
      DataError: The images are no files.
    """
    if not isinstance(dataset.source, ImageFolder):
        raise DataError(f"{dataset.directory}: its images are no files that could be linked to")
    path = directory / "annotations" / f"person_keypoints_{dataset.split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = directory / f"{dataset.split}2017"
    folder.symlink_to(dataset.source.folder.resolve(), target_is_directory=True)
    path.write_text(json.dumps({"info": {"description": description}, **as_coco(dataset)}))
    return path
