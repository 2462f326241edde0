"""Files that are whole or not there at all, and directories that one program writes at a time."""

import contextlib
import errno
import fcntl
import io
import os
import re
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

_BUCKET = re.compile(r"[a-z][a-z0-9+]+:/")  # gs://, s3://, of which paths keep one slash
_NAMES = "surrogateescape"  # how Python keeps bytes of file names that are no text to it
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def part_of(path: Path, ending: str = "") -> Path:
    """Where a file is written before it is whole: a short name, however long the file's is."""
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.part{ending}")


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes beside a file (texts in UTF-8) and then moves that in its place; makes the directory.

    Raises:
      OSError: It cannot be written; nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_bytes(content.encode(errors=_NAMES) if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def check_directory(directory: str | os.PathLike) -> None:
    """An OSError names a directory if no file could be written there, or it could not be made."""
    path = Path(directory).absolute()
    if _BUCKET.match(os.fspath(directory)):
        text = "must be a path of this machine; mount or copy the bucket"
        raise OSError(errno.EINVAL, text, str(directory))
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        text = f"must be a folder, and {there.name} is a file"
        raise NotADirectoryError(errno.ENOTDIR, text, str(directory))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(directory)) from None


def check_file(path: str | os.PathLike) -> None:
    """An OSError names a file if it could not be written."""
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    check_directory(Path(path).parent)


def print_anything() -> None:
    """Lets a terminal that is not in UTF-8 get its lines, with ? for what it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def locked(directory: str | os.PathLike, *, wait: bool = False) -> Iterator[None]:
    """Makes a directory and keeps other programs that ask out of it; of two, the second fails.

    The lock is the kernel's, on the file `.lock`: it ends with its process however that ends, also
    on shared file systems. Where a file system has no locks it says so and goes on. `wait` waits
    for the other program instead, and says so.

    Raises:
      BlockingIOError: Another process is working there; names the directory and the process.
      OSError: The directory cannot be made or written to.
    """
    check_directory(directory)
    Path(directory).mkdir(parents=True, exist_ok=True)
    with open(Path(directory) / ".lock", "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(300).decode(errors="replace").strip() or "another process"
            used = f"{directory} is in use by {owner}"
            if not wait:
                raise BlockingIOError(
                    f"{used}: wait for its end, or name another directory"
                ) from None
            print(f"{used}: waiting for its end", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            text = f"note: {directory}: the file system has no locks; nobody else must write there"
            print(text, file=sys.stderr)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
