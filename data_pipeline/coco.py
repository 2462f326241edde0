"""Reads a data directory in COCO's layout, or one prepared by `tfds build`, into a `Dataset`.

Three layouts of files are understood, tried in this order (SPLIT is "train" or "val"):

    annotations/person_keypoints_{SPLIT}2017.json + {SPLIT}2017/      COCO's own
    annotations/*_{SPLIT}.json                    + images/
    annotations.json                              + images/           train only
"""

import dataclasses
import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from data_pipeline.prepared import SPLITS, find_prepared, read_prepared
from data_pipeline.schema import (
    DataError,
    Dataset,
    Images,
    MissingDataError,
    Outline,
    People,
)
from g_rmi.skeleton import COCO, Skeleton


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


def find_splits(directory: str | Path) -> tuple[str, ...]:
    """The splits a directory has.

    Raises:
      MissingDataError: It has none.
    """
    found, missing = [], []
    for split in SPLITS:
        try:
            find_split(directory, split)
            found.append(split)
        except MissingDataError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return tuple(found)


def read(directory: str | Path, split: str) -> Dataset:
    """Reads one split of a data directory: in a layout of this module, or a prepared one.

    Its keypoint set is COCO's, or that which the category of people declares.

    Raises:
      MissingDataError: See `find_split`.
      DataError: The annotations are not what COCO's format asks for; names the file, the
        annotation and the field.
    """
    if prepared := find_prepared(directory):
        dataset = read_prepared(prepared, split)
        return dataclasses.replace(dataset, directory=Path(directory))
    path, folder = find_split(directory, split)
    content = load_json(path)
    images = _images(path, content)
    try:
        skeleton = declared_skeleton(content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return Dataset(
        directory=Path(directory),
        split=split,
        skeleton=skeleton,
        images=images,
        people=_people(path, content, images, skeleton),
        source=ImageFolder(folder, images.file_name),
        outlines=_outlines(path, content),
    )


class ImageFolder:
    """Encoded pictures as files, read when asked for."""

    def __init__(self, folder: Path, file_names: tuple[str, ...]):
        self._folder = str(folder)
        self._file_names = file_names

    def read(self, index: int) -> bytes:
        """The content of the file."""
        with open(self.name(index), "rb", buffering=0) as file:
            return file.read()

    def name(self, index: int) -> str:
        """The path of the file."""
        return os.path.join(self._folder, self._file_names[index])


def load_json(path: Path) -> Any:
    """Parses a JSON file.

    Raises:
      DataError: It is no JSON; names the file, line and column.
    """
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a JSON file: {error}") from None


def is_inside(file_name: str) -> bool:
    """Whether a file name from an annotation file stays inside its folder."""
    posix, windows = PurePosixPath(file_name), PureWindowsPath(file_name)
    anchored = posix.is_absolute() or windows.is_absolute() or windows.drive
    return not (anchored or ".." in windows.parts or "\0" in file_name or not posix.name)


def person_category(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The category of people: the one named "person", or that with id 1."""
    categories = content.get("categories") or [{"id": 1, "keypoints": None}]
    named = [c for c in categories if c.get("name") == "person"]
    return (named or [c for c in categories if c.get("id") == 1] or [{"id": 1}])[0]


def has_keypoints(content: Mapping[str, Any]) -> bool:
    """Whether the person category declares joints; a set of boxes only does not."""
    return "keypoints" in person_category(content)


def declared_skeleton(content: Mapping[str, Any]) -> Skeleton:
    """The keypoint set of the category of people; COCO's if it declares none.

    A set of its own has `keypoints` (names; left_x and right_x mirror each other), `skeleton`
    (limbs, pairs of joint numbers from 1) and `sigmas`.

    Raises:
      ValueError: It is neither COCO's nor complete.
    """
    category = person_category(content)
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


def as_coco(dataset: Dataset) -> dict[str, Any]:
    """The tables as the content of a COCO annotation file, as its evaluation wants it."""
    images, people = dataset.images, dataset.people
    joints = np.concatenate([people.keypoints, people.visibility[..., None]], axis=-1)
    box = np.concatenate([people.box[:, :2], people.box[:, 2:] - people.box[:, :2]], axis=1)
    columns = zip(
        people.id.tolist(),
        images.id[people.image].tolist(),
        box.tolist(),
        people.area.tolist(),
        people.is_crowd.astype(int).tolist(),
        joints.reshape(len(people), 3 * joints.shape[1]).tolist(),
        people.num_keypoints.tolist(),
    )
    names = ("id", "image_id", "bbox", "area", "iscrowd", "keypoints", "num_keypoints")
    # A set of boxes only declares no joints.
    joint_names = {"keypoints": list(dataset.skeleton.names)} if dataset.labelled.any() else {}
    return {
        "images": [
            {
                "id": int(images.id[i]),
                "file_name": images.file_name[i],
                "width": int(images.width[i]),
                "height": int(images.height[i]),
                "person_boxes_complete": bool(images.boxes_complete[i]),
            }
            for i in range(len(images))
        ],
        "annotations": [
            dict(zip(names, row), category_id=1, **_segmentation(dataset.outlines.get(row[0])))
            for row in columns
        ],
        "categories": [{"id": 1, "name": "person", **joint_names}],
    }


def _segmentation(outline: Outline | None) -> dict[str, Any]:
    """The field of an annotation, if the person has an outline; undoes `_outlines`."""
    if outline is None:
        return {}
    return {"segmentation": [(polygon + 0.5).ravel().tolist() for polygon in outline]}


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


def _section(path: Path, content: Any, name: str) -> list:
    records = content.get(name) if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise DataError(f"{path}: no list of {name!r}: not a COCO annotation file")
    return records


def _check_unique(path: Path, what: str, ids: np.ndarray) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: {what} id {values[counts > 1][0]} appears more than once")


def _integers(path: Path, what: str, records: Iterable[Mapping], field: str) -> np.ndarray:
    """One integer field of all records, int64."""
    values = []
    for record in records:
        value = record.get(field)
        if type(value) is not int or not -(2**63) <= value < 2**63:
            problem = "is missing" if field not in record else f"= {value!r} is not an integer"
            raise DataError(f"{path}: {what} {record.get('id')}: field {field!r} {problem}")
        values.append(value)
    return np.array(values, np.int64)


def _sides(path: Path, records: list, field: str) -> np.ndarray:
    """The widths or heights of all images, int32."""
    sides = _integers(path, "image", records, field)
    for record, side in zip(records, sides.tolist()):
        if not 0 < side < 2**31:
            raise DataError(f"{path}: image {record['id']}: field {field!r} = {side} is no size")
    return sides.astype(np.int32)


def _images(path: Path, content: Any) -> Images:
    records = _section(path, content, "images")
    ids = _integers(path, "image", records, "id")
    _check_unique(path, "image", ids)
    names = []
    for record in records:
        name = record.get("file_name")
        if not isinstance(name, str) or not is_inside(name):
            raise DataError(
                f"{path}: image {record['id']}: field 'file_name' = {name!r} is not a path inside "
                "the image folder"
            )
        names.append(name)
    return Images(
        id=ids,
        file_name=tuple(names),
        width=_sides(path, records, "width"),
        height=_sides(path, records, "height"),
        boxes_complete=np.array([_is_complete(record) for record in records], bool),
    )


def _is_complete(image: Mapping) -> bool:
    """PASCAL VOC's small or hard people may be left out, which the image then says."""
    return bool(image.get("person_boxes_complete", True)) and not image.get("difficult_left_out")


def _people_records(path: Path, content: Any) -> list:
    person = person_category(content)["id"]
    records = _section(path, content, "annotations")
    return [record for record in records if record.get("category_id", person) == person]


def _people(path: Path, content: Any, images: Images, skeleton: Skeleton) -> People:
    records = _people_records(path, content)
    ids = _integers(path, "annotation", records, "id")
    _check_unique(path, "annotation", ids)
    image = _image_rows(path, ids, _integers(path, "annotation", records, "image_id"), images)
    box = _numbers(path, records, "bbox", 4)
    if has_keypoints(content):
        joints = _numbers(path, records, "keypoints", 3 * len(skeleton))
    else:
        joints = np.zeros((len(records), 3 * len(skeleton)))
    joints = joints.reshape(-1, len(skeleton), 3)
    bad = ~np.isin(joints[..., 2], (0, 1, 2)).all(axis=1)
    if bad.any():
        raise DataError(f"{path}: annotation {ids[bad][0]}: a keypoint's v is not 0, 1 or 2")
    people = People(
        id=ids,
        image=image,
        box=np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1),
        area=_numbers(path, records, "area", None),
        is_crowd=np.array([bool(record.get("iscrowd", 0)) for record in records], bool),
        keypoints=(joints[..., :2] * (joints[..., 2:] > 0)).astype(np.float32),
        visibility=joints[..., 2].astype(np.uint8),
    )
    return people.take(np.argsort(image, kind="stable"))


def _outlines(path: Path, content: Any) -> dict[int, Outline]:
    """The people's polygons; run-length masks, which crowds have, are left out."""
    outlines = {}
    for record in _people_records(path, content):
        polygons = record.get("segmentation")
        if not isinstance(polygons, list):
            continue
        try:
            # COCO's pixel i lies between i and i + 1; here its centre is at i.
            points = [np.array(flat, np.float32).reshape(-1, 2) - 0.5 for flat in polygons]
        except (TypeError, ValueError):
            points = None
        if points is None or not all(np.isfinite(polygon).all() for polygon in points):
            raise DataError(
                f"{path}: annotation {record['id']}: field 'segmentation' is not a list of "
                "polygons (x0, y0, x1, y1, ...)"
            )
        if outline := tuple(polygon for polygon in points if len(polygon) > 2):
            outlines[record["id"]] = outline
    return outlines


def _image_rows(path: Path, ids: np.ndarray, image_ids: np.ndarray, images: Images) -> np.ndarray:
    order = np.argsort(images.id)
    row = np.searchsorted(images.id, image_ids, sorter=order)
    row = order[np.minimum(row, len(order) - 1)] if len(order) else np.zeros_like(row)
    unknown = images.id[row] != image_ids if len(order) else np.ones(len(ids), bool)
    if unknown.any():
        raise DataError(
            f"{path}: annotation {ids[unknown][0]}: image_id {image_ids[unknown][0]} is not among "
            "the images"
        )
    return row.astype(np.int32)


def _numbers(path: Path, records: list, field: str, count: int | None) -> np.ndarray:
    """One field of finite numbers of all records, float64 [N, count] or [N]."""
    wanted = "a number" if count is None else f"{count} numbers"
    for record in records:
        if field not in record:
            raise DataError(f"{path}: annotation {record['id']}: field {field!r} is missing")
        value = record[field]
        values = [value] if count is None else value
        if not isinstance(values, list) or len(values) != (count or 1):
            size = f"{len(values)} values" if isinstance(values, list) else repr(value)
            raise DataError(
                f"{path}: annotation {record['id']}: field {field!r} has {size}, not {wanted}"
            )
    shape = (len(records),) if count is None else (len(records), count)
    try:
        table = np.array([record[field] for record in records], np.float64).reshape(shape)
    except (TypeError, ValueError):
        table = None
    if table is None or not np.isfinite(table).all():
        record = next(r for r in records if not _is_finite(r[field]))
        raise DataError(
            f"{path}: annotation {record['id']}: field {field!r} is not {wanted}: {record[field]}"
        )
    return table


def _is_finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(np.array(value, np.float64)).all())
    except (TypeError, ValueError):
        return False
