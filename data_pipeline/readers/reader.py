"""What a reader of an annotation format does, and what several of them need."""

import contextlib
import dataclasses
import errno
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, Protocol, runtime_checkable

from data_pipeline.schema import DataError, Dataset
from g_rmi.geometry import MAX_COORDINATE

# Kinds of problems without whose repair a data directory is not read.
REFUSED = {
    "malformed": "not of the format, or a field is missing or of the wrong type",
    "wrong joints": "categories that do not say who the people are or which joints they have",
    "duplicate image id": "two images with one id",
    "duplicate annotation id": "two annotations with one id",
    "unsafe file name": "the file name leads out of the image folder",
    "unknown image": "an annotation of an image that is not listed",
    "keypoint count": "not three numbers per joint",
    "keypoint flag": "a v that is not 0, 1 or 2",
    "shares": "all boxes or all joints lie between 0 and 1: shares of the pictures, not pixels",
}

# What a format does not say and what is taken in its place; training says it, too.
ASSUMED = "assumed"

# Words for the category of people.
PEOPLE = frozenset({"person", "persons", "people", "human", "humans", "pedestrian", "pedestrians"})
_TRUE = {"true": 1, "false": 0}


# Words for a joint that is labelled and cannot be seen.
HIDDEN = frozenset({"occluded", "hidden", "invisible"})


class Problem(NamedTuple):
    """Something wrong with a data directory."""

    kind: str  # what is counted together: a key of `REFUSED`, or of what `data_pipeline.check` adds
    file: str | Path
    text: str  # one line that names the image or annotation, the field and its value


Report = Callable[[Problem], None]


def refuse(problem: Problem) -> None:
    """Raises a DataError for what is not to be passed over; says, once, what is assumed."""
    if problem.kind in REFUSED:
        raise DataError(f"{problem.file}: {problem.text}")
    if problem.kind == ASSUMED:
        _say(f"note: {problem.file}: {problem.text}")


@functools.cache
def _say(line: str) -> None:
    print(line, file=sys.stderr)


@runtime_checkable
class Reader(Protocol):
    """An annotation format: a module with these functions."""

    def splits(self, directory: Path, /) -> tuple[str, ...]:
        """The splits that a directory has in this format; none if it is in another."""
        ...

    def read(self, directory: Path, split: str, report: Report = refuse, /) -> Dataset:
        """Reads a split, "train" or "val".

        `report` is told of every problem; if it returns, what has the problem is left out.

        Raises:
          MissingDataError: No such directory or split.
          DataError: Nothing can be read; or raised by `report`.
        """
        ...


@runtime_checkable
class Writer(Protocol):
    """An annotation format that can be written: a module with this function."""

    def write(
        self, directory: Path, dataset: Dataset, report: Report = refuse, /, *, model: str = ""
    ) -> Path:
        """Writes a split into a directory, whose other splits stay; the pictures are linked to.

        `model` is what found the people, if they are to be corrected before they are labels.
        `report` is told, in one line, of what the format has no place for.

        Returns:
          The file to open with the tool.

        Raises:
          DataError: The pictures are no files.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFolder:
    """Encoded images as files, read when asked for."""

    folder: Path
    file_names: tuple[str, ...]

    def read(self, index: int) -> bytes:
        """The content of the file."""
        for path in self._paths(index):
            with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                return file.read()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name(index))

    def is_there(self, index: int) -> bool:
        """Whether there is a file to read."""
        return any(map(os.path.isfile, self._paths(index)))

    def name(self, index: int) -> str:
        """The path of the file, as its name is written."""
        return os.path.join(self.folder, self.file_names[index])

    def _paths(self, index: int) -> Iterator[bytes]:
        """Where the file may be: the ending in other letters, or without spaces around the name.

        Names in annotation files are UTF-8 on the disk, whatever the locale.
        """
        name = self.name(index)
        yield name.encode(errors="surrogateescape")
        stem, ending = os.path.splitext(name.strip())
        for other in (ending, ending.lower(), ending.upper()):
            yield (stem + other).encode(errors="surrogateescape")


def link_pictures(link: Path, dataset: Dataset) -> None:
    """Links to the folder of a set's pictures; a DataError if they are no files."""
    if not isinstance(dataset.source, ImageFolder):
        raise DataError(f"{dataset.directory}: its images are no files that could be linked to")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(dataset.source.folder.resolve(), target_is_directory=True)


def load_json(path: Path) -> Any:
    """Parses a JSON file; a DataError names file, line and column of what is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # also of a number of thousands of digits
        raise DataError(f"{path}: not a JSON file: {error}") from None


def whole(value: Any) -> int | None:
    """The integer, of 63 bits, that a tool wrote: 7, "7", 7.0, [7] or true; None: not certain."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isdecimal() and len(text) < 100 else number(text)
        value = _TRUE.get(text.lower(), value)
    sound = isinstance(value, int | float) and math.isfinite(value) and value == int(value)
    return int(value) if sound and -(2**63) <= value < 2**63 else None


def number(value: Any, limit: float = MAX_COORDINATE) -> int | float | None:
    """The number that a tool wrote: 1.5, "1.5" or [1.5]; None: it is none, or out of range."""
    found = numbers(value if isinstance(value, list) else [value], 1, limit)
    return found[0] if found else None


def numbers(values: Any, count: int, limit: float = MAX_COORDINATE) -> list[int | float] | None:
    """A list of numbers, also as texts or as a list of lists; None: it is none, or out of range."""
    try:
        if len(values) == count and math.hypot(*values) < limit:  # not if one is nan
            return values
    except (TypeError, OverflowError):
        pass
    if isinstance(values, list) and all(isinstance(value, list) for value in values):
        values = [value for some in values for value in some]
    try:
        values = [float(value) for value in values] if isinstance(values, list) else []
    except (TypeError, ValueError, OverflowError):
        return None
    sound = len(values) == count and math.hypot(*values) < limit
    return values if sound else None


def is_inside(file_name: str) -> bool:
    """Whether a file name from an annotation file stays inside its folder."""
    posix, windows = PurePosixPath(file_name), PureWindowsPath(file_name)
    anchored = posix.is_absolute() or windows.is_absolute() or windows.drive
    return not (anchored or ".." in windows.parts or "\0" in file_name or not posix.name)
