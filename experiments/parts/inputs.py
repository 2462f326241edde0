"""Photographs and videos as people have them: found by what was typed."""

import contextlib
import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipeline.images import PICTURES

STDIN = "-"
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


_NUMBER = re.compile(r"(\d+)")


_STREAM = re.compile(r"(?:rtsps?|rtmps?|https?|udp|tcp|srt)://", re.IGNORECASE)


class _NoPictures(ValueError):
    """A folder without input; one of several that a pattern matches may be so."""


class Source(NamedTuple):
    """A picture or a video."""

    path: Path | None  # None for standard input.
    name: str  # In results: the path below the folder that was given, or the file's name.

    @property
    def is_video(self) -> bool:
        """By the ending of its name."""
        return Path(self.name).suffix.lower() in VIDEOS

    def read(self) -> bytes:
        """The bytes of a picture."""
        return sys.stdin.buffer.read() if self.path is None else self.path.read_bytes()

    def stamp(self) -> list[int]:
        """What changes when the file does: its size and time."""
        if self.path is None:
            return []
        status = self.path.stat()
        return [status.st_size, status.st_mtime_ns]


def find(given: Sequence[str], *, leave_out: Path) -> list[Source]:
    """Finds pictures and videos.

    Folders are searched with all folders below them, linked ones too, each once, for pictures only;
    hidden files and folders are passed over. A file that is named is taken whatever its ending
    says.

    `-` is one picture on standard input. The folder `leave_out` is not searched: results of an
    earlier run are no input. Sources come in the order they were given, the files of a folder by
    name, none twice; names are unique. A ValueError says what is not there.
    """
    if not given:
        raise ValueError("no input: give pictures, folders of pictures, videos, or - for stdin")
    found: dict[Path | None, str] = {}
    for word in given:
        for path, name in _find(word, leave_out.resolve()):
            found.setdefault(path, name)
    if not found:
        raise ValueError(f"{', '.join(given)}: no picture in it, of {' '.join(PICTURES)}")
    if max(Counter(found.values()).values()) > 1:
        paths = [path for path in found if path is not None]
        common = os.path.commonpath([path.parent for path in paths])
        found = {p: n if p is None else p.relative_to(common).as_posix() for p, n in found.items()}
    return [Source(path, name) for path, name in found.items()]


def stream_of(given: Sequence[str], *, live: bool) -> str | None:
    """The stream among the inputs, if there is one: a camera's number, an address, a named pipe.

    `live` makes one of a file. A ValueError if there are other inputs, too.
    """
    streams = [word for word in given if live or _is_stream(word)]
    if streams and len(given) > 1:
        raise ValueError(f"{streams[0]}: a stream must be the only input, got {len(given)}")
    if live and not _is_stream(given[0]) and not Path(given[0]).is_file():
        raise ValueError(f"{given[0]}: no such file, which --live is for")
    return streams[0] if streams else None


def _is_stream(word: str) -> bool:
    path = Path(word)
    there = bool(word) and os.path.lexists(path)
    return path.is_fifo() if there else word.isdecimal() or bool(_STREAM.match(word))


def sequences(sources: Iterable[Source]) -> list[list[Source]]:
    """Pictures by folder, in the order of their names, in which numbers count as such."""
    folders: dict[Path | None, list[Source]] = {}
    for source in sources:
        folders.setdefault(source.path and source.path.parent, []).append(source)

    def order(source: Source) -> list[int | str]:
        return [int(part) if part.isdecimal() else part for part in _NUMBER.split(source.name)]

    return [sorted(folder, key=order) for folder in folders.values()]


def _find(word: str, leave_out: Path) -> Iterator[tuple[Path | None, str]]:
    """Absolute paths and names that one argument stands for."""
    path = Path(word)
    if word == STDIN:
        yield None, "stdin"
    elif path.is_dir() and word:
        yield from _search(path, leave_out)
    elif word and os.path.lexists(path):  # also a link to nothing, which costs only itself
        yield Path(os.path.realpath(path)), path.name
    elif glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))
        if not matches:
            raise ValueError(f"{word}: no file matches")
        for match in matches:
            with contextlib.suppress(_NoPictures):
                yield from _find(match, leave_out)
    else:
        raise ValueError(f"{word or 'an empty word'}: no such file or folder")


def _search(folder: Path, leave_out: Path) -> Iterator[tuple[Path, str]]:
    folder = folder.resolve()
    if folder == leave_out:
        raise _NoPictures(f"{folder}: results must not go into the folder they are made from")
    found, videos = [], 0
    seen, tops = {os.path.realpath(leave_out)}, [folder]
    walks = (entry for top in tops for entry in os.walk(top))  # linked folders after all others
    for directory, below, files in walks:
        here, real = Path(directory), os.path.realpath(directory)
        below[:] = [] if real in seen else [b for b in below if not b.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        tops += [here / b for b in sorted(below) if (here / b).is_symlink()]
        for path in (here / file for file in files if not file.startswith(".")):
            videos += path.suffix.lower() in VIDEOS
            if path.suffix.lower() in PICTURES:
                found.append((path, path.relative_to(folder).as_posix()))
    if not found:
        more = f"; its {videos} videos must be named one by one" if videos else ""
        raise _NoPictures(f"{folder}: no picture in it, of {' '.join(PICTURES)}{more}")
    yield from sorted(found)
