"""CVAT's "CVAT for images 1.1": reads `annotations.xml` into a `Dataset`, and writes one.

People are skeletons, whose elements are the joints, or loose points that have a joint's name and
are grouped; a rectangle of the same group is the person's box. An element that is `outside` is not
labelled, one that is `occluded` hidden. The pictures are in `images/`, beside the file.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Float

from data_pipeline.readers.categories import lower
from data_pipeline.readers.reader import (
    Problem,
    Report,
    link_pictures,
    number,
    numbers,
    refuse,
    whole,
)
from data_pipeline.readers.shapes import (
    Box,
    Joints,
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
from data_pipeline.schema import SPLITS, DataError, Dataset, MissingDataError
from g_rmi.skeleton import Skeleton

_FILE = "annotations.xml"
_PERSON, _BOX = "person", "person_box"  # labels that are written: of CVAT, each has one type
_SUBSET = re.compile(rb"<image [^>]*?\bsubset=\"([^\"]*)\"")
_SPLIT_OF = {"train": "train", "training": "train", "val": "val", "validation": "val"}


class _Label(NamedTuple):
    """A label as the file declares it."""

    joints: tuple[str, ...]  # of a skeleton, in order
    limbs: tuple[tuple[str, str], ...]


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in CVAT's format."""
    return tuple(split for split in SPLITS if split in _files(directory))


def _files(directory: Path) -> dict[str, Path]:
    """The file of each split: of a project's export with subsets, one for both."""
    found = split_folders(directory, lambda folder: (folder / _FILE).is_file())
    files = {split: folder / _FILE for split, folder in found.items()}
    if files.get("train") == directory / _FILE:
        subsets = {
            name.decode(errors="replace") for name in _SUBSET.findall(_bytes(files["train"]))
        }
        known = {_SPLIT_OF[name.lower()] for name in subsets if name.lower() in _SPLIT_OF}
        return dict.fromkeys(known, files["train"]) or files
    return files


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Reads a split; see `Reader.read`."""
    files = _files(directory)
    if split not in files:
        there = ", ".join(files) or "none"
        raise MissingDataError(f"{directory}: no split {split!r} in {_FILE}; found {there}")
    path = files[split]
    root = _parse(path)

    def wrong(kind: str, text: str) -> None:
        report(Problem(kind, path, text))

    labels = _labels(root)
    joints = _joints(root, labels, [path.parent, directory], path)
    people = people_of(labels or {_PERSON: None}, joints.owner, path)
    images = [image for image in root.iter("image") if _split(image) in (None, split)]
    pictures = _pictures(images, path.parent, joints, people, wrong)
    return tables(directory, split, path.parent, pictures, joints, report, path=path)


def _parse(path: Path) -> ElementTree.Element:
    data = _bytes(path)
    if b"<!ENTITY" in data:
        raise DataError(f"{path}: declares entities, which CVAT does not")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError) as error:  # the second: of its encoding
        raise DataError(f"{path}: not an XML file: {error}") from None
    if root.tag != "annotations":
        raise DataError(f"{path}: <{root.tag}> is not CVAT's <annotations>")
    if root.find("track") is not None:
        raise DataError(f"{path}: has tracks; export it as 'CVAT for images 1.1', not for video")
    return root


def _split(image: ElementTree.Element) -> str | None:
    """The split that a picture's subset says; None: none is said."""
    subset = image.get("subset", "").lower()
    return _SPLIT_OF.get(subset, subset) or None


def _labels(root: ElementTree.Element) -> dict[str, _Label]:
    """Labels by name; elements of skeletons are none of their own."""
    listed = [label for label in root.iterfind("meta//labels/label") if label.findtext("name")]
    found = {}
    for label in listed:
        name = label.findtext("name", "")
        if not label.findtext("parent"):
            own = (each for each in listed if each.findtext("parent") == name)
            joints = tuple(each.findtext("name", "") for each in own)
            found[name] = _Label(joints, _limbs(label.findtext("svg", ""), joints))
    return found


