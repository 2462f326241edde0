"""Label Studio's exports, JSON and JSON_MIN: reads one into a `Dataset`, and writes the first.

People are keypoints of one `parentID`, that of the person's rectangle; without any, and JSON_MIN
never has one, keypoints belong to the rectangle around them. A keypoint is hidden if a choice of
its region says so. Numbers are percent of the picture's sides. The pictures are in `images/` beside
the only JSON file.
"""

import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from data_pipeline.images import PICTURES, ImageError, read_header
from data_pipeline.readers.categories import lower
from data_pipeline.readers.reader import (
    HIDDEN,
    Problem,
    Report,
    link_pictures,
    load_json,
    number,
    numbers,
    refuse,
    whole,
)
from data_pipeline.readers.shapes import (
    Box,
    Person,
    Picture,
    Point,
    Wrong,
    below,
    declare,
    gather,
    joints_of,
    left_out,
    people_of,
    pictures_of,
    split_folders,
    tables,
    upright,
)
from data_pipeline.schema import DataError, Dataset, MissingDataError

_FILE = "tasks.json"
_BOXES, _POINTS = "rectanglelabels", "keypointlabels"
_POINT_SIZE = 0.5  # percent of the picture's width
# What an entry without regions has, in JSON and in JSON_MIN; COCO's results have none of it.
_OWN = {"data", "annotator", "annotation_id", "completion_id", "lead_time"}
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what goes before the name of an uploaded file


class _Region(NamedTuple):
    """A rectangle or a keypoint."""

    where: str
    id: str | None
    parent: str | None
    label: str
    is_box: bool
    value: Mapping[str, Any]
    hidden: bool


class _Task(NamedTuple):
    """A labelled picture."""

    name: str
    size: tuple[int, int]
    regions: Sequence[_Region]


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in Label Studio's format."""
    return tuple(_folders(directory))


def _folders(directory: Path) -> dict[str, Path]:
    return split_folders(directory, lambda folder: bool(_files(folder)))


def _files(folder: Path) -> list[Path]:
    """JSON files whose content is a list."""
    return [path for path in sorted(folder.glob("*.json")) if _first_byte(path) == b"["]


