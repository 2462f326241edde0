"""Videos, frame by frame: never whole in memory."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.images import MAX_PIXELS, ImageError, Picture
from experiments.parts.containers import is_broken, is_cut
from g_rmi.files import part_of


class Video:
    """A video to read, upright."""

    def __init__(self, path: Path):
        """Opens it.

        Raises:
          ImageError: It is none, of a codec that is not there, or of more than `MAX_PIXELS`.
        """
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said by us
        self._capture = cv2.VideoCapture(str(path))
        self._path = path
        if not self._capture.isOpened():
            raise ImageError(_not_opened(path))
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(self._capture.get(side)) for side in sides)
        if width * height > MAX_PIXELS:
            raise ImageError(f"frames of {width} x {height} are more than {MAX_PIXELS} pixels")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 25.0  # The file does not say.
        # Frames by what the file says, 0 if it does not, and those that were passed so far.
        self.count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.read = 0
        self.time = -1 / self.fps  # Seconds from the start to the frame that was passed last.

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: Any) -> None:
        self._capture.release()

    def frames(self, every: int) -> Iterator[tuple[int, Picture]]:
        """Numbers, from 0, and pictures of each `every`-th frame."""
        while self._capture.grab():
            time = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            self.time = time if time > self.time else self.time + 1 / self.fps
            if self.read % every == 0:
                whole, frame = self._capture.retrieve()
                if not whole:
                    return
                yield self.read, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            self.read += 1

    def check_end(self) -> str | None:
        """Looks back after the last frame.

        What a file says of their number can be an estimate, from its duration, or count frames
        that are not shown; if that is all there is to say, it is returned.

        Raises:
          ImageError: No frame could be decoded, or the file is cut or damaged and more than a
            twentieth of the frames is missing.
        """
        counted = f"{self.read} of {self.count} frames"
        if self.read < 0.95 * self.count and is_cut(self._path):
            raise ImageError(f"only {counted} can be read: the file is cut off")
        if not self.read:
            code = int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
            name = code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ") or "unnamed"
            raise ImageError(f"only {counted} can be read: {_undecodable(name)}")
        if self.read < 0.95 * self.count:
            if is_broken(self._path) or self.read < 0.95 * _packets(self._path):
                raise ImageError(f"only {counted} can be read: the file is damaged")
            return f"{counted} that its header promises, which can be an estimate"
        return None


def _packets(path: Path) -> int:
    """How many encoded frames a file holds, whether they can be decoded or not."""
    raw = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    count = 0
    while raw.grab():
        count += 1
    raw.release()
    return count


# How containers name codecs that a build of OpenCV may not have.
_CODECS = {
    "AV1": (b"av01", b"V_AV1", b"AV01"),
    "HEVC": (b"hvc1", b"hev1", b"V_MPEGH/ISO/HEVC", b"dvh1", b"HEVC"),
    "VVC": (b"vvc1", b"vvi1"),
    "ProRes": (b"apch", b"apcn", b"apcs", b"apco", b"ap4h", b"V_PRORES"),
}


def _undecodable(codec: str) -> str:
    advice = "convert it: ffmpeg -i VIDEO -c:v libx264 NEW.mp4"
    return f"damaged, or its codec, {codec}, is none that this build of OpenCV decodes; {advice}"


def _not_opened(path: Path) -> str:
    """Why OpenCV opens no video there."""
    with open(path, "rb") as file:
        data = file.read(1 << 22)
        file.seek(max(path.stat().st_size - (1 << 22), len(data)))
        data += file.read()
    found = (codec for codec, names in _CODECS.items() if any(name in data for name in names))
    codec = None if is_cut(path) else next(found, None)
    return _undecodable(codec) if codec else "not a video, or its end is missing"


class VideoFile:
    """A video to write, there only when it is complete: H.264 with PyAV, else MPEG-4.

    PyAV keeps the frames' own times. OpenCV knows only so many frames a second; of a live video,
    whose frames come as they can, it repeats them for as long as they last.
    """

    def __init__(self, path: Path, fps: float, *, live: bool = False):
        """Of an `.mp4` file; nothing is written before the first frame."""
        self._path, self._fps, self._live = path, fps, live
        self._part = part_of(path, path.suffix)
        self._start: float | None = None
        self._count = 0
        self._last: Picture | None = None
        self._writer: Any = None
        self._stream: Any = None

    def write(self, frame: Picture, time: float) -> None:
        """Appends a frame, shown from so many seconds on; all must be of one size, times increase.

        An OSError if the file cannot be written.
        """
        if self._start is None:
            self._start = time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open(*frame.shape[:2])
        if self._stream:
            self._encode(frame, time - self._start)
            return
        while self._live and self._last is not None:
            if self._count + 1 > round((time - self._start) * self._fps):
                break
            self._append(self._last)
        self._append(frame)
        self._last = frame

    def _open(self, height: int, width: int) -> None:
        if (av := _pyav()) is not None:
            self._writer = av.open(str(self._part), "w", options={"movflags": "faststart"})
            self._stream = self._writer.add_stream("libx264", rate=Fraction(self._fps))
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"  # what browsers show; its sides are even
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
            return
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part), code, self._fps, (width, height))
        if not self._writer.isOpened():
            raise OSError(f"{self._path} cannot be written")

    def _append(self, frame: Picture) -> None:
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
        self._count += 1

    def _encode(self, frame: Picture, time: float) -> None:
        av = _pyav()
        even = np.pad(frame, ((0, len(frame) % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        picture.pts, picture.time_base = round(time * _TICKS), Fraction(1, _TICKS)
        self._writer.mux(self._stream.encode(picture))

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._writer is None:
            return
        if self._stream:
            self._writer.mux(self._stream.encode())
            self._writer.close()
        else:
            self._writer.release()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


_TICKS = 90_000  # a second; a whole number of them lasts a frame of all usual rates


def _pyav() -> Any:
    """PyAV with the encoder that browsers' videos need, if it is installed."""
    with contextlib.suppress(ImportError):
        import av

        return av if "libx264" in av.codecs_available else None


def browsers_play() -> bool:
    """Whether `VideoFile` writes what browsers play."""
    return _pyav() is not None
