"""COCO's annotation format: reads a directory into a `Dataset`, and writes one.

Three layouts of files are understood, tried in this order (SPLIT is "train" or "val"):

    annotations/person_keypoints_{SPLIT}2017.json + {SPLIT}2017/      COCO's own
    annotations/*_{SPLIT}.json                    + images/
    annotations.json                              + images/           train only
"""

import contextlib
import difflib
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_pipeline.readers.categories import (
    Category,
    chosen_categories,
    lower,
    people_category,
)
from data_pipeline.readers.classes import join_classes
from data_pipeline.readers.reader import (
    ASSUMED,
    PEOPLE,
    REFUSED,
    ImageFolder,
    Problem,
    Report,
    is_inside,
    link_pictures,
    load_json,
    number,
    numbers,
    refuse,
    whole,
)
from data_pipeline.readers.shapes import AREA
from data_pipeline.schema import (
    SPLITS,
    DataError,
    Dataset,
    Images,
    MissingDataError,
    Outline,
    People,
)
from g_rmi.config import did_you_mean
from g_rmi.geometry import MAX_COORDINATE, from_xywh, to_xywh
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import PERSON

Faults = Iterator[tuple[str, str]]  # kinds and texts of a record's problems
Wrong = Callable[[str, str], None]  # is told of them

_FLAGS = (0, 1, None)
_SEEN = {0, 1, 2}  # what v can be
_SHARE = 1.5  # No box in pixels reaches less far; one in shares does, if it leaves its picture.


def find_split(directory: str | Path, split: str) -> tuple[Path, Path]:
    """The annotation file of a split and the folder of its pictures, both existing.

    A MissingDataError names what was looked for and the nearest thing that is there; a DataError
    several annotation files that fit, or a folder of pictures that is not there.
    """
    path, folder = _annotations(directory, split)
    if not folder.is_dir():
        raise DataError(f"{path}: no image folder {folder}{existing(folder)}")
    return path, folder


def _annotations(directory: str | Path, split: str) -> tuple[Path, Path]:
    """The annotation file of a split, and where its pictures are expected."""
    directory = Path(directory)
    if not directory.is_dir():
        raise MissingDataError(f"no data directory {directory}{existing(directory)}")
    annotations, single = directory / "annotations", directory / "annotations.json"
    own = annotations / f"person_keypoints_{split}2017.json"
    others = sorted(annotations.glob(f"*_{split}.json"))
    if own.is_file():
        path, folder = own, directory / f"{split}2017"
    elif len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise DataError(f"{annotations}: several files fit split {split!r}: {names}")
    elif others or (single.is_file() and split == "train"):
        path, folder = (others or [single])[0], directory / "images"
    elif single.is_file():
        raise MissingDataError(f"{single} has only a train split, not {split!r}")
    else:
        found = sorted(path.name for path in annotations.glob("*.json"))
        raise MissingDataError(
            f"{directory}: no annotations of split {split!r}; looked for "
            f"annotations/{own.name}, annotations/*_{split}.json and annotations.json; "
            + (f"found annotations/{', annotations/'.join(found)}" if found else "found none")
        )
    return path, folder


