"""From a labelling tool's boxes and named points to a `Dataset`, and what such formats do not say.

Every tool's reader makes `Person`s of its own records; this is what they have in common. A set's
joints are COCO's if all names are, however they are written. Other joints can be declared in
`skeleton.json` beside the tool's files, an object as COCO's category is:

    {"name": "hand", "keypoints": ["wrist", "tip"], "skeleton": [[1, 2]], "sigmas": [0.1, 0.1]}
"""

import dataclasses
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipeline.readers.categories import declared_skeleton, lower, people_category
from data_pipeline.readers.reader import (
    ASSUMED,
    PEOPLE,
    ImageFolder,
    Problem,
    Report,
    is_inside,
    load_json,
    numbers,
)
from data_pipeline.schema import SPLITS, DataError, Dataset, Images, People
from g_rmi.config import nearest
from g_rmi.skeleton import COCO, Skeleton, coco_name

DECLARATION = "skeleton.json"
DEFAULT_SIGMA = round(float(np.mean(COCO.sigmas)), 3)  # .067
AREA = 0.53  # share of its box that a person covers; COCO's mean
# A box around joints alone is wider than they are, all round, by that share of their longer side:
# with it, the mean IoU with COCO's own boxes is .69 to .78, without it .54 to .62.
MARGIN = 0.1
_SLACK = 1.0

Wrong = Callable[[str, str], None]  # is told the kind and the text of a problem
Joint = tuple[float, float, int]  # x and y in pixels, COCO's v


class Person(NamedTuple):
    """Somebody in a picture, as a tool has them."""

    where: str  # the record, for messages
    box: tuple[float, float, float, float] | None  # (x0, y0, x1, y1); None: there is none
    joints: Mapping[str, Joint]  # by name; those that are labelled


class Picture(NamedTuple):
    """A picture and its people."""

    name: str  # the path below the image folder
    width: int
    height: int
    people: Sequence[Person]


class Box(NamedTuple):
    """A rectangle that stands for a person."""

    where: str
    group: Hashable | None  # what the tool ties to it has the same; None: nothing
    corners: tuple[float, float, float, float]


class Point(NamedTuple):
    """A named point."""

    where: str
    group: Hashable | None
    name: str
    joint: Joint


class Joints(NamedTuple):
    """A set's joints: what they are, whose they are, and what had to be assumed."""

    skeleton: Skeleton
    owner: str | None  # the name of who has them, as `skeleton.json` says
    names: Mapping[str, str]  # the skeleton's name of each name in the tool's files
    assumed: tuple[str, ...] = ()


def split_folders(directory: Path, has: Callable[[Path], bool]) -> dict[str, Path]:
    """The folder of each split: DIR/train and DIR/val, or DIR itself as a train split."""
    found = {split: directory / split for split in SPLITS if has(directory / split)}
    return found or ({"train": directory} if has(directory) else {})


def below(folder: Path, name: str, *tops: str) -> str | None:
    """The path below a folder of what a tool knows by another: its last parts will do.

    It is looked for in the folders `tops` below it, then in the folder itself; the most parts of
    the name that are there count. Nothing outside the folder is ever looked at.
    """
    parts = PurePosixPath(name.replace("\\", "/").replace("\0", "")).parts
    after = max((i + 1 for i, part in enumerate(parts) if part in ("..", "/")), default=0)
    for start in range(after, len(parts)):
        for top in (*tops, ""):
            path = PurePosixPath(top, *parts[start:])
            if is_inside(str(path)) and (folder / path).exists():
                return str(path)
    return None


def people_of(names: Iterable[str], owner: str | None, path: Path) -> frozenset[str]:
    """Which labels, in lower case, are people's; a DataError if that is not certain."""
    listed = list(dict.fromkeys(names))
    if owner:
        return frozenset({owner})
    if not listed:
        return PEOPLE
    categories = [{"id": i, "name": name} for i, name in enumerate(listed)]
    try:
        ours = people_category({"categories": categories}).ours
    except ValueError as error:
        raise DataError(f"{path}: {error} ({DECLARATION} can say it, see its 'name')") from None
    return frozenset(lower(name) or "" for i, name in enumerate(listed) if i in ours)


