"""MPII Human Pose, as its authors publish it: a MATLAB file of annotations, and pictures.

    mpii_human_pose_v1_u12_1.mat + images/

Its training pictures are the split "train". Joints of its test pictures are not published, and it
has no validation split: pictures named in a file `val.txt` beside it, one file name a line, are
held out as "val". Without it there is none.

MPII labels some of a picture's people: no picture counts as completely labelled. It has no boxes of
people; a box here is the smallest around the joints and the head's box, and its area an estimate,
.53 of the box as in COCO. Coordinates begin at 1, as in MATLAB.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline.readers.reader import ImageFolder, Problem, Report, is_inside, number, refuse
from data_pipeline.schema import DataError, Dataset, Images, MissingDataError, People
from g_rmi.skeleton import Skeleton

# Joints by MPII's ids. It has no OKS: COCO's fall-offs, for pelvis and thorax those of hips and
# shoulders, for neck and top of the head, which COCO lacks, the shoulders'.
_ARMS = ("wrist", "elbow", "shoulder"), (0.062, 0.072, 0.079)
_LEGS = ("ankle", "knee", "hip"), (0.089, 0.087, 0.107)


def _sides(parts: tuple[str, ...]) -> list[str]:
    return [f"right_{part}" for part in parts] + [f"left_{part}" for part in parts[::-1]]


MPII = Skeleton.create(
    names=(*_sides(_LEGS[0]), "pelvis", "thorax", "upper_neck", "head_top", *_sides(_ARMS[0])),
    limbs=[
        *(
            (f"{side}_{a}", f"{side}_{b}")
            for side in ("right", "left")
            for parts, _ in (_LEGS, _ARMS)
            for a, b in zip(parts, parts[1:])
        ),
        *((f"{side}_hip", "pelvis") for side in ("right", "left")),
        *((f"{side}_shoulder", "thorax") for side in ("right", "left")),
        ("pelvis", "thorax"),
        ("thorax", "upper_neck"),
        ("upper_neck", "head_top"),
    ],
    sigmas=(*_LEGS[1], *_LEGS[1][::-1], 0.107, *[0.079] * 3, *_ARMS[1], *_ARMS[1][::-1]),
)
_PATTERN = "mpii_human_pose_v1_*.mat"
_AREA = 0.53


def _file(directory: Path) -> Path | None:
    return next(iter(sorted(directory.glob(_PATTERN), reverse=True)), None)


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a directory has in MPII's format."""
    if _file(directory) is None:
        return ()
    return ("train", "val") if (directory / "val.txt").is_file() else ("train",)


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Reads a split; see `Reader.read`. Boxes of heads are `Dataset.head_boxes`."""
    path, folder = _file(directory), directory / "images"
    if path is None or split not in splits(directory):
        what = f"no {_PATTERN}" if path is None else f"{path} has no {split!r} without a val.txt"
        raise MissingDataError(f"{directory}: {what}")
    if not folder.is_dir():
        raise DataError(f"{path}: no image folder {folder}; MPII's pictures come apart from it")
    held_out = _held_out(directory)
    found, rows = [], []
    for id, name, rectangles in _training(path):
        held = name in held_out
        if held == (split == "val") and (size := _size(folder, name, path, report)):
            rows += [(len(found), rectangle) for rectangle in rectangles]
            found.append((id, name, *size))
    if not found:
        raise DataError(f"{path}: none of the pictures of split {split!r} is in {folder}")
    people, heads = _people(rows)
    ids, names, width, height = zip(*found)
    sides = np.array(width, np.int32), np.array(height, np.int32)
    images = Images(np.array(ids, np.int64), names, *sides, np.zeros(len(ids), bool))
    source = ImageFolder(folder, names)
    return Dataset(directory, split, MPII, images, people, source, head_boxes=heads)


def _held_out(directory: Path) -> frozenset[str]:
    path = directory / "val.txt"
    return frozenset(path.read_text().split()) if path.is_file() else frozenset()


def _training(path: Path) -> Iterator[tuple[int, str, list[tuple[int, Any]]]]:
    """Number of each training picture, its file name, and its people with numbers of their own."""
    from scipy.io import loadmat  # slow to import, and other formats do without

    try:
        content = loadmat(path, struct_as_record=False, squeeze_me=True)["RELEASE"]
        pictures, is_training = _list(content.annolist), _list(content.img_train)
        person = 0
        for i, (picture, training) in enumerate(zip(pictures, is_training, strict=True), 1):
            people = [*enumerate(_list(picture.annorect), person + 1)]
            person += len(people)
            if training:
                yield i, str(picture.image.name), people
    except DataError:
        raise
    except Exception as error:  # scipy's errors about a broken file are of a dozen types
        raise DataError(f"{path}: not MPII's annotation file: {error!r:.100}") from None


def _list(value: Any) -> list[Any]:
    """MATLAB's array of any size, where one element comes without its array."""
    return list(np.atleast_1d(value)) if np.size(value) else []