def existing(path: Path) -> str:
    """The end of a message: the nearest thing that exists, if that helps."""
    if path.exists():
        return ", but a file"
    parent = next(parent for parent in path.absolute().parents if parent.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    close = difflib.get_close_matches(missing, [p.name for p in parent.iterdir()], n=1)
    if close:
        return f"; did you mean {parent / close[0]}?"
    return f"; {parent} exists" if parent.name else ""  # the root always does


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in COCO's format."""
    found = []
    for split in SPLITS:
        with contextlib.suppress(MissingDataError):
            _annotations(directory, split)
            found.append(split)
    return tuple(found)


def read(
    directory: Path, split: str, report: Report = refuse, categories: Sequence[str] = ()
) -> Dataset:
    """Reads a split; see `Reader.read`.

    Its keypoint set is COCO's, or that which the category of people declares. With names of
    `categories` each is a class of its own, see `chosen_categories`.
    """
    path, folder = find_split(directory, split)
    content = load_json(path)
    for name in ("images", "annotations"):
        records = content.get(name) if isinstance(content, dict) else None
        if not isinstance(records, list) or (records and not any(_objects(records))):
            raise DataError(f"{path}: no list of {name!r}: not a COCO annotation file")

    def wrong(kind: str, text: str) -> None:
        report(Problem(kind, path, text))

    for name in ("images", "annotations"):
        for i, record in enumerate(content[name]):
            if not isinstance(record, dict):
                wrong("malformed", f"{name}, entry {i}: {record!r:.80} is no object")
        content[name] = list(_objects(content[name]))
    table = functools.partial(_table, directory, split, content, folder, wrong)
    if categories:
        try:
            chosen = chosen_categories(content, categories)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        content["annotations"] = _numbered(content["annotations"])
        sets = {name: table(category) for name, (_, category) in chosen.items()}
        return join_classes(sets, [number for number, _ in chosen.values()])
    try:
        people_are = people_category(content)
    except ValueError as error:
        wrong("wrong joints", str(error))
        people_are = Category(frozenset(), frozenset(), None)
    return table(people_are)


def _table(
    directory: Path,
    split: str,
    content: Mapping[str, Any],
    folder: Path,
    wrong: Wrong,
    people_are: Category,
) -> Dataset:
    """The pictures of an annotation file, and the people or whatever else is of one category."""
    skeleton = people_are.skeleton or COCO
    joints = len(skeleton) if people_are.skeleton else 0
    images = _sound("image", content["images"], _image_faults, wrong)
    rows = {record["id"]: row for row, record in enumerate(images)}
    faults = functools.partial(_person_faults, images=rows, joints=joints)
    records = list(_people_records(content["annotations"], people_are, wrong))
    records = _sound("annotation", _numbered(records), faults, wrong)
    if guessed := sum(_estimate_area(record) for record in records):
        wrong(ASSUMED, f"has no areas of {guessed} of {len(records)} people ({AREA} of the box)")
    records.sort(key=lambda record: rows[record["image_id"]])
    people = _people(records, rows, joints, skeleton)
    if joints and not (people.is_crowd.all() or people.num_keypoints.any()):
        wrong("no joints", "joints are declared, but no annotation has one with v > 0")
    for record, count in zip(records, people.num_keypoints.tolist() if joints else ()):
        said = record.get("num_keypoints", count)
        if said != count and whole(said) != count:
            wrong("num_keypoints", f"annotation {record['id']}: says {said}, has {count}")
    names = _inside([record["file_name"] for record in images], folder)
    first: dict[str, int] = {}
    for record, name in zip(images, names):
        if (other := first.setdefault(name, record["id"])) != record["id"]:
            wrong("same picture", f"images {other} and {record['id']} are both {name}")
    pictures = Images(
        id=np.array([record["id"] for record in images], np.int64),
        file_name=names,
        width=np.array([record["width"] for record in images], np.int32),
        height=np.array([record["height"] for record in images], np.int32),
        boxes_complete=np.array([_is_complete(record) for record in images], bool),
    )
    large = (np.maximum(pictures.width, pictures.height) > 5 * _SHARE).all()
    for what, values in (("boxes", people.box), ("joints", people.keypoints)):
        if large and values.any() and values.max() <= _SHARE and (values % 1).any():
            wrong("shares", f"all {what} lie between 0 and 1: shares of the pictures, not pixels?")
    outlines = {record["id"]: outline for record in records if (outline := _outline(record))}
    source = ImageFolder(folder, names)
    called = people_are.ours
    return Dataset(directory, split, skeleton, pictures, people, source, outlines, called)


def _objects(records: list) -> Iterator[dict]:
    return (record for record in records if isinstance(record, dict))


def _estimate_area(record: dict) -> bool:
    """Fills in the area that nobody gave, from the box; whether that was so."""
    if missing := record.get("area") is None:
        record["area"] = AREA * record["bbox"][2] * record["bbox"][3]
    return missing


def _sound(
    what: str, records: list[dict], faults: Callable[[dict], Faults], wrong: Wrong
) -> list[dict]:
    """The records without a fault, and with an id of their own; of the others it is told."""
    sound: dict[int, dict] = {}
    for record in records:
        found = [*_integer_faults(record, "id"), *faults(record)]
        for kind, text in found:
            wrong(kind, f"{what} {record.get('id')!s:.40}: {text}")
        found = [kind for kind, _ in found if kind in REFUSED]
        if not found and record["id"] in sound:
            wrong(f"duplicate {what} id", f"{what} id {record['id']} appears more than once")
        elif not found:
            sound[record["id"]] = record
    return list(sound.values())


def _numbered(records: list[dict]) -> list[dict]:
    """The records, those without an id numbered after the others."""
    if nameless := [record for record in records if record.get("id") is None]:
        last = max((whole(record.get("id")) or 0 for record in records), default=0)
        for i, record in enumerate(nameless, last + 1):
            record["id"] = i
    return records


def _image_faults(record: dict) -> Faults:
    for field in ("person_boxes_complete", "difficult_left_out"):
        yield from _flag_faults(record, field)
    for field in ("width", "height"):
        yield from (found := list(_integer_faults(record, field)))
        if not found and not 0 < record[field] < 2**31:
            yield "malformed", f"field {field!r} = {record[field]} is no size"
    name = record.get("file_name")
    if not isinstance(name, str) or not is_inside(name):
        kind = "unsafe file name" if isinstance(name, str) else "malformed"
        yield kind, f"field 'file_name' = {name!r} is not a path inside the image folder"
    else:
        record["file_name"] = PurePosixPath(name.replace("\\", "/")).as_posix()


def _inside(names: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Names inside the image folder; tools also write them from the folder above, images/1.jpg."""
    above = f"{folder.name}/"
    if all(name.startswith(above) for name in names) and not (folder / above).exists():
        names = [name.removeprefix(above) for name in names]
    return tuple(names)


def _person_faults(record: dict, *, images: Mapping[int, int], joints: int) -> Faults:
    yield from (found := list(_integer_faults(record, "image_id")))
    if not found and record["image_id"] not in images:
        yield "unknown image", f"image_id {record['image_id']} is not among the images"
    yield from _number_faults(record, "bbox", 4)
    if (said := record.get("area")) is None:
        if close := did_you_mean("area", record.keys() - {"area"}):
            yield "malformed", f"field 'area' is missing{close}"
    elif (area := number(said, MAX_COORDINATE**2)) is None or area < 0:
        yield "malformed", f"field 'area' is no area, or too large: {said!r:.80}"
    else:
        record["area"] = area
    yield from _flag_faults(record, "iscrowd")
    if joints:
        if found := list(_number_faults(record, "keypoints", 3 * joints)):
            _complete_joints(record, joints)
            yield from (found := list(_number_faults(record, "keypoints", 3 * joints)))
        if not found and not _SEEN.issuperset(record["keypoints"][2::3]):
            k, v = next((k, v) for k, v in enumerate(record["keypoints"][2::3]) if v not in _SEEN)
            yield "keypoint flag", f"v of keypoint {k} is {v:g}, not 0, 1 or 2"
    polygons = record.get("segmentation")
    if isinstance(polygons, list) and not all(map(_is_polygon, polygons)):
        text = "field 'segmentation' is not a list of polygons (x0, y0, x1, y1, ...)"
        yield "malformed", text
    if isinstance(polygons, dict) and str(polygons.get("counts")).startswith(("b'", 'b"')):
        yield "mask", "field 'segmentation': its counts are the text of Python's bytes, b'...'"


def _complete_joints(record: dict, joints: int) -> None:
    """Writes zeros for joints that are certainly not labelled: none given, or null with v = 0."""
    said = record.get("keypoints")
    if said in (None, []):
        # As long a list would be that of a misspelt field.
        others = (len(value) for value in record.values() if isinstance(value, list))
        if not whole(record.get("num_keypoints")) and 3 * joints not in others:
            record["keypoints"] = [0] * (3 * joints)
    elif isinstance(said, list):
        flat = list(itertools.chain(*said)) if all(isinstance(j, list) for j in said) else said
        if len(flat) == 3 * joints:
            seen = [number(v) != 0 for v in flat[2::3]]
            record["keypoints"] = [v if seen[i // 3] else 0 for i, v in enumerate(flat)]


def _flag_faults(record: dict, field: str) -> Faults:
    """Makes the field 0 or 1 where it is given, or says why it cannot."""
    if (said := record.get(field)) not in _FLAGS:
        record[field] = whole(said)
        if record[field] not in (0, 1):
            yield "malformed", f"field {field!r} = {said!r} is not 0 or 1"


def _integer_faults(record: dict, field: str) -> Faults:
    """Makes the field an integer, or says why it cannot."""
    value = record.get(field)
    if type(value) is int and -(2**63) <= value < 2**63:
        return
    if field not in record:
        yield "malformed", f"field {field!r} is missing{did_you_mean(field, record)}"
    elif (certain := whole(value)) is None:
        yield "malformed", f"field {field!r} = {value!r:.80} is not an integer of 63 bits"
    else:
        record[field] = certain


def _number_faults(record: dict, field: str, count: int) -> Faults:
    """Makes the field a list of so many numbers, or says why it cannot."""
    value = record.get(field)
    if field not in record:
        yield "malformed", f"field {field!r} is missing{did_you_mean(field, record)}"
    elif (certain := numbers(value, count)) is not None:
        record[field] = certain
    elif not isinstance(value, list) or len(value) != count:
        size = f"{len(value)} values" if isinstance(value, list) else f"{value!r:.80}"
        kind = "keypoint count" if field == "keypoints" else "malformed"
        yield kind, f"field {field!r} has {size}, not {count} numbers"
    else:
        sizes = [math.inf if number(v) is None else abs(number(v) or 0) for v in value]
        odd = value[sizes.index(max(sizes))]
        yield "malformed", f"field {field!r} holds {odd!r:.80}, which is no number or too large"


def _is_polygon(flat: Any) -> bool:
    with contextlib.suppress(TypeError, OverflowError):
        return isinstance(flat, list) and len(flat) % 2 == 0 and math.hypot(*flat) < MAX_COORDINATE
    return False


def _is_complete(image: Mapping) -> bool:
    """PASCAL VOC's small or hard people may be left out, which the image then says."""
    return bool(image.get("person_boxes_complete", True)) and not image.get("difficult_left_out")


def _people_records(records: list[dict], people_are: Category, wrong: Wrong) -> Iterator[dict]:
    """The annotations of people; of the others it tells."""
    ours, others = people_are.ours, people_are.others - people_are.ours
    if not ours:
        there = {_category(record) for record in records} - {None}
        ours = there if len(there) == 1 else {PERSON, *PEOPLE}
    for record in records:
        said, category = record.get("category_id"), _category(record)
        if category in ours or (said is None and not others):
            yield record
        else:
            kind = "other category" if category in others else "unknown category"
            kind = "malformed" if category is None else kind
            known = ", ".join(map(str, sorted(ours, key=str)))
            text = f"category_id {said!r:.80}; people have {known:.80}"
            wrong(kind, f"annotation {record.get('id')!s:.40}: {text}")


def _category(record: Mapping) -> int | str | None:
    """The number or, in lower case, the name of an annotation's category; None: neither."""
    said = record.get("category_id")
    if type(said) is int:
        return said
    return lower(said) if whole(said) is None else whole(said)


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
        is_crowd=np.array([bool(record.get("iscrowd")) for record in records], bool),
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
    annotations = _records(
        id=people.id,
        image_id=images.id[people.image],
        bbox=to_xywh(people.box),
        area=people.area,
        iscrowd=people.is_crowd.astype(int),
        keypoints=joints.reshape(len(people), 3 * joints.shape[1]),
        num_keypoints=people.num_keypoints,
        category_id=np.full(len(people), PERSON),
    )
    for record in annotations:
        if outline := dataset.outlines.get(record["id"]):
            record["segmentation"] = [(polygon + 0.5).ravel().tolist() for polygon in outline]
    return {
        "images": _records(
            id=images.id,
            file_name=np.array(images.file_name),
            width=images.width,
            height=images.height,
            person_boxes_complete=images.boxes_complete,
        ),
        "annotations": annotations,
        "categories": [{"id": PERSON, "name": "person", **_declaration(dataset)}],
    }


def _records(**columns: np.ndarray) -> list[dict[str, Any]]:
    """A dictionary for each row of some columns."""
    return [dict(zip(columns, row)) for row in zip(*(c.tolist() for c in columns.values()))]


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


def write(directory: Path, dataset: Dataset, report: Report = refuse, *, model: str = "") -> Path:
    """Writes a split in COCO's own layout; see `Writer.write`. There is a place for everything."""
    del report
    path = directory / "annotations" / f"person_keypoints_{dataset.split}2017.json"
    link_pictures(directory / f"{dataset.split}2017", dataset)
    path.parent.mkdir(exist_ok=True)
    info = {"description": f"with labels by {model}" if model else ""}
    path.write_text(json.dumps({"info": info, **as_coco(dataset)}))
    return path