def _first_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64).lstrip()[:1]


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Reads a split; see `Reader.read`."""
    folders = _folders(directory)
    if split not in folders:
        there = ", ".join(folders) or "none"
        raise MissingDataError(f"{directory}: no JSON export of split {split!r}; found {there}")
    folder = folders[split]
    path, *others = _files(folder)
    if others:
        raise DataError(f"{folder}: two exports, {path.name} and {others[0].name}; keep one")

    def wrong(kind: str, text: str) -> None:
        report(Problem(kind, path, text))

    records = load_json(path)
    if not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path}: not a list of tasks, so no export of Label Studio")
    tasks, skipped, predicted = [], 0, 0
    for i, record in enumerate(records):
        results = _results(record)
        if not results and not _OWN & record.keys():
            wrong("malformed", f"entry {i}: neither a task nor of JSON_MIN")
            continue
        skipped += results is None
        predicted += results is None and bool(record.get("predictions"))
        if results is not None and (task := _task(record, results, i, folder, wrong)):
            tasks.append(task)
    regions = [region for task in tasks for region in task.regions]
    points = dict.fromkeys(region.label for region in regions if not region.is_box)
    joints = joints_of([folder, directory], list(points), path, ordered=False)
    owners = dict.fromkeys(region.label for region in regions if region.is_box)
    people = people_of(owners, joints.owner, path)
    left = f"left out; {predicted} have predictions, which become labels when they are submitted"
    left = left if predicted else "left out"
    assumed = [f"{skipped} tasks that nobody has labelled ({left})"] * (skipped > 0)
    if points and not any(region.hidden for region in regions):
        assumed.append("no visibility (labelled joints count as visible)")
    pictures = (_picture(task, people, wrong) for task in tasks)
    about = {"path": path, "assumed": assumed}
    return tables(directory, split, folder, pictures, joints, report, **about)


def _results(record: Mapping[str, Any]) -> list[dict] | None:
    """The regions of a task as JSON has them; None if nobody has labelled it."""
    if "data" not in record:  # JSON_MIN: lists of values by the name of the control
        values = [each for some in record.values() if isinstance(some, list) for each in some]
        return [
            {**value, "id": None, "type": kind, "value": value}
            for value in values
            for kind in (_BOXES, _POINTS)
            if isinstance(value, dict) and kind in value
        ]
    made = record.get("annotations", record.get("completions"))
    made = made if isinstance(made, list) else []
    made = [one for one in made if isinstance(one, dict) and not one.get("was_cancelled")]
    made = [one for one in made if one.get("ground_truth")] or made
    if not made:
        return None
    results = made[-1].get("result")  # of several, the last
    return [r for r in results if isinstance(r, dict)] if isinstance(results, list) else []


def _task(
    record: Mapping[str, Any], results: list[dict], i: int, folder: Path, wrong: Wrong
) -> _Task | None:
    where = f"task {record.get('id', i)}"
    data = record.get("data", record)
    name = _name(data, folder) if isinstance(data, dict) else None
    if name is None:
        wrong("malformed", f"{where}: no field of its data is the name of a picture")
        return None
    said = [(r.get("original_width"), r.get("original_height")) for r in results]
    width, height = map(whole, next((size for size in said if all(size)), (None, None)))
    if not width or not height:
        try:
            width, height = read_header((folder / name).read_bytes()).size
        except (ImageError, OSError) as error:
            wrong("malformed", f"{where}: no size is said, and {name} has none: {error}")
            return None
    turned = next((r for r in results if r.get("image_rotation")), None)
    if turned is not None:
        text = f"{where}: 'image_rotation' = {turned['image_rotation']}; turn the picture itself"
        wrong("malformed", text)
        return None
    hidden = {
        _key(result.get("id"))
        for result in results
        if result.get("type") == "choices" and HIDDEN & set(map(lower, _choices(result)))
    }
    regions = []
    for k, result in enumerate(results):
        value, kind = result.get("value"), result.get("type")
        value = value if isinstance(value, dict) else {}
        label = value.get(kind) if kind in (_BOXES, _POINTS) else None
        at = f"{where}, region {result.get('id', k)}"
        if isinstance(label, list) and len(label) == 1 and isinstance(label[0], str):
            own, parent = _key(result.get("id")), _key(result.get("parentID"))
            concealed = own is not None and own in hidden
            regions.append(_Region(at, own, parent, label[0], kind == _BOXES, value, concealed))
        elif kind in (_BOXES, _POINTS):
            wrong("malformed", f"{at}: {kind!r} must be one label, got {label!r:.60}")
        elif kind not in ("choices", "relation"):
            wrong("other category", f"{at}: a {kind}")
    return _Task(name, (width, height), regions)


def _key(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _choices(result: Mapping[str, Any]) -> list:
    value = result.get("value")
    found = value.get("choices") if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _name(data: Mapping[str, Any], folder: Path) -> str | None:
    """The path below the folder of the picture that a task's data names by an address."""
    texts = [data.get("image"), *data.values()]
    for text in (text for text in texts if isinstance(text, str)):
        address = urllib.parse.urlsplit(text)
        local = urllib.parse.parse_qs(address.query).get("d")  # /data/local-files/?d=PATH
        name = local[0] if local else urllib.parse.unquote(address.path)
        if PurePosixPath(name).suffix.lower() in PICTURES:
            last = PurePosixPath(name.replace("\\", "/")).name
            plain = _UPLOADED.sub("", last)
            return (
                below(folder, name, "images") or below(folder, plain, "images") or f"images/{last}"
            )
    return None