def _limbs(svg: str, joints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The edges of a skeleton's drawing as pairs of joints."""
    text = html.unescape(svg) if "&lt;" in svg else svg
    tags = [
        dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<\w+ [^>]*>", text)
    ]
    names = [html.unescape(tag.get("data-label-name", "")) for tag in tags]
    nodes = {tag.get("data-node-id"): name for tag, name in zip(tags, names) if name in joints}
    ends = ((tag.get("data-node-from"), tag.get("data-node-to")) for tag in tags)
    return tuple((nodes[a], nodes[b]) for a, b in ends if a in nodes and b in nodes)


def _joints(
    root: ElementTree.Element, labels: Mapping[str, _Label], folders: Sequence[Path], path: Path
) -> Joints:
    declared = {label.joints: label for label in labels.values() if label.joints}
    if len(declared) > 1:
        raise DataError(f"{path}: {len(declared)} skeletons with joints of their own; keep one")
    for names, label in declared.items():
        return joints_of(folders, names, path, ordered=True, limbs=label.limbs)
    seen = {e.get("label", ""): None for e in root.iterfind("image/skeleton/points")}
    points = [e for e in root.iterfind("image/points") if ";" not in e.get("points", "")]
    seen |= {e.get("label", ""): None for e in points}
    return joints_of(folders, list(seen), path, ordered=False)


def _pictures(
    images: Sequence[ElementTree.Element],
    folder: Path,
    joints: Joints,
    people: frozenset[str],
    wrong: Wrong,
) -> Iterator[Picture]:
    for image in images:
        name, subset = image.get("name", ""), image.get("subset")
        width, height = whole(image.get("width")), whole(image.get("height"))
        if not name or not width or not height:
            wrong("malformed", f"image {image.get('id')}: needs 'name', 'width' and 'height'")
            continue
        found = below(folder, f"{subset}/{name}", "images") if subset else None
        found = found or below(folder, name, "images") or f"images/{name}"
        # A box is a person's if its label or the joints that it is grouped with say so.
        jointed = {e.get("group_id") for e in image if e.tag in ("skeleton", "points")} - {None}
        boxes, points = [], []
        for i, shape in enumerate(image, 1):
            where, label = f"{name}, shape {i}, <{shape.tag}>", shape.get("label", "")
            ours = lower(label) in people or shape.get("group_id") in jointed
            ours |= re.sub(r"[\W_]*(bbox|box)$", "", label.lower()) in people
            own = shape.get("group_id") or f"shape {i}"
            if shape.tag == "box" and ours:
                boxes += _box(shape, where, wrong)
            elif shape.tag == "skeleton" and ours:
                for element in shape.iterfind("points"):
                    some = _points(element, [element.get("label", "")], where, own, wrong)
                    points += [point for point in some if _is_known(point, joints, wrong)]
            elif shape.tag == "points" and lower(label) in people:
                points += _points(shape, joints.skeleton.names, where, own, wrong)
            elif shape.tag == "points" and label in joints.names:
                points += _points(shape, [label], where, shape.get("group_id"), wrong)
            else:
                wrong("other category", f"{where} of {label!r}")
        yield Picture(found, width, height, gather(boxes, points, wrong))


def _is_known(point: Point, joints: Joints, wrong: Wrong) -> bool:
    if point.name not in joints.names:
        wrong("wrong joints", f"{point.where}: no joint {point.name!r} is declared")
    return point.name in joints.names


def _box(shape: ElementTree.Element, where: str, wrong: Wrong) -> Iterator[Box]:
    corners = numbers([shape.get(side) for side in ("xtl", "ytl", "xbr", "ybr")], 4)
    angle = number(shape.get("rotation", "0"))
    if corners is None or angle is None:
        wrong("malformed", f"{where}: 'xtl', 'ytl', 'xbr', 'ybr' must be numbers")
        return
    x0, y0, x1, y1 = map(float, corners)
    turned = upright((x0, y0, x1, y1), float(angle), ((x0 + x1) / 2, (y0 + y1) / 2))
    yield Box(where, shape.get("group_id"), turned)


def _points(
    shape: ElementTree.Element, names: Sequence[str], where: str, group: str | None, wrong: Wrong
) -> Iterator[Point]:
    """The points of a shape, which have these names."""
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
    values = numbers([value for pair in pairs for value in pair], 2 * len(names))
    if values is None:
        text = f"'points' must be {len(names)} x,y, got {shape.get('points')!r:.60}"
        wrong("malformed", f"{where}: {text}")
        return
    if shape.get("outside") == "1":
        return
    v = 1 if shape.get("occluded") == "1" else 2
    for name, x, y in zip(names, values[::2], values[1::2]):
        yield Point(where, group, name, (x, y, v))


def write(directory: Path, dataset: Dataset, report: Report = refuse, *, model: str = "") -> Path:
    """Writes a split; see `Writer.write`.

    Beside the annotations is `labels.json`, the labels for the raw view of CVAT's constructor:
    a skeleton and, since that has no box, a rectangle, grouped with it.
    """
    folder, skeleton = directory / dataset.split, dataset.skeleton
    path = folder / _FILE
    link_pictures(folder / "images", dataset)
    svg = _drawing(dataset)
    labels = [
        {"name": _PERSON, "type": "skeleton", "attributes": [], "svg": svg}
        | {"sublabels": [_sublabel(name) for name in skeleton.names]},
        {"name": _BOX, "type": "rectangle", "attributes": []},
    ]
    (folder / "labels.json").write_text(json.dumps(labels, indent=2) + "\n")
    source = "auto" if model else "manual"
    with open(path, "w", encoding="utf-8") as file:
        lines = (*_meta(skeleton, svg), *_images(dataset, source), "</annotations>")
        file.writelines(f"{line}\n" for line in lines)
    declare(folder, skeleton)
    left_out(path, dataset, report)
    return path


def _sublabel(name: str) -> dict:
    return {"name": name, "type": "points", "attributes": []}


def _meta(skeleton: Skeleton, svg: str) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>\n  <version>1.1</version>\n  <meta><task><labels>"
    yield f"    <label><name>{_PERSON}</name><type>skeleton</type><svg>{escape(svg)}</svg></label>"
    for name in skeleton.names:
        of = f"<type>points</type><parent>{_PERSON}</parent>"
        yield f"    <label><name>{escape(name)}</name>{of}</label>"
    yield f"    <label><name>{_BOX}</name><type>rectangle</type></label>"
    yield "  </labels></task></meta>"


def _images(dataset: Dataset, source: str) -> Iterator[str]:
    names = dataset.skeleton.names
    for i, picture in enumerate(pictures_of(dataset)):
        size = f'width="{picture.width}" height="{picture.height}"'
        yield f'  <image id="{i}" name={quoteattr(picture.name)} {size}>'
        for group, person in enumerate(picture.people, 1):
            x0, y0, x1, y1 = person.box or (0, 0, 0, 0)
            tail = f'z_order="0" group_id="{group}"'
            corners = f'xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}"'
            yield f'    <box label="{_BOX}" source="{source}" occluded="0" {corners} {tail}/>'
            if not person.joints:
                continue
            yield f'    <skeleton label="{_PERSON}" source="{source}" {tail}>'
            for name in names:
                x, y, v = person.joints.get(name, ((x0 + x1) / 2, (y0 + y1) / 2, 0))
                flags = f'outside="{int(v == 0)}" occluded="{int(v == 1)}"'
                what = f'label={quoteattr(name)} source="{source}" {flags}'
                yield f'      <points {what} points="{x:.2f},{y:.2f}"/>'
            yield "    </skeleton>"
        yield "  </image>"


def _drawing(dataset: Dataset) -> str:
    """What CVAT draws a new skeleton from: the limbs and the joints, where they mostly are."""
    places = _places(dataset).round(1).tolist()
    lines = [
        f'<line x1="{places[a][0]}" y1="{places[a][1]}" x2="{places[b][0]}" y2="{places[b][1]}" '
        f'data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in dataset.skeleton.limbs
    ]
    circles = [
        f'<circle r="1.5" cx="{x}" cy="{y}" data-type="element node" data-element-id="{k}" '
        f'data-node-id="{k}" data-label-name={quoteattr(name)}></circle>'
        for k, (name, (x, y)) in enumerate(zip(dataset.skeleton.names, places), 1)
    ]
    return "".join(lines + circles)


def _places(dataset: Dataset) -> Float[np.ndarray, "K 2"]:
    """Each joint's mean place in its box, of 100 x 100; on a circle where it is never labelled."""
    people = dataset.people
    side = np.maximum(people.box[:, None, 2:] - people.box[:, None, :2], 1e-6)
    shares = ((people.keypoints - people.box[:, None, :2]) / side).clip(0, 1)
    count = (people.visibility > 0).sum(axis=0)[:, None]
    total = (shares * (people.visibility > 0)[..., None]).sum(axis=0)
    turns = np.linspace(0, 2 * np.pi, len(dataset.skeleton), endpoint=False)
    circle = 0.5 + 0.45 * np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    return 5 + 90 * np.where(count > 0, total / np.maximum(count, 1), circle)