def joints_of(
    folders: Iterable[Path],
    names: Sequence[str],
    path: Path,
    *,
    ordered: bool,
    flip: Sequence[int] | None = None,
    limbs: Sequence[tuple[str, str]] = (),
) -> Joints:
    """The joints of a set: those of `skeleton.json`, else COCO's, else those that the tool names.

    Args:
      folders: Where `skeleton.json` may be.
      names: The names in the tool's files.
      path: The tool's file, for messages.
      ordered: They are all there are, in order; else only those that were seen.
      flip: For each name the index of its mirror image, where a tool says it.
      limbs: Pairs of names, where a tool says them.

    Raises:
      DataError: Joints are not COCO's, the tool does not say their order, and nobody declared them.
    """
    for declared in (folder / DECLARATION for folder in folders):
        if declared.is_file():
            return _declared(declared, names, flip)
    known = [coco_name(name) for name in names]
    if None not in known and len(set(known)) == len(known):
        return _joints(COCO, None, zip(names, known))
    if not ordered:
        strange = [name for name, found in zip(names, known) if not found] or names
        declare = json.dumps({"name": "person", "keypoints": sorted(names)})
        raise DataError(
            f"{path}: joint {strange[0]!r} is not one of COCO's{nearest(strange[0], COCO.names)}; "
            f"declare joints of your own in {DECLARATION} beside it: {declare}"
        )
    try:
        skeleton = Skeleton.create(names, limbs=limbs, sigmas=[DEFAULT_SIGMA] * len(names))
        if flip is not None:
            skeleton = dataclasses.replace(skeleton, flip=tuple(flip))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    assumed = f"no sigmas ({DEFAULT_SIGMA} for each joint; {DECLARATION} can give them)"
    return _joints(skeleton, None, (), assumed)


def _joints(
    skeleton: Skeleton, owner: str | None, names: Iterable[tuple[str, str | None]], *assumed: str
) -> Joints:
    """With the skeleton's own names, and others that mean one of them."""
    known = {name: name for name in skeleton.names} | {a: b for a, b in names if b}
    return Joints(skeleton, owner, known, assumed)


def declared_names(folder: Path) -> list | None:
    """The names in `skeleton.json`, if there are any."""
    path = folder / DECLARATION
    content = load_json(path) if path.is_file() else None
    names = content.get("keypoints") if isinstance(content, dict) else None
    return names if isinstance(names, list) else None


