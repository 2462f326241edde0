"""labelme's format, a JSON file for each picture: reads a folder of them, and writes one.

People are points of one `group_id`, labelled with the joints' names, and a rectangle of that group,
labelled as a person; without groups, points belong to the rectangle around them. A point is hidden
if one of its flags says so. Pictures without a file are not labelled, and not in the set.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.images import PICTURES, ImageError, read_header
from data_pipeline.readers.categories import lower
from data_pipeline.readers.reader import (
    HIDDEN,
    Problem,
    Report,
    link_pictures,
    load_json,
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
    check_stems,
    declare,
    gather,
    joints_of,
    left_out,
    people_of,
    pictures_of,
    split_folders,
    tables,
)
from data_pipeline.schema import DataError, Dataset, MissingDataError

_HEAD = 1 << 16  # Bytes of a file that are looked at to tell its format.
_BOX, _POINT = "rectangle", "point"


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in labelme's format."""
    return tuple(_folders(directory))


def _folders(directory: Path) -> dict[str, Path]:
    return split_folders(directory, lambda folder: next(_files(folder), None) is not None)


def _files(folder: Path, *, cut: bool = False) -> Iterator[Path]:
    """Files of labelme's in a folder and all below it.

    With `cut` also those that are named like a picture there, whatever is in them.
    """
    found = []
    for here, below_it, files in os.walk(folder):
        below_it[:] = sorted(name for name in below_it if not name.startswith("."))
        found += [Path(here, name) for name in sorted(files)]
    named = {path.stem for path in found if cut and path.suffix.lower() in PICTURES}
    for path in found:
        if path.suffix == ".json":
            with open(path, "rb") as file:
                if b'"shapes"' in file.read(_HEAD) or path.stem in named:
                    yield path


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Reads a split; see `Reader.read`."""
    folders = _folders(directory)
    if split not in folders:
        there = ", ".join(folders) or "none"
        raise MissingDataError(f"{directory}: no labelme files of split {split!r}; found {there}")
    folder = folders[split]
    files = {path: _load(path) for path in sorted(_files(folder, cut=True))}
    shapes = [s for content in files.values() for s in content["shapes"] if _label(s)]
    points = dict.fromkeys(str(_label(shape)) for shape in shapes if _kind(shape) == _POINT)
    joints = joints_of([folder, directory], list(points), folder, ordered=False)
    owners = dict.fromkeys(str(_label(shape)) for shape in shapes if _kind(shape) == _BOX)
    people = people_of(owners, joints.owner, folder)
    assumed = []
    if points and not any(_is_hidden(shape) for shape in shapes):
        assumed.append("no visibility (labelled joints count as visible)")

    def pictures() -> Iterator[Picture]:
        for path, content in files.items():

            def wrong(kind: str, text: str, path: Path = path) -> None:
                report(Problem(kind, path, text))

            if picture := _picture(path, content, folder, people, wrong):
                yield picture

    about = {"path": folder, "assumed": assumed}
    return tables(directory, split, folder, pictures(), joints, report, **about)


def _load(path: Path) -> dict[str, Any]:
    content = load_json(path)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{path}: no list of 'shapes': not a file of labelme's")
    return content


def _kind(shape: Mapping[str, Any]) -> str:
    """Its type; of version 3's files, which say none, by the number of its points."""
    said, points = shape.get("shape_type"), shape.get("points")
    single = isinstance(points, list) and len(points) == 1
    return said if isinstance(said, str) else _POINT if single else "polygon"


def _group(shape: Mapping[str, Any]) -> int | str | None:
    said = shape.get("group_id")
    return said if isinstance(said, int | str) else None


def _label(shape: Mapping[str, Any]) -> str | None:
    """Its label; None if it has none."""
    said = shape.get("label")
    return str(said) if isinstance(said, str | int) and str(said).strip() else None


def _corners(points: Any) -> list[int | float] | None:
    """Two opposite corners, of which some versions write all four; None: no upright rectangle."""
    values = numbers(points, 8)
    if values is None:
        return numbers(points, 4)
    xs, ys = sorted(values[::2]), sorted(values[1::2])
    pairs = {(x, y) for x in (xs[0], xs[-1]) for y in (ys[0], ys[-1])}
    there = set(zip(values[::2], values[1::2]))
    return [xs[0], ys[0], xs[-1], ys[-1]] if there == pairs else None