def _picture(task: _Task, people: frozenset[str], wrong: Wrong) -> Picture:
    boxes, points = [], []
    parents = {region.parent for region in task.regions} - {None}
    known = {region.id for region in task.regions} | {None}
    for region in task.regions:
        fields = ("x", "y", "width", "height") if region.is_box else ("x", "y")
        values = numbers([region.value.get(field) for field in fields], len(fields))
        if values is None:
            wrong("malformed", f"{region.where}: {', '.join(fields)} must be numbers")
            continue
        x, y, *sides = (v * task.size[i % 2] / 100 for i, v in enumerate(values))
        if region.parent not in known:
            text = f"{region.where}: 'parentID' = {region.parent!r} is no region of this task"
            wrong("malformed", text)
        elif not region.is_box:
            joint = (x, y, 1 if region.hidden else 2)
            points.append(Point(region.where, region.parent, region.label, joint))
        elif lower(region.label) in people:
            corners = (x, y, x + sides[0], y + sides[1])
            angle = float(number(region.value.get("rotation")) or 0)
            group = region.id if region.id in parents else None
            boxes.append(Box(region.where, group, upright(corners, angle, (x, y))))
        else:
            wrong("other category", f"{region.where} of {region.label!r}")
    return Picture(task.name, *task.size, gather(boxes, points, wrong))


def write(directory: Path, dataset: Dataset, report: Report = refuse, *, model: str = "") -> Path:
    """Writes a split; see `Writer.write`.

    What a model found are predictions, which become labels when somebody submits them. Beside the
    tasks is `labels.xml`, the project's labelling interface.
    """
    folder = directory / dataset.split
    link_pictures(folder / "images", dataset)
    (folder / "labels.xml").write_text(_interface(dataset.skeleton.names))
    tasks = []
    # Where Label Studio serves the folder that the pictures' folder is in.
    root = f"/data/local-files/?d={urllib.parse.quote((folder / 'images').resolve().name)}"
    for picture in pictures_of(dataset):
        one = {"result": [r for i, p in enumerate(picture.people) for r in _written(picture, p, i)]}
        made = (
            {"predictions": [one | {"model_version": model}]} if model else {"annotations": [one]}
        )
        tasks.append({"data": {"image": f"{root}/{urllib.parse.quote(picture.name)}"}, **made})
    path = folder / _FILE
    path.write_text("[" + ",\n".join(map(json.dumps, tasks)) + "]\n")
    declare(folder, dataset.skeleton)
    left_out(path, dataset, report)
    return path


def _written(picture: Picture, person: Person, number: int) -> Iterator[dict[str, Any]]:
    """The regions of a person."""
    size = {"original_width": picture.width, "original_height": picture.height}
    common = {"to_name": "image", **size, "image_rotation": 0}

    def share(x: float, y: float) -> dict[str, float]:
        return {"x": 100 * x / picture.width, "y": 100 * y / picture.height}

    x0, y0, x1, y1 = person.box or (0, 0, 0, 0)
    sides = share(x1 - x0, y1 - y0)
    value = {**share(x0, y0), "width": sides["x"], "height": sides["y"], "rotation": 0}
    box = {"id": f"person{number}", "from_name": "box", "type": _BOXES, **common}
    yield box | {"value": {**value, _BOXES: ["person"]}}
    for name, (x, y, v) in person.joints.items():
        region = {"id": f"person{number}_{name}", "parentID": f"person{number}", **common}
        value = {**share(x, y), "width": _POINT_SIZE}
        yield region | {"from_name": "joint", "type": _POINTS, "value": {**value, _POINTS: [name]}}
        if v == 1:
            choice = {"from_name": "visibility", "type": "choices"}
            yield region | choice | {"value": {**value, "choices": ["occluded"]}}


def _interface(names: Sequence[str]) -> str:
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    return f"""<View>
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="box" toName="image">
    <Label value="person"/>
  </RectangleLabels>
  <KeyPointLabels name="joint" toName="image">
{labels}
  </KeyPointLabels>
  <Choices name="visibility" toName="image" perRegion="true" choice="single">
    <Choice value="occluded"/>
  </Choices>
</View>
"""
