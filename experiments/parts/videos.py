"""Videos, frame by frame: never whole in memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.images import MAX_PIXELS, ImageError, Picture


class Video:
    """A video to read, upright."""

    def __init__(self, path: Path):
        """Opens it; an ImageError if it is none, or has frames of more than `MAX_PIXELS`."""
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said by us
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ImageError("not a video, or its end is missing")
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(self._capture.get(side)) for side in sides)
        if width * height > MAX_PIXELS:
            raise ImageError(f"frames of {width} x {height} are more than {MAX_PIXELS} pixels")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 25.0  # The file does not say.
        # Frames by what the file says, 0 if it does not, and those that were passed so far.
        self.count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.read = 0

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: Any) -> None:
        self._capture.release()

    def frames(self, every: int) -> Iterator[tuple[int, Picture]]:
        """Numbers, from 0, and pictures of each `every`-th frame."""
        while self._capture.grab():
            if self.read % every == 0:
                whole, frame = self._capture.retrieve()
                if not whole:
                    return
                yield self.read, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            self.read += 1

    def check_end(self) -> None:
        """Raises an ImageError if, after the last, more than a twentieth of the frames is missing.

        What a file says of their number is an estimate in some formats.
        """
        if not self.read or self.read < 0.95 * self.count:
            raise ImageError(f"only {self.read} of {self.count} frames can be read")


class VideoFile:
    """A video to write (MPEG-4), there only when it is complete."""

    def __init__(self, path: Path, fps: float):
        """Of an `.mp4` file; nothing is written before the first frame."""
        self._path, self._fps = path, fps
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._writer: Any = None

    def write(self, frame: Picture) -> None:
        """Appends a frame; all must be of one size. An OSError if the file cannot be written."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            size = frame.shape[1::-1]
            self._writer = cv2.VideoWriter(str(self._part), code, self._fps, size)
            if not self._writer.isOpened():
                raise OSError(f"{self._path} cannot be written")
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)