def _declared(path: Path, names: Sequence[str], flip: Sequence[int] | None) -> Joints:
    content = load_json(path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: not an object such as {{'name': ..., 'keypoints': [...]}}")
    category = dict(content)
    listed = category.get("keypoints")
    assumed = []
    if category.get("sigmas") is None and isinstance(listed, list) and listed != list(COCO.names):
        category["sigmas"] = [DEFAULT_SIGMA] * len(listed)
        assumed = [f"no sigmas ({DEFAULT_SIGMA} for each joint)"]
    try:
        skeleton = declared_skeleton(category)
        if flip is not None and skeleton.names == tuple(names):
            skeleton = dataclasses.replace(skeleton, flip=tuple(flip))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    own = {coco_name(name): name for name in skeleton.names if coco_name(name)}
    known = {name: name if name in skeleton.names else own.get(coco_name(name)) for name in names}
    for name, found in known.items():
        if found is None:
            close = nearest(name, skeleton.names)
            raise DataError(f"{path}: does not declare joint {name!r}, which is in use{close}")
    return _joints(skeleton, lower(category.get("name")), known.items(), *assumed)


def declare(folder: Path, skeleton: Skeleton) -> None:
    """Writes `skeleton.json` for what a tool's files do not say; nothing for COCO's joints."""
    if skeleton == COCO:
        return
    limbs = [[a + 1, b + 1] for a, b in skeleton.limbs]
    category = {"name": "person", "keypoints": list(skeleton.names), "skeleton": limbs}
    content = json.dumps({**category, "sigmas": list(skeleton.sigmas)}, indent=2)
    (folder / DECLARATION).write_text(content + "\n")


def gather(boxes: Sequence[Box], points: Sequence[Point], wrong: Wrong) -> list[Person]:
    """The people of one picture out of loose boxes and points.

    What is of one group is one person. A group of points without a box has the box, of those
    without a group, that holds most of them; points without a group belong to the only box around
    them, or to the only person that there is. What is not certain is a problem, and left out.
    """
    own: dict[Hashable, list[Box]] = {}
    for i, box in enumerate(boxes):
        own.setdefault(("box", i) if box.group is None else box.group, []).append(box)
    people: dict[Hashable, tuple[Box | None, list[Point]]] = {}
    for group, found in own.items():
        if len(found) > 1:
            wrong("malformed", f"{found[1].where}: a second box in group {group!r}")
        people[group] = found[0], []
    loose = []
    for point in points:
        if point.group is None:
            loose.append(point)
        else:
            people.setdefault(point.group, (None, []))[1].append(point)
    _find_boxes(people, wrong)
    for point in loose:
        around = [g for g, (box, _) in people.items() if box and _inside(point, box)]
        around = around if around or len(people) != 1 else list(people)
        if not people:
            people["only"] = None, [point]
        elif len(around) == 1:
            people[around[0]][1].append(point)
        else:
            count = f"{len(around)} people's boxes" if around else "nobody's box"
            wrong(
                "malformed", f"{point.where}: joint {point.name!r} has no group and is in {count}"
            )
    return [_person(*found, wrong) for found in people.values()]


def _find_boxes(people: dict[Hashable, tuple[Box | None, list[Point]]], wrong: Wrong) -> None:
    """Gives boxes without a group to the groups of points that have none."""
    free = [g for g, (box, _) in people.items() if box and box.group is None]
    for group, (box, points) in list(people.items()):
        if box is not None:
            continue
        held = {g: sum(_inside(p, people[g][0]) for p in points) for g in free}
        around = [g for g, count in held.items() if 2 * count > len(points)]
        if len(around) == 1:
            people[group] = people.pop(around[0])[0], points
            free.remove(around[0])
        elif around:
            text = f"{points[0].where}: in {len(around)} boxes; group the joints with their own"
            wrong("malformed", text)
            del people[group]


def _inside(point: Point, box: Box | None) -> bool:
    x0, y0, x1, y1 = box.corners if box else (0, 0, 0, 0)
    x, y, _ = point.joint
    return x0 - _SLACK <= x <= x1 + _SLACK and y0 - _SLACK <= y <= y1 + _SLACK


def _person(box: Box | None, points: list[Point], wrong: Wrong) -> Person:
    joints: dict[str, Joint] = {}
    for point in points:
        if point.name in joints:
            wrong("malformed", f"{point.where}: a second {point.name!r} of one person")
        else:
            joints[point.name] = point.joint
    where = box.where if box else points[0].where
    return Person(where, box.corners if box else None, joints)


def upright(
    corners: tuple[float, float, float, float], angle: float, pivot: tuple[float, float]
) -> tuple[float, float, float, float]:
    """The upright box around one that is turned clockwise by some degrees around a point."""
    if not angle:
        return corners
    x0, y0, x1, y1 = corners
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) - pivot
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turned = points @ np.array([[cos, sin], [-sin, cos]]) + pivot
    low, high = turned.min(axis=0).tolist(), turned.max(axis=0).tolist()
    return low[0], low[1], high[0], high[1]


