"""Streams: cameras, network addresses, pipes, files still being written. The newest frame first."""

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cv2

from data_pipeline.images import MAX_PIXELS, ImageError, Picture
from experiments.parts.inputs import Source
from experiments.parts.people_table import write_rows
from experiments.parts.run import Job, Run
from experiments.parts.videos import VideoFile
from g_rmi.evaluation.results import Result
from g_rmi.files import part_of
from g_rmi.skeleton import Skeleton
from g_rmi.training.interrupt import StopRequest
from g_rmi.types import PERSON

# Seconds without a frame after which a stream has ended.
SILENCE = 10
_TIMEOUTS = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, SILENCE * 1000]
_TIMEOUTS += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, SILENCE * 1000]


def name_of(address: str) -> str:
    """What a stream is called in results: no secrets of its address, a file's name."""
    if address.isdecimal() and not os.path.lexists(address):
        return f"camera_{address}"
    if "://" not in address:
        return Path(address).name
    parts = urlsplit(address)
    return re.sub(r"[^\w.-]+", "_", f"{parts.hostname or ''}{parts.path}").strip("_") or "stream"


class Frame(NamedTuple):
    """A frame of a stream."""

    number: int  # of all that came, from 0
    time: float  # seconds from the first one on
    image: Picture


class Stream:
    """A stream that is read all the time; of what it brings only the newest frame is kept.

    Times are those of the container. Cameras and motion JPEG have none: a frame's time is then when
    it arrived.
    """

    def __init__(self, address: str, *, every: int = 1):
        """Opens it; only each `every`-th frame counts.

        Raises:
          ImageError: It cannot be opened, or has frames of more than `MAX_PIXELS`.
        """
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said by us
        there = os.path.lexists(address)
        camera = address.isdecimal() and not there
        options = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "follow;1"} if os.path.isfile(address) else {}
        with _environment(options):
            self._capture = (
                cv2.VideoCapture(int(address))
                if camera
                else cv2.VideoCapture(address, cv2.CAP_FFMPEG, _TIMEOUTS)
            )
        if not self._capture.isOpened():
            raise ImageError("no such camera, or it is in use" if camera else "cannot be opened")
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(self._capture.get(side)) for side in sides)
        if width * height > MAX_PIXELS:
            raise ImageError(f"frames of {width} x {height} are more than {MAX_PIXELS} pixels")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = min(fps, 60.0) if fps > 0 else 25.0
        codec = int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        self._timed = not camera and (there or codec.to_bytes(4, "little") != b"MJPG")
        self._every = every
        self.count = self.dropped = 0  # Frames that came, and those that nobody had time for.
        self._newest: Frame | None = None
        self._error: Exception | None = None
        self._closing = self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._closing = True
        self._thread.join(1.0)
        if not self._thread.is_alive():  # else it waits for the network, and ends with the program
            self._capture.release()

    def _read(self) -> None:
        start, last = None, -1.0
        try:
            while not self._closing and self._capture.grab():
                now = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                now = now if self._timed else time.monotonic()
                start = now if start is None else start
                last = max(now - start, last + 1e-3)  # where a clock is set back
                number, self.count = self.count, self.count + 1
                if number % self._every:
                    continue
                whole, image = self._capture.retrieve()
                if whole:
                    with self._changed:
                        self.dropped += self._newest is not None
                        self._newest = Frame(number, last, image)
                        self._changed.notify()
        except Exception as error:  # which would be lost with the thread
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def frames(self, *, until: Callable[[], bool]) -> Iterator[Frame]:
        """The newest frame, RGB, as often as there is a new one; `until` says when to stop."""
        while not until():
            with self._changed:
                if self._newest is None and not self._ended:
                    self._changed.wait(0.5)
                    if self._newest is None and not self._ended:
                        continue
                frame, self._newest = self._newest, None
            if frame is None:
                if self._error:
                    raise self._error
                return
            yield frame._replace(image=cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB))


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Results:
    """`keypoints.json`, and `people.csv`, written frame by frame; there once they are whole."""

    def __init__(self, out: Path, skeleton: Skeleton, *, csv: bool, **options: Any):
        """In a directory, which is made; `options` are those of `write_rows`."""
        out.mkdir(parents=True, exist_ok=True)
        self._paths = [out / "keypoints.json"] + [out / "people.csv"] * csv
        self._files: list[Any] = []
        self._options: Any = {"skeleton": skeleton, **options}
        self.people = self.frames = self.dropped = 0

    def __enter__(self) -> "Results":
        parts = map(part_of, self._paths)
        self._files = [open(part, "w", encoding="utf-8") for part in parts]  # noqa: SIM115
        for file in self._files[1:]:
            write_rows(file, [], header=True, **self._options)
        return self

    def add(self, entries: Sequence[Result]) -> None:
        """Appends people in COCO's results format."""
        for entry in entries:
            before = ",\n" if self.people else "["
            self._files[0].write(before + json.dumps(entry, allow_nan=False))
            self.people += 1
        for file in self._files[1:]:
            write_rows(file, entries, header=False, **self._options)

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._files[0].write("]\n" if self.people else "[]\n")
        for path, file in zip(self._paths, self._files):
            file.close()
            if kind is None:
                part_of(path).replace(path)
            else:
                part_of(path).unlink(missing_ok=True)


def follow(run: Run, address: str) -> Results:
    """Finds and draws the people of a stream until it ends or is interrupted, which ends it well.

    Nothing that was found is kept in memory. A second interruption leaves no files. An ImageError
    if it cannot be opened.
    """
    arguments, source = run.arguments, Source(None, name_of(address))
    skeleton, drawing = run.pipeline.pose.skeleton, run.drawings.get(source.name)
    track = run.follower()
    bar = run.progress.add_task(source.name, total=None)
    options = {"min_score": run.drawn_from, "visibility": run.tells_visibility}
    results = Results(arguments.out, skeleton, csv=arguments.csv, **options)
    with Stream(address, every=arguments.every) as stream, results:
        file = VideoFile(drawing, stream.fps, live=True) if drawing else None
        with file or contextlib.nullcontext(), StopRequest() as stop:
            frames = stream.frames(until=lambda: stop.requested(0))
            jobs = (Job((frame.number, frame.time), frame.image) for frame in frames)
            for job, people in run.people(jobs):
                number, moment = job.key
                record = run.record(source, number, [], people) | {"time": moment}
                record = track(record)
                run.done.clear()
                ids = {"image_id": number + 1, "category_id": PERSON}
                where = {"file_name": source.name, "frame": number, "time": round(moment, 6)}
                results.add([{**ids, **person, **where} for person in record["people"]])
                results.frames += 1
                if file:
                    file.write(run.drawn(job.image, record), moment)
                run.progress.advance(bar)
    results.dropped = stream.dropped
    return results
