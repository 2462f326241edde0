"""Containers of videos: whether a file is cut or damaged, by its structure alone."""

from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT, _CLUSTER = b"\x1aE\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # Of MP4, MOV.


def is_cut(path: Path) -> bool:
    """Whether a container (MP4, Matroska, AVI) says that it is longer than its file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head, end = file.read(8), 0
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size
        if head[:4] == _EBML:  # EBML: its header, then the segment
            file.seek(4)
            file.seek(_ebml_size(file), 1)
            if file.read(4) != _SEGMENT:
                return False
            length = _ebml_size(file)
            return length >= 0 and file.tell() + length > size
        while end < size:  # MP4's boxes
            file.seek(end)
            head = file.read(16)
            if not head[4:8].isalnum() or (end == 0 and head[4:8] not in _FIRST_BOXES):
                return False
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length or size - end
            end += max(length, 8)
        return end > size


def is_broken(path: Path) -> bool:
    """Whether the elements of a container (Matroska, AVI) do not follow each other to its end.

    An element has a name and a length; where bytes are damaged what follows is no name.
    """
    end = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(0)
        if head not in (b"RIFF", _EBML):
            return False
        step = _skip_chunk if head == b"RIFF" else _skip_element
        while file.tell() < end:
            if not step(file):
                return True
        return file.tell() > end


def _skip_chunk(file: BinaryIO) -> bool:
    """Goes to AVI's next chunk, into lists; whether this was one."""
    head = file.read(8)
    if head[:4] in (b"RIFF", b"LIST"):
        file.seek(4, 1)
    else:
        length = int.from_bytes(head[4:], "little")
        file.seek(length + length % 2, 1)
    return all(32 <= byte < 127 for byte in head[:4])


def _skip_element(file: BinaryIO) -> bool:
    """Goes to Matroska's next element, into segments and clusters; whether this was one."""
    first = file.read(1)
    name = first + file.read(8 - first[0].bit_length())
    length = _ebml_size(file)
    if name not in (_SEGMENT, _CLUSTER):
        file.seek(max(length, 0), 1)
    return first[0] >= 0x10


def _ebml_size(file: BinaryIO) -> int:
    """A number of Matroska's, whose first byte says how many bytes it has; -1 if unknown."""
    first = int.from_bytes(file.read(1), "big")
    more = 8 - first.bit_length()
    value = first - (128 >> more) << 8 * more | int.from_bytes(file.read(more), "big")
    return -1 if value == (1 << 7 * (more + 1)) - 1 else value
