"""What the reader of a data directory returns: tables of images and people, and the image bytes.

Frames as in `g_rmi.types`. K is the number of joints of the data set's skeleton.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64, Shaped, UInt8

from g_rmi.skeleton import Skeleton

Split = Literal["train", "val"]
SPLITS: tuple[str, ...] = get_args(Split)

# Polygons of image points (x, y); what any of them covers belongs to the person.
Outline = tuple[Float32[np.ndarray, "_ 2"], ...]


class DataError(ValueError):
    """A data directory that cannot be used; the message is one line that says where and why."""


class MissingDataError(DataError, FileNotFoundError):
    """A directory or file that is not there."""


@runtime_checkable
class ImageSource(Protocol):
    """The encoded pictures of a data set, by row of `Images`, and where they lie, for messages."""

    def read(self, index: int) -> bytes: ...  # noqa: D102

    def name(self, index: int) -> str: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Images:
    """One row per picture."""

    id: Int64[np.ndarray, " M"]  # COCO's
    file_name: tuple[str, ...]  # relative to the image folder
    width: Int32[np.ndarray, " M"]  # as the annotations say
    height: Int32[np.ndarray, " M"]
    boxes_complete: Bool[np.ndarray, " M"]  # every person in the picture has a box

    def __len__(self) -> int:
        return len(self.file_name)


@dataclasses.dataclass(frozen=True)
class People:
    """One row per annotated person (or crowd), the people of a picture side by side."""

    id: Int64[np.ndarray, " N"]  # COCO's annotation ids
    image: Int32[np.ndarray, " N"]  # row of the picture in `Images`, ascending
    box: Float[np.ndarray, "N 4"]  # (x0, y0, x1, y1) = COCO's (x, y, x + w, y + h)
    area: Float[np.ndarray, " N"]  # square pixels of the person's mask, as annotated
    is_crowd: Bool[np.ndarray, " N"]  # the box holds a group
    keypoints: Float32[np.ndarray, "N K 2"]  # image pixels; (0, 0) where not annotated
    visibility: UInt8[np.ndarray, "N K"]  # COCO's v: 0 not annotated, 1 hidden, 2 visible
    # Which of the skeleton's classes it is, in their order; None where there is one class only.
    classes: Int32[np.ndarray, " N"] | None = None

    def __len__(self) -> int:
        return len(self.id)

    @cached_property
    def num_keypoints(self) -> Int64[np.ndarray, " N"]:
        """Annotated joints (v > 0) per person."""
        return np.count_nonzero(self.visibility, axis=1).astype(np.int64)

    @cached_property
    def has_joints(self) -> Bool[np.ndarray, " N"]:
        """People, no crowds, with an annotated joint."""
        return ~self.is_crowd & (self.num_keypoints > 0)

    @cached_property
    def has_box(self) -> Bool[np.ndarray, " N"]:
        """People, no crowds, in a box with a width and a height."""
        return ~self.is_crowd & self.has_inside

    @cached_property
    def has_inside(self) -> Bool[np.ndarray, " N"]:
        """Boxes with a width and a height."""
        return np.asarray((self.box[:, 2:] > self.box[:, :2]).all(axis=1))

    def take(self, rows: Shaped[np.ndarray, " R"]) -> "People":
        """The people of `rows` (indices or a mask)."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return People(**{n: c[rows] for n, c in columns.items() if c is not None})


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One split of one data directory."""

    directory: Path
    split: str  # "train" or "val"
    skeleton: Skeleton  # meaning of the K axis
    images: Images  # in the order of the annotation file
    people: People  # see `people_of`
    source: ImageSource
    outlines: Mapping[int, Outline] = dataclasses.field(default_factory=dict)  # by annotation id
    # What the annotation file calls people, numbers and words; none: what COCO calls them.
    categories: frozenset[int | str] = frozenset()
    # Boxes (x0, y0, x1, y1) of heads by annotation id, of which MPII measures poses.
    head_boxes: Mapping[int, Float[np.ndarray, "4"]] = dataclasses.field(default_factory=dict)

    @cached_property
    def labelled(self) -> Bool[np.ndarray, " K"]:
        """Joints that are annotated at least once in the whole set."""
        return np.asarray(self.people.visibility.any(axis=0))

    def labelled_of(self, person: int) -> Bool[np.ndarray, " K"]:
        """Those that a row of `people` can teach about: of several classes, its own alone."""
        if self.people.classes is None:
            return self.labelled
        own = np.zeros_like(self.labelled)
        own[list(self.skeleton.blocks.values())[self.people.classes[person]]] = True
        return self.labelled & own

    @cached_property
    def marks_hidden(self) -> bool:
        """Some joint is annotated as hidden; else that of none is known whether one sees it."""
        return bool((self.people.visibility == 1).any())

    @cached_property
    def _first(self) -> Int64[np.ndarray, " starts"]:
        return np.searchsorted(self.people.image, np.arange(len(self.images) + 1)).astype(np.int64)

    def people_of(self, image: int) -> slice:
        """Rows of `people` that belong to a row of `images`."""
        return slice(int(self._first[image]), int(self._first[image + 1]))

    def of_class(self, name: str) -> "Dataset":
        """The same pictures with the people of one of the skeleton's classes and its joints."""
        block, number = self.skeleton.blocks[name], list(self.skeleton.blocks).index(name)
        assert self.people.classes is not None
        people = self.people.take(np.flatnonzero(self.people.classes == number))
        joints = {
            "keypoints": people.keypoints[:, block],
            "visibility": people.visibility[:, block],
        }
        return dataclasses.replace(
            self,
            skeleton=self.skeleton.of_class(name),
            people=dataclasses.replace(people, **joints, classes=None),
            categories=frozenset({self.skeleton.classes[number].id, name.lower()}),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the tables: equal exactly if images, people and joint names are."""
        digest = hashlib.sha256(repr((self.skeleton.names, self.images.file_name)).encode())
        for table in (self.images, self.people):
            for field in dataclasses.fields(table):
                value = getattr(table, field.name)
                if isinstance(value, np.ndarray):
                    digest.update(f"{field.name} {value.dtype} {value.shape}".encode())
                    digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return (
            f"Dataset({str(self.directory)!r}, {self.split!r}: {len(self.images)} images, "
            f"{len(self.people)} people)"
        )