def _size(folder: Path, name: str, path: Path, report: Report) -> tuple[int, int] | None:
    """Width and height of a picture as it is stored, which the annotations do not tell."""
    if not is_inside(name):
        report(Problem("unsafe file name", path, f"{name!r} is not a path inside the image folder"))
        return None
    try:
        with Image.open(folder / name) as image:
            return image.size
    except FileNotFoundError:
        report(Problem("missing image", path, f"{name}: no such file in {folder}"))
    except (OSError, ValueError) as error:
        report(Problem("undecodable image", path, f"{name}: {error}"))
    return None


def _people(rows: list[tuple[int, tuple[int, Any]]]) -> tuple[People, dict[int, np.ndarray]]:
    """The table of people who have a place, and the boxes of their heads by id."""
    found, heads = [], {}
    for image, (id, rectangle) in rows:
        points, head = _joints(rectangle), _head(rectangle)
        around = np.concatenate([points[points[:, 2] > 0, :2], head.reshape(-1, 2)])
        around = around if len(around) else _rough(rectangle)
        if len(around):
            found.append((id, image, [*around.min(axis=0), *around.max(axis=0)], points))
        if len(head):
            heads[id] = head
    ids, images, boxes, joints = zip(*found) if found else ((),) * 4
    box = np.array(boxes, np.float64).reshape(-1, 4)
    table = np.array(joints, np.float64).reshape(-1, len(MPII), 3)
    people = People(
        id=np.array(ids, np.int64),
        image=np.array(images, np.int32),
        box=box,
        area=_AREA * np.prod(box[:, 2:] - box[:, :2], axis=1),
        is_crowd=np.zeros(len(box), bool),
        keypoints=table[..., :2].astype(np.float32),
        visibility=table[..., 2].astype(np.uint8),
    )
    return people, heads


def _joints(rectangle: Any) -> np.ndarray:
    """x, y and COCO's v of each joint, zeros where it is not annotated."""
    found = np.zeros((len(MPII), 3))
    for points in _list(getattr(rectangle, "annopoints", [])):
        for point in _list(getattr(points, "point", [])):
            x, y, id = (_number(point, field) for field in ("x", "y", "id"))
            if x is None or y is None or id is None:
                continue
            if id in range(len(MPII)):
                # Neck and top of the head are not said to be hidden or not.
                hidden = _number(point, "is_visible") == 0
                found[int(id)] = x - 1, y - 1, 1 if hidden else 2
    return found


def _head(rectangle: Any) -> np.ndarray:
    """The box (x0, y0, x1, y1) of the head, or nothing."""
    sides = [_number(rectangle, field) for field in ("x1", "y1", "x2", "y2")]
    return np.array([] if None in sides else sides, np.float64) - 1


def _rough(rectangle: Any) -> np.ndarray:
    """Corners around where somebody without joints is said to be; `scale` is 1 for 200 pixels."""
    centre = getattr(rectangle, "objpos", None)
    x, y, scale = _number(centre, "x"), _number(centre, "y"), _number(rectangle, "scale")
    if x is None or y is None or not scale:
        return np.zeros((0, 2))
    half = 100 * abs(scale)
    return np.array([[x - 1 - half, y - 1 - half], [x - 1 + half, y - 1 + half]])


def _number(record: Any, field: str) -> float | None:
    """A number, also as a text; None where MATLAB has an empty array or no such field."""
    value = getattr(record, field, None)
    return None if value is None or np.size(value) != 1 else number(np.asarray(value).item())
