"""Drawings of pictures as files: names of their own, whole or not there at all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from g_rmi.files import write_whole


def drawing_names(endings: Mapping[str, str], *, taken: Sequence[str] = ()) -> dict[str, str]:
    """A file for each picture or video: its name with that ending, or with that after its own.

    All are different, and none of those that are taken.
    """
    plain = {name: str(PurePosixPath(name).with_suffix(end)) for name, end in endings.items()}
    count = Counter([*plain.values(), *taken])
    files = {name: file for name, file in plain.items() if count[file] == 1}
    used = {*taken, *files.values()}
    for name in [name for name in plain if name not in files]:
        files[name] = name + endings[name]
        while files[name] in used:
            files[name] += endings[name]
        used.add(files[name])
    return files


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes an RGB picture. An OSError if it cannot be written."""
    write_whole(path, cv2.imencode(".jpg", image[..., ::-1])[1].tobytes())