def tables(
    directory: Path,
    split: str,
    folder: Path,
    pictures: Iterable[Picture],
    joints: Joints,
    report: Report,
    *,
    path: Path,
    assumed: Sequence[str] = (),
) -> Dataset:
    """The tables of people that a tool's file holds.

    `path` is that file, for messages; `assumed` is what the format does not say and what was taken
    in its place. It is reported in one line, with what is assumed here.
    """

    def wrong(kind: str, text: str) -> None:
        report(Problem(kind, path, text))

    sound: dict[str, Picture] = {}
    for picture in pictures:
        if picture.name in sound:
            wrong("duplicate image id", f"{picture.name}: listed more than once")
        elif not is_inside(picture.name):
            wrong("unsafe file name", f"{picture.name!r} is not a path inside the image folder")
        else:
            sound[picture.name] = picture
    rows, boxes, image = [], [], []
    place = {name: k for k, name in enumerate(joints.skeleton.names)}
    boxless = 0
    for row, picture in enumerate(sound.values()):
        for person in picture.people:
            fault, table = _table(person, joints, place)
            if fault:
                wrong("malformed", f"{person.where}: {fault}")
                continue
            boxless += person.box is None
            rows.append(table)
            boxes.append(person.box or _box_around(table, picture))
            image.append(row)
    table = np.array(rows, np.float64).reshape(len(rows), len(place), 3)
    box = np.array(boxes, np.float64).reshape(len(rows), 4)
    said = [*assumed, *joints.assumed]
    if boxless:
        said.append(f"no boxes of {boxless} of {len(rows)} people (around their joints)")
    if rows:
        said.append(f"no areas ({AREA} of the box)")
    if said:
        wrong(ASSUMED, f"has {', '.join(said)}")
    people = People(
        id=np.arange(1, len(rows) + 1, dtype=np.int64),
        image=np.array(image, np.int32),
        box=box,
        area=AREA * np.prod(box[:, 2:] - box[:, :2], axis=1),
        is_crowd=np.zeros(len(rows), bool),
        keypoints=table[..., :2].astype(np.float32),
        visibility=table[..., 2].astype(np.uint8),
    )
    # The folder that all pictures are in, and their names below it.
    top = os.path.commonpath([os.path.dirname(name) for name in sound]) if sound else ""
    names = tuple(PurePosixPath(name).relative_to(top).as_posix() for name in sound)
    images = Images(
        id=np.arange(1, len(sound) + 1, dtype=np.int64),
        file_name=names,
        width=np.array([picture.width for picture in sound.values()], np.int32),
        height=np.array([picture.height for picture in sound.values()], np.int32),
        boxes_complete=np.ones(len(sound), bool),
    )
    source = ImageFolder(folder / top, names)
    return Dataset(directory, split, joints.skeleton, images, people, source)


def _table(
    person: Person, joints: Joints, place: Mapping[str, int]
) -> tuple[str | None, Float[np.ndarray, "K 3"]]:
    """What is wrong with somebody, and x, y, v of every joint of the skeleton."""
    table = np.zeros((len(place), 3))
    for name, joint in person.joints.items():
        if numbers(list(joint[:2]), 2) is None:
            return f"joint {name!r} is at {joint[:2]}, which is no point", table
        if joint[2]:
            table[place[joints.names[name]]] = joint
    if person.box is None and not table[:, 2].any():
        return "neither a box nor a joint", table
    if person.box is not None and numbers(list(person.box), 4) is None:
        return f"box {person.box} is not four numbers", table
    return None, table


def _box_around(table: np.ndarray, picture: Picture) -> list[float]:
    """A box around joints, wider by `MARGIN` and within the picture."""
    points = table[table[:, 2] > 0, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = max(MARGIN * (high - low).max(), 1.0)
    last = np.array([picture.width, picture.height])
    low = np.minimum(np.maximum(low - margin, 0), points.min(axis=0))
    high = np.maximum(np.minimum(high + margin, last), points.max(axis=0))
    return [*low.tolist(), *high.tolist()]


def pictures_of(dataset: Dataset) -> Iterator[Picture]:
    """The people of a set, without its crowds, as tools have them: undoes `tables`."""
    people, names = dataset.people, dataset.skeleton.names
    for row, name in enumerate(dataset.images.file_name):
        found = []
        for i in range(*dataset.people_of(row).indices(len(people))):
            points, v = people.keypoints[i].tolist(), people.visibility[i].tolist()
            joints = {joint: (*xy, flag) for joint, xy, flag in zip(names, points, v) if flag}
            if not people.is_crowd[i]:
                found.append(Person(f"annotation {people.id[i]}", tuple(people.box[i]), joints))
        size = int(dataset.images.width[row]), int(dataset.images.height[row])
        yield Picture(name, *size, found)


def left_out(path: Path, dataset: Dataset, report: Report) -> None:
    """Reports what tools have no place for, in one line."""
    crowds = int(dataset.people.is_crowd.sum())
    counts = {"crowds": crowds, "outlines": len(dataset.outlines)}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    if parts:
        report(Problem(ASSUMED, path, f"left out: {', '.join(parts)}"))


def check_stems(dataset: Dataset) -> None:
    """A DataError if two pictures differ only in their ending, where each has a file of labels."""
    stems: dict[PurePosixPath, str] = {}
    for name in dataset.images.file_name:
        other = stems.setdefault(PurePosixPath(name).with_suffix(""), name)
        if other != name:
            raise DataError(
                f"{dataset.directory}: {other} and {name} would have one file of labels"
            )