def _is_hidden(shape: Mapping[str, Any]) -> bool:
    flags = shape.get("flags")
    flags = flags if isinstance(flags, dict) else {}
    return any(value and lower(name) in HIDDEN for name, value in flags.items())


def _picture(
    path: Path, content: Mapping[str, Any], folder: Path, people: frozenset[str], wrong: Wrong
) -> Picture | None:
    said = content.get("imagePath")
    name = below(path.parent, said) if isinstance(said, str) else None
    if name is not None:
        name = (path.parent / name).relative_to(folder).as_posix()
    elif isinstance(said, str) and said:
        name = below(folder, said, "images") or PurePosixPath(said.replace("\\", "/")).name
    else:
        wrong("malformed", f"field 'imagePath' = {said!r} is not the name of a picture")
        return None
    width, height = whole(content.get("imageWidth")), whole(content.get("imageHeight"))
    if not width or not height:  # version 3 says none
        try:
            width, height = read_header((folder / name).read_bytes()).size
        except (ImageError, OSError) as error:
            wrong("malformed", f"no 'imageWidth' and 'imageHeight', and {name} has none: {error}")
            return None
    boxes, points = [], []
    for i, shape in enumerate(content["shapes"], 1):
        kind, label, where = _kind(shape), _label(shape), f"shape {i}"
        if kind in (_BOX, _POINT) and label is None:
            wrong("malformed", f"{where}: 'label' of a {kind} = {shape.get('label')!r:.60}")
            continue
        if kind not in (_BOX, _POINT) or (kind == _BOX and lower(label) not in people):
            wrong("other category", f"{where}: a {kind} of {label!r}")
            continue
        said = shape.get("points")
        values = _corners(said) if kind == _BOX else numbers(said, 2)
        if values is None:
            wanted = "two corners, or the four of an upright one" if kind == _BOX else "one x, y"
            wrong("malformed", f"{where}: 'points' of a {kind} must be {wanted}, got {said!r:.60}")
        elif kind == _POINT:
            joint = (values[0], values[1], 1 if _is_hidden(shape) else 2)
            points.append(Point(where, _group(shape), str(label), joint))
        else:
            (x0, x1), (y0, y1) = sorted(values[::2]), sorted(values[1::2])
            boxes.append(Box(where, _group(shape), (x0, y0, x1, y1)))
    return Picture(name, width, height, gather(boxes, points, wrong))


def write(directory: Path, dataset: Dataset, report: Report = refuse, *, model: str = "") -> Path:
    """Writes a split, a file for each picture; returns their folder. See `Writer.write`."""
    folder = directory / dataset.split
    check_stems(dataset)
    link_pictures(folder / "images", dataset)
    for picture in pictures_of(dataset):
        path = (folder / picture.name).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes = [s for i, p in enumerate(picture.people, 1) for s in _written(p, i)]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes}
        content["imagePath"] = os.path.relpath(folder / "images" / picture.name, path.parent)
        content |= {"imageData": None, "imageHeight": picture.height, "imageWidth": picture.width}
        path.write_text(
            json.dumps({**content, "description": model} if model else content, indent=2)
        )
    declare(folder, dataset.skeleton)
    left_out(folder, dataset, report)
    return folder


def _written(person: Person, group: int) -> Iterator[dict[str, Any]]:
    """The shapes of a person."""
    x0, y0, x1, y1 = person.box or (0, 0, 0, 0)
    yield _shape("person", [[x0, y0], [x1, y1]], group, _BOX, {})
    for name, (x, y, v) in person.joints.items():
        yield _shape(name, [[x, y]], group, _POINT, {"occluded": v == 1})


def _shape(label: str, points: list, group: int, kind: str, flags: dict) -> dict[str, Any]:
    shape = {"label": label, "points": points, "group_id": group, "description": ""}
    return shape | {"shape_type": kind, "flags": flags, "mask": None}
