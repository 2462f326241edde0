"""YOLO's pose format: reads a directory with `data.yaml` into a `Dataset`, and writes one.

    data.yaml                 train, val, names, kpt_shape; flip_idx and kpt_names if there are
    images/train/a.jpg        what `train` says: a folder, or a text file of paths, or several
    labels/train/a.txt        a line a person: class cx cy w h, then x y [v] of each joint

Numbers are shares of the picture's sides. Where `kpt_shape` ends in 2 there is no visibility: a
joint at (0, 0) is not labelled, all others are visible. Without `kpt_shape` it is a set of boxes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from data_pipeline.images import PICTURES, ImageError, read_header
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
    Joints,
    Person,
    Picture,
    Wrong,
    below,
    check_stems,
    declare,
    declared_names,
    joints_of,
    left_out,
    people_of,
    pictures_of,
    tables,
)
from data_pipeline.schema import SPLITS, DataError, Dataset, MissingDataError
from g_rmi.skeleton import COCO, Skeleton

_FILE = "data.yaml"
_FURTHEST = 2.0  # A larger share of the picture's side is a pixel.


class _Form(NamedTuple):
    """What a line holds."""

    joints: Joints
    names: tuple[str, ...]  # of the joints, in order
    dimensions: int  # numbers of a joint: 3 with visibility, 2 without
    classes: Mapping[int, str]
    people: Collection[int]  # classes of people


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in YOLO's format."""
    path = directory / _FILE
    content = _load(path) if path.is_file() else {}
    return tuple(split for split in SPLITS if content.get(split))


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Reads a split; see `Reader.read`."""
    path = directory / _FILE
    if split not in (there := splits(directory)):
        raise MissingDataError(f"{path}: no split {split!r}; found {', '.join(there) or 'none'}")
    content = _load(path)
    form = _form(directory, content, path)
    files = list(_pictures(directory, content[split], path))

    def wrong(kind: str, text: str) -> None:
        report(Problem(kind, path, text))

    def pictures() -> Iterator[Picture]:
        with ThreadPoolExecutor() as pool:
            for name, size in zip(files, pool.map(lambda name: _size(directory / name), files)):
                if isinstance(size, str):
                    wrong("malformed", f"{name}: {size}")
                else:
                    yield Picture(name, *size, list(_people(directory, name, size, form, wrong)))

    none = ["no visibility (labelled joints count as visible)"] * (form.dimensions == 2)
    about = {"path": path, "assumed": none * bool(form.names)}
    return tables(directory, split, directory, pictures(), form.joints, report, **about)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise DataError(f"{path}: not a YAML file: {line:.200}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: no object with 'train', 'names' and 'kpt_shape'")
    return content


def _form(directory: Path, content: Mapping[str, Any], path: Path) -> _Form:
    shape = content.get("kpt_shape", [0, 3])
    sound = isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) for n in shape)
    if not sound or shape[0] < 0 or shape[1] not in (2, 3):
        raise DataError(f"{path}: 'kpt_shape' = {shape!r} is not [joints, 2 or 3]")
    count, dimensions = shape
    flip = content.get("flip_idx")
    numbered = isinstance(flip, list) and all(isinstance(k, int) for k in flip)
    if flip is not None and not (numbered and len(flip) == count):
        raise DataError(
            f"{path}: 'flip_idx' must be {count} joint numbers from 0, got {flip!r:.80}"
        )
    classes = _listed(content.get("names", {0: "person"}), "names", path)
    declared = content.get("kpt_names")
    if isinstance(declared, dict):  # of each class
        declared = next(iter(declared.values()), None)
    cocos = count == len(COCO) and flip in (None, list(COCO.flip))
    plain = COCO.names if cocos else [f"joint_{k}" for k in range(count)]
    joints = declared or declared_names(directory) or list(plain)
    joints = list(_listed(joints, "kpt_names", path).values())
    if len(joints) != count:
        raise DataError(f"{path}: {len(joints)} joints have names, 'kpt_shape' has {count}")
    said = joints_of([directory], joints, path, ordered=True, flip=flip)
    ours = people_of(classes.values(), said.owner, path)
    people = {i for i, name in classes.items() if name.strip().lower() in ours}
    return _Form(said, tuple(joints), dimensions, classes, people)


def _listed(values: Any, field: str, path: Path) -> dict[int, str]:
    """Names by number, of a list or an object."""
    if isinstance(values, list):
        values = dict(enumerate(values))
    if not isinstance(values, dict) or not all(isinstance(key, int) for key in values):
        raise DataError(f"{path}: {field!r} must be a list of names, got {values!r:.80}")
    return {key: str(values[key]) for key in sorted(values)}


def _pictures(directory: Path, where: Any, path: Path) -> Iterator[str]:
    """Paths of the pictures below the directory, each once."""
    seen = set()
    for word in where if isinstance(where, list) else [where]:
        found = below(directory, str(word))
        if found is None:
            raise DataError(f"{path}: {word}: no such folder or list below {directory}")
        place = directory / found
        if place.is_dir():
            some = (file for file in sorted(place.rglob("*")) if file.suffix.lower() in PICTURES)
            names = [file.relative_to(directory).as_posix() for file in some]
        else:
            lines = [line.strip() for line in _lines(place) if line.strip()]
            names = [below(directory, line) or line for line in lines]
        if not names:
            raise DataError(f"{path}: {word}: no picture in it")
        yield from (name for name in names if not (name in seen or seen.add(name)))


def _lines(path: Path) -> list[str]:
    """Of a text file; some editors begin it with a byte order mark."""
    return path.read_text(encoding="utf-8-sig").splitlines()


def _size(path: Path) -> tuple[int, int] | str:
    """Width and height of a picture, or why it has none."""
    try:
        return read_header(path.read_bytes()).size
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def _label_file(name: str) -> PurePosixPath:
    """Where the labels of a picture are: its last folder `images` is `labels` there."""
    parts = list(PurePosixPath(name).parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return PurePosixPath(*parts).with_suffix(".txt")


def _people(
    directory: Path, name: str, size: tuple[int, int], form: _Form, wrong: Wrong
) -> Iterator[Person]:
    """The people in a picture's file of labels; nobody without one."""
    file = _label_file(name)
    try:
        lines = _lines(directory / file)
    except FileNotFoundError:
        return
    except UnicodeDecodeError:
        wrong("malformed", f"{file}: not a text file")
        return
    for i, line in enumerate(lines, 1):
        where, words = f"{file}, line {i}", line.split()
        if not words:
            continue
        if fault := _fault(words, form):
            wrong(fault[0], f"{where}: {fault[1]}")
            continue
        values = np.array(words[1:], np.float64)
        cx, cy, w, h = (values[:4] * [*size, *size]).tolist()
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        points = values[4:].reshape(-1, form.dimensions)
        if form.dimensions == 2:
            there = 2.0 * (points > 0).any(axis=1, keepdims=True)
            points = np.concatenate([points, there], axis=1)
        if (odd := ~np.isin(points[:, 2], (0, 1, 2))).any():
            v = points[odd, 2][0]
            what = ", but a confidence: are these predictions?" if 0 < v < 1 else ""
            name = form.names[int(np.argmax(odd))]
            wrong("keypoint flag", f"{where}: v of {name} is {v:g}, not 0, 1 or 2{what}")
            continue
        found = (points * [*size, 1]).tolist()
        joints = {joint: (x, y, int(v)) for joint, (x, y, v) in zip(form.names, found) if v}
        yield Person(where, box, joints)


