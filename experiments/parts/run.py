"""Pictures and videos through the pipeline: batches, the journal, drawings, results."""

import contextlib
import dataclasses
import errno
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.progress import Progress

from data_pipeline.images import ImageError, Picture, decode, read_header, shrink
from experiments.parts.inputs import STDIN, Source, sequences
from experiments.parts.journal import Journal
from experiments.parts.outputs import write_jpeg
from experiments.parts.videos import Video, VideoFile
from g_rmi.config import require_numbers
from g_rmi.evaluation.results import keypoints_of, visibility_of
from g_rmi.geometry import from_xywh
from g_rmi.inference.canvas import shape_class
from g_rmi.inference.pipeline import PosePipeline, check_boxes
from g_rmi.inference.settings import Settings
from g_rmi.inference.tracking import Tracker, Tracking
from g_rmi.pose.heads.head import tells_visibility
from g_rmi.skeleton import Skeleton
from g_rmi.training.hosts import Hosts
from g_rmi.types import PERSON, People
from g_rmi.viz.draw import draw_people, likelier

# What ends a run; others, such as too long a name, cost a picture its drawing.
_OF_ALL_FILES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_SEEN = 1000  # Pictures whose sizes are looked at before the first is.
_END = -1  # In place of a frame's number: the video was read to its end.


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Finds people in images and videos and draws them.

    Writes keypoints.json (COCO's results format, with file names) and a drawing of each input. The
    same command continues an interrupted run. Exit status: 0, or 1 if inputs were skipped, or 2 if
    nothing could begin.
    """

    # Images, folders (searched recursively, images only), glob patterns, videos, or - for one image
    # on standard input. Or one stream: a camera's number, rtsp://, http:// and the like, or a named
    # pipe, until it ends or Ctrl-C.
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT ...")]
    out: Path  # Where the results go.
    # The detector's work directory or weights file. Default: the packaged weights.
    detector: Path | None = None
    # The same for the pose network, or for a bottom-up one, which needs no detector.
    pose: Path | None = None
    # Boxes that replace the detector: a JSON file, {"image.jpg": [[x0, y0, x1, y1], ...]} or
    # COCO's results format with the image's name, its stem or number as image_id. A low score
    # drops nobody then, unless --min-box-score or --min-score is given.
    boxes: Path | None = None
    # Longer images are first downscaled by the smallest integer factor that makes them fit.
    max_side: int = 2560
    every: int = 1  # Process every n-th frame of a video.
    live: bool = False  # The input is a video that is still being written: follow it as a stream.
    # Also write people.csv, a table with a row for each person and frame: file, frame, time, track,
    # score, box, and each joint's x, y and score. x and y are empty for joints that are not drawn.
    csv: bool = False
    # Follow people through each video, or through the images of each folder in the order of their
    # names: adds "track_id" to keypoints.json and colours the drawing by it.
    track: bool = False
    frame_rate: float = 25.0  # Images of a folder per second, for --track and --smooth.
    draw: bool = True  # Draw what is found.
    draw_boxes: bool = True  # Draw the boxes, too.
    draw_scores: bool = True  # Draw each person's pose score, too.
    # Joints scoring lower are not drawn. Default: .3 where scores are an expected OKS, as with the
    # packaged weights, else .02.
    min_keypoint_score: float | None = None
    # Images processed together, shared among as many of this host's devices as divide it. Default:
    # 1 on CPUs, 4 on accelerators.
    batch_size: int | None = None
    overwrite: bool = False  # Discard the results in --out and start again.
    # "auto" detects srun and mpirun; "all" joins the hosts of a Kubernetes or TPU job, each of
    # which runs this command; "one" works alone. The hosts share the inputs, the first one merges
    # the results; all must see --out.
    hosts: Hosts = "auto"
    # How people are found. Default: as stored in the pose network's weights.
    settings: Settings = Settings()
    tracking: Tracking = Tracking()  # How people are followed; --smooth implies --track.

    @property
    def follows(self) -> bool:
        """Whether frames belong together."""
        return self.track or self.tracking.smooth

    def __post_init__(self):
        if not 0 < self.frame_rate < math.inf:
            raise ValueError(f"--frame-rate {self.frame_rate}: must be more than 0")
        if self.follows and STDIN in self.inputs:
            raise ValueError(f"{STDIN}: on one picture nobody can be followed")
        for name in ("every", "batch_size", "max_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value}: at least 1")
        require_numbers(self, 0, None, "min_keypoint_score")


# Boxes and their scores, and of several classes whose name is each one's.
Boxes = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, list[str]]


class Job(NamedTuple):
    """A picture on its way: what it is for, its pixels, and boxes if they are given."""

    key: Any
    image: Picture
    boxes: Boxes | None = None


def people_of(
    pipeline: PosePipeline,
    jobs: Iterable[Job],
    *,
    batch_size: int,
    max_side: int,
    before: Callable[[Picture], None],
) -> Iterator[tuple[Job, People]]:
    """Runs pictures of any sizes through the pipeline in batches of alike ones, always as many.

    The last ones are filled up with black pictures: less work than compiling another program.
    `before` is called with the first picture of a batch before it runs. Yields each picture and its
    people, in its own pixels; alike pictures in the order they came.
    """
    waiting: dict[tuple[bool, int], list[tuple[Job, Picture, int]]] = {}

    def run(alike: tuple[bool, int]) -> Iterator[tuple[Job, People]]:
        batch = waiting.pop(alike)
        before(batch[0][1])
        blank = np.zeros_like(batch[0][1])
        images = [image for _, image, _ in batch] + [blank] * (batch_size - len(batch))
        given = [(job.boxes[0] / factor, *job.boxes[1:]) for job, _, factor in batch if job.boxes]
        if given:
            nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), []
            given += [nobody[: len(given[0])]] * (batch_size - len(batch))
        found: Any = pipeline(images, *(zip(*given) if given else ()))
        for (job, _, factor), people in zip(batch, found):
            # Block i of a picture that was shrunk has its centre at f i + (f - 1) / 2; a box's
            # edges lie between pixels.
            points = people.keypoints * factor + (factor - 1) / 2
            yield job, dataclasses.replace(people, keypoints=points, boxes=people.boxes * factor)

    for job in jobs:
        factor = -(-max(job.image.shape[:2]) // max_side)
        image = shrink(job.image, factor)
        alike = shape_class(image.shape)
        waiting.setdefault(alike, []).append((job, image, factor))
        if len(waiting[alike]) == batch_size:
            yield from run(alike)
    for alike in list(waiting):
        yield from run(alike)


@dataclasses.dataclass
class Run:
    """Takes each input to its results, or to a line that says why there are none."""

    arguments: Arguments
    pipeline: PosePipeline
    journal: Journal
    progress: Progress
    drawings: dict[str, Path]  # Files to draw into, by input; none to draw nothing.
    boxes: dict[str, Boxes] | None  # Of each picture; None: detect them.
    drawn_from: float  # Score of the keypoints that are drawn.
    # Records of the inputs, by name and frame, and names of inputs that had to be left out.
    done: dict[tuple[str, int | None], dict] = dataclasses.field(default_factory=dict)
    broken: set[str] = dataclasses.field(default_factory=set)
    _compiled: set[tuple[bool, int]] = dataclasses.field(default_factory=set)

    @property
    def tells_visibility(self) -> bool:
        """Whether results say which joints one sees."""
        return tells_visibility(self.pipeline.pose.config.head)

    def pictures(self, sources: Sequence[Source]) -> None:
        """Pictures, except those of which all is there."""
        if not sources:
            return
        bar = self.progress.add_task("pictures", total=len(sources))

        def jobs() -> Iterator[Job]:
            for source in sources:
                try:
                    stamp = source.stamp()
                    record = self._known(source, None, stamp)
                    # People who are followed are drawn when all before are known.
                    if record and (self.arguments.follows or not self._is_missing(source)):
                        self.progress.advance(bar)
                        continue
                    image = decode(source.read())
                    boxes = self.boxes[source.name] if self.boxes else None
                    if boxes and not record:
                        check_boxes(*boxes[:2], size=image.shape[1::-1])
                except (ValueError, OSError) as error:
                    self._report(source, error)
                    self.progress.advance(bar)
                    continue
                if record:
                    self._draw_picture(source, image, record)
                    self.progress.advance(bar)
                else:
                    yield Job((source, stamp), image, boxes)

        for job, people in self.people(jobs(), sources):
            source, stamp = job.key
            record = self.record(source, None, stamp, people)
            if self.arguments.follows and (drawing := self.drawings.get(source.name)):
                with contextlib.suppress(OSError):  # its time comes when those before are known
                    drawing.unlink()
            else:
                self._draw_picture(source, job.image, record)
            self._add(record)
            self.progress.advance(bar)
        if self.arguments.follows:
            for frames in sequences(sources):
                self._follow_pictures(frames)

    def _follow_pictures(self, sources: Sequence[Source], *, draw: bool = True) -> None:
        """Pictures that are a sequence; from the first one that is not drawn, all are drawn."""
        follow, changed = self.follower(), False
        for number, source in enumerate(sources):
            record = self.done.get((source.name, None))
            if record is None:  # which is reported
                continue
            record = follow(record | {"time": number / self.arguments.frame_rate})
            try:
                changed = changed or self._is_missing(source)
                if draw and changed:
                    self._draw_picture(source, decode(source.read()), record)
            except (ImageError, OSError) as error:
                self._report(source, error)

    def video(self, source: Source) -> None:
        """A video. The drawn one needs all frames: those that are done are only drawn again."""
        bar = self.progress.add_task(source.name, total=None)
        try:
            assert source.path
            stamp = source.stamp()
            end = self._known(source, _END, stamp)
            if end and not self._is_missing(source):
                follow = self.follower()
                for frame in range(0, end["frames"], self.arguments.every):
                    if record := self._known(source, frame, stamp):
                        follow(record)
                self.progress.update(bar, total=end["frames"], completed=end["frames"])
                return
            with Video(source.path) as video:
                total = -(-video.count // self.arguments.every) or None
                self.progress.update(bar, total=total)
                self._frames(source, stamp, video, lambda: self.progress.advance(bar))
                if doubt := video.check_end():
                    self._say(f"note: {source.path}: {doubt}")
                end = {"name": source.name, "frame": _END, "stamp": stamp, "frames": video.read}
                self._add(end)
        except (ImageError, OSError) as error:
            self._report(source, error)
            self.progress.stop_task(bar)

    def _frames(
        self, source: Source, stamp: list[int], video: Video, advance: Callable[[], Any]
    ) -> None:
        drawing = self.drawings.get(source.name)
        file = VideoFile(drawing, video.fps / self.arguments.every) if drawing else None
        follow = self.follower()
        with file or contextlib.nullcontext():

            def write(image: Picture, record: dict) -> None:
                record = follow(record)
                if file:
                    file.write(self.drawn(image, record), record["time"])
                advance()

            def jobs() -> Iterator[Job]:
                fresh = False  # only a beginning can be known: frames are written in order
                for number, image in video.frames(self.arguments.every):
                    record = None if fresh else self._known(source, number, stamp)
                    if record:
                        write(image, record)
                    else:
                        fresh = True
                        yield Job((number, video.time), image)

            for job, people in self.people(jobs()):
                number, time = job.key
                record = self.record(source, number, stamp, people) | {"time": time}
                self._add(record)
                write(job.image, record)

    def collect(self, sources: Sequence[Source]) -> None:
        """Takes over what other hosts have done with these inputs; what is missing, they report."""
        self.journal.refresh()
        stamps = {s.name: s.stamp() for s in sources if s.path and s.path.exists()}
        for (name, frame, *stamp), record in self.journal.records.items():
            if stamps.get(name) == stamp:
                self.done[name, frame] = record
        for source in sources:
            if (source.name, _END if source.is_video else None) not in self.done:
                self.broken.add(source.name)
        if self.arguments.follows:
            for frames in sequences([source for source in sources if not source.is_video]):
                self._follow_pictures(frames, draw=False)
            for source in (source for source in sources if source.is_video):
                follow = self.follower()
                for frame in self._frame_numbers(source):
                    follow(self.done[source.name, frame])

    def results(self, sources: Sequence[Source]) -> list[dict]:
        """All people in COCO's results format, with "file_name", "bbox", and a video's "frame".

        Frames have their "time" in seconds. Image ids are the numbers that the names are, as in
        COCO, if all are different numbers; else pictures and frames are counted from 1.
        """
        stems = [PurePosixPath(source.name).stem for source in sources]
        numbers = [int(stem) for stem in stems if stem.isdecimal()]
        numbered = len(set(numbers)) == len(sources) and not any(s.is_video for s in sources)
        entries, count = [], 0
        for source, stem in zip(sources, stems):
            # Whatever the locale, names are UTF-8 where they can be.
            text = os.fsencode(source.name).decode(errors="surrogateescape")
            for frame in self._frame_numbers(source) if source.is_video else [None]:
                count += 1
                ids = {"image_id": int(stem) if numbered else count, "category_id": PERSON}
                record = self.done.get((source.name, frame), {"people": []})
                where = {"file_name": text} | ({} if frame is None else {"frame": frame})
                where |= {"time": round(record["time"], 6)} if "time" in record else {}
                entries += [{**ids, **person, **where} for person in record["people"]]
        return entries

    def _classes(self, sources: Sequence[Source]) -> Iterator[tuple[bool, int]]:
        """What the first pictures will compile, by their headers."""
        for source in (source for source in sources[:_SEEN] if source.path):
            with contextlib.suppress(ImageError, OSError):  # which are reported later
                size = read_header(source.read()).size
                factor = -(-max(size) // self.arguments.max_side)
                yield shape_class([-(-side // factor) for side in size[::-1]])

    def people(
        self, jobs: Iterable[Job], sources: Sequence[Source] = ()
    ) -> Iterator[tuple[Job, People]]:
        """`people_of` with the options of this run; `sources` are what the jobs come from."""

        def announce(image: Picture) -> None:
            """Says why nothing happens for a while; a cache keeps programs for the next run."""
            if shape_class(image.shape) not in self._compiled:
                new = {shape_class(image.shape), *self._classes(sources)} - self._compiled
                self._compiled |= new
                what = f"{len(new)} sizes" if len(new) > 1 else "this size"
                self._say(f"preparing for {what} of images (once; later runs are quicker)")

        size = {"batch_size": self.arguments.batch_size or 1, "max_side": self.arguments.max_side}
        return people_of(self.pipeline, jobs, **size, before=announce)

    def _known(self, source: Source, frame: int | None, stamp: list[int]) -> dict | None:
        """The record of an earlier run, if the file is still the same."""
        record = self.journal.find(source.name, frame, stamp) if stamp else None
        if record:
            self.done[source.name, frame] = record
        return record

    def _frame_numbers(self, source: Source) -> list[int]:
        """Frames of which something is known, in order."""
        return sorted(
            frame
            for name, frame in self.done
            if name == source.name and frame is not None and frame != _END
        )

    def follower(self) -> Callable[[dict], dict]:
        """What to call with the records of one video's frames, in order.

        It gives their people ids and steadies them, where that is asked for, and keeps the new
        records. Journals have those of before: following people is quick, and an interrupted run
        does it again from the first frame.
        """
        if not self.arguments.follows:
            return lambda record: record
        skeleton = self.pipeline.pose.skeleton
        tracker = Tracker(self.arguments.tracking, skeleton=skeleton)

        def follow(record: dict) -> dict:
            found, ids = tracker(_people_in(record, skeleton), record["time"])
            people = [
                {**person, "keypoints": pose["keypoints"], "track_id": int(track)}
                for person, pose, track in zip(record["people"], found.to_coco(), ids)
            ]
            record = {**record, "people": people}
            self.done[record["name"], record["frame"]] = record
            return record

        return follow

    def _is_missing(self, source: Source) -> bool:
        drawing = self.drawings.get(source.name)
        return drawing is not None and not drawing.exists()

    def _report(self, source: Source, error: Exception) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else error
        self.broken.add(source.name)
        self._say(f"error: {source.path or source.name}: {text}")

    def _say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def record(self, source: Source, frame: int | None, stamp: list[int], people: People) -> dict:
        """What journals keep of a picture or frame."""
        names = ("keypoints", "score", "bbox", "visibility")
        if people.classes is not None:
            names = ("category_id", "category_name", *names)
        found = [{name: p[name] for name in names if name in p} for p in people.to_coco()]
        path = {"path": str(source.path or STDIN)}
        return {"name": source.name, "frame": frame, "stamp": stamp, **path, "people": found}

    def _add(self, record: dict) -> None:
        self.done[record["name"], record["frame"]] = record
        self.journal.add(record)

    def _draw_picture(self, source: Source, image: Picture, record: dict) -> None:
        """Whole or not at all."""
        path = self.drawings.get(source.name)
        if path is None:
            return
        try:
            write_jpeg(path, self.drawn(image, record))
        except OSError as error:
            if error.errno in _OF_ALL_FILES:
                raise
            self._report(source, error)

    def drawn(self, image: Picture, record: dict) -> Picture:
        """A picture with the people of its record."""
        skeleton = self.pipeline.pose.skeleton
        people = _people_in(record, skeleton)
        ids = [person["track_id"] for person in record["people"] if "track_id" in person]
        return draw_people(
            image,
            people.keypoints,
            people.keypoint_scores,
            people.scores if self.arguments.draw_scores else None,
            people.boxes if self.arguments.draw_boxes else None,
            ids=np.array(ids, np.int32) if self.arguments.follows else None,
            visibility=likelier(people.visibility),
            skeleton=skeleton,
            classes=people.classes,
            min_score=self.drawn_from,
        )


def _people_in(record: dict, skeleton: Skeleton) -> People:
    found, classes = record["people"], None
    if skeleton.classes:
        classes = np.array([person["category_name"] for person in found], str)
        points = np.zeros((len(found), len(skeleton), 3))
        for row, person in zip(points, found):
            own = skeleton.blocks[person["category_name"]]
            row[own] = np.reshape(person["keypoints"], (-1, 3))
        visibility = _visibility_in(found, skeleton)
    else:
        points = keypoints_of(found, len(skeleton))
        visibility = visibility_of(found, len(skeleton))
    boxes = np.array([person["bbox"] for person in found], np.float64).reshape(-1, 4)
    scores = np.array([person["score"] for person in found], np.float64)
    columns = points[..., :2], points[..., 2], scores, from_xywh(boxes)
    return People(*columns, skeleton, visibility, classes)


def _visibility_in(found: Sequence[dict], skeleton: Skeleton) -> np.ndarray | None:
    """That of people of several classes, 0 for the joints of the others; None: it is not known."""
    if not found or "visibility" not in found[0]:
        return None
    table = np.zeros((len(found), len(skeleton)))
    for row, person in zip(table, found):
        row[skeleton.blocks[person["category_name"]]] = person["visibility"]
    return table