def _fault(words: Sequence[str], form: _Form) -> tuple[str, str] | None:
    """What is wrong with a line, its kind and text; another class is, too."""
    if "," in "".join(words):
        return "malformed", "has commas; numbers are separated by spaces and have points"
    kind = whole(words[0])
    if kind not in form.classes:
        return "unknown category", f"class {words[0]} is not one of {len(form.classes)} in 'names'"
    if kind not in form.people:
        return "other category", f"class {kind} is {form.classes[kind]!r}"
    wanted = 5 + len(form.names) * form.dimensions
    if len(words) not in (5, wanted):
        shape = f"5 + {len(form.names)} x {form.dimensions}"
        more = "; is the last a confidence?" if len(words) in (6, wanted + 1) else ""
        return "keypoint count", f"{len(words)} numbers, not {shape}{more}"
    values = numbers(list(words), len(words))
    if values is None:
        odd = next((word for word in words if number(word) is None), "")
        return "malformed", f"not {len(words)} numbers: {odd!r:.80} is none"
    places = [v for i, v in enumerate(values[1:]) if i < 4 or (i - 4) % form.dimensions < 2]
    if abs(far := max(places, key=abs)) > _FURTHEST:
        return "malformed", f"{far:g} is no share of the picture's side; are these pixels?"
    return None


def write(directory: Path, dataset: Dataset, report: Report = refuse, *, model: str = "") -> Path:
    """Writes a split; see `Writer.write`."""
    split, skeleton, path = dataset.split, dataset.skeleton, directory / _FILE
    check_stems(dataset)
    if inside := [name for name in dataset.images.file_name if "images" in name.split("/")[:-1]]:
        raise DataError(f"{dataset.directory}: {inside[0]}: YOLO looks for labels beside 'images'")
    link_pictures(directory / "images" / split, dataset)
    before = _load(path) if path.is_file() else {}
    for picture in pictures_of(dataset):
        file = directory / _label_file(f"images/{split}/{picture.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(_line(person, picture, skeleton) for person in picture.people))
    content = {**before, split: f"images/{split}", "names": {0: "person"}}
    content |= {"kpt_shape": [len(skeleton), 3], "flip_idx": list(skeleton.flip)}
    content |= {"kpt_names": {0: list(skeleton.names)}}
    heading = f"# Labels by {model}, to be corrected.\n" if model else ""
    path.write_text(heading + yaml.safe_dump(content, sort_keys=False))
    declare(directory, skeleton)
    left_out(path, dataset, report)
    return path


def _line(person: Person, picture: Picture, skeleton: Skeleton) -> str:
    size = picture.width, picture.height
    x0, y0, x1, y1 = person.box or (0, 0, 0, 0)
    values = [(x0 + x1) / 2 / size[0], (y0 + y1) / 2 / size[1]]
    values += [(x1 - x0) / size[0], (y1 - y0) / size[1]]
    for name in skeleton.names:
        x, y, v = person.joints.get(name, (0, 0, 0))
        values += [x / size[0], y / size[1], v]
    return " ".join(["0", *(f"{value:.8g}" for value in values)]) + "\n"
