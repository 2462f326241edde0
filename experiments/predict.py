"""Finds people: `python -m experiments.predict INPUT... --out DIR [--detector DIR --pose DIR]`."""

import contextlib
import dataclasses
import math
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from data_pipeline.boxes import read_boxes
from data_pipeline.images import ImageError, read_header
from experiments.parts import cli
from experiments.parts.inputs import STDIN, Source, find, sequences, stream_of
from experiments.parts.journal import Journal, has_journal, remove_journals
from experiments.parts.outputs import drawing_names
from experiments.parts.people_table import write_table
from experiments.parts.run import Arguments, Boxes, Run
from experiments.parts.streams import follow, name_of
from experiments.parts.videos import browsers_play
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.evaluation.results import write_results
from g_rmi.inference.load import SHIPPED, load_settings, skeleton_of
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.skeleton import JointClass
from g_rmi.training.hosts import alone, is_first, join_hosts, wait_for_all
from g_rmi.training.sharding import data_mesh
from g_rmi.training.weights import read_config

INTERRUPTED = 130  # Exit status of a program that Ctrl-C stopped.


class Rate(ProgressColumn):
    """Pictures per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")


def drawings(sources: Sequence[Source], out: Path) -> dict[str, Path]:
    """A file of its own to draw into for each input."""
    names = drawing_names({s.name: ".mp4" if s.is_video else ".jpg" for s in sources})
    files = {name: out / file for name, file in names.items()}
    inputs = {os.path.realpath(source.path) for source in sources if source.path}
    for file in files.values():
        if os.path.realpath(file) in inputs:
            raise ValueError(f"--out {out}: {file} would be drawn over, which is an input")
    return files


def refuse_foreign(out: Path, files: Sequence[Path]) -> None:
    """A ValueError if another program, or the user, has a file where results of a run would go."""
    if not has_journal(out) and (there := [file for file in files if os.path.lexists(file)]):
        raise ValueError(f"--out {out}: {there[0].name} is there; --overwrite replaces it")


def refuse_others(journal: Journal, sources: Sequence[Source], out: Path) -> None:
    """A ValueError if an earlier run has found people whose pictures are not among these."""
    given = {str(source.path) for source in sources}
    known = {record.get("path", "") for record in journal.records.values()}
    for path in sorted(known - given):
        if path and (path == STDIN or os.path.exists(path)):
            raise ValueError(
                f"--out {out} holds results of other inputs, such as {path}, which would be lost; "
                "name another --out, or give them all (--overwrite starts anew)"
            )


def boxes_of(arguments: Arguments, sources: Sequence[Source]) -> dict[str, Boxes] | None:
    """Boxes and scores of each picture, of the file that `--boxes` names; classes, if several."""
    if not arguments.boxes:
        return None
    if videos := [source.name for source in sources if source.is_video]:
        raise ValueError(f"--boxes: {videos[0]} is a video; boxes are for pictures")
    names, settings = [source.name for source in sources], arguments.settings
    limits = {"min_score": settings.min_box_score, "max_per_image": settings.max_people}

    def size(row: int) -> tuple[int, int] | None:
        if sources[row].path is not None:  # standard input can be read only once
            with contextlib.suppress(ImageError, OSError):  # which are reported later
                return read_header(sources[row].read()).size
        return None

    if classes := skeleton_of(read_config(arguments.pose or SHIPPED["pose"])).classes:
        return boxes_of_classes(arguments.boxes, names, classes, sizes=size, **limits)
    table = read_boxes(arguments.boxes, names, sizes=size, **limits)
    first = np.searchsorted(table.image, np.arange(len(names) + 1))  # rows are sorted by picture
    without = int((np.diff(first) == 0).sum())
    missing = f"no box for {without} of {len(names)} pictures" if without else None
    for note in filter(None, (missing, table.note)):
        if is_first():
            print(f"note: {arguments.boxes}: {note}")
    box, score = table.box.astype(np.float32), table.score.astype(np.float32)
    rows = {name: slice(*first[i : i + 2]) for i, name in enumerate(names)}
    return {name: (box[row], score[row]) for name, row in rows.items()}


def boxes_of_classes(
    path: Path, names: Sequence[str], classes: Sequence[JointClass], **options: Any
) -> dict[str, Boxes]:
    """Boxes, scores and classes of each picture, of a file whose categories are the classes'."""
    tables = {}
    for each in classes:
        only = frozenset({each.id, each.name.lower()})
        tables[each.name] = read_boxes(path, names, only=only, **options)
    found: dict[str, Boxes] = {}
    for row, name in enumerate(names):
        own = {c: np.flatnonzero(table.image == row) for c, table in tables.items()}
        found[name] = (
            np.concatenate([tables[c].box[rows] for c, rows in own.items()]).astype(np.float32),
            np.concatenate([tables[c].score[rows] for c, rows in own.items()]).astype(np.float32),
            [c for c, rows in own.items() for _ in rows],
        )
    return found


def dependencies(arguments: Arguments, pipeline: PosePipeline) -> dict[str, Any]:
    """All that results depend on, but for the inputs."""
    names = ("max_side", "every", "min_keypoint_score")
    settings = dataclasses.asdict(arguments.settings)
    del settings["crops_at_once"]
    tracking = {"track": True, "frame_rate": arguments.frame_rate}
    tracking |= dataclasses.asdict(arguments.tracking)
    boxes = arguments.boxes and f"{zlib.crc32(arguments.boxes.read_bytes()):08x}"
    return {
        **{stage: checksum(pipeline.variables.get(stage)) for stage in ("detector", "pose")},
        "boxes": boxes,
        **{name: getattr(arguments, name) for name in names},
        **settings,
        **(tracking if arguments.follows else {}),
    }


def checksum(variables: Any) -> str | None:
    """Tells weights apart; None if there are none."""
    leaves = jax.tree.leaves(jax.device_get(variables))
    total = 0
    for leaf in leaves:
        total = zlib.crc32(leaf.tobytes(), total)
    return f"{total:08x}" if leaves else None


def progress_bars() -> Progress:
    """On standard error; only messages on hosts other than the first."""
    name, left = TextColumn("{task.description}"), TimeRemainingColumn()
    columns = (name, BarColumn(), MofNCompleteColumn(), Rate(), left)
    return Progress(*columns, console=Console(stderr=True), disable=not is_first())


def prepare(arguments: Arguments, *, boxes_given: bool) -> tuple[Arguments, PosePipeline, float]:
    """The pipeline, arguments without open choices, and the score from which joints are drawn."""
    batch = arguments.batch_size or (1 if jax.default_backend() == "cpu" else 4)
    arguments = dataclasses.replace(arguments, batch_size=batch)
    devices = jax.local_devices()[: math.gcd(batch, jax.local_device_count())]
    pipeline = PosePipeline.load(
        arguments.detector,
        arguments.pose,
        boxes_given=boxes_given,
        settings=arguments.settings,
        mesh=data_mesh(devices) if len(devices) > 1 else None,
    )
    if arguments.follows and (blocks := pipeline.pose.skeleton.blocks):
        raise ValueError(f"--track: not with several classes, as here {', '.join(blocks)}")
    decoding = pipeline.pose.decoding(arguments.settings.decoding)
    drawn = arguments.min_keypoint_score
    drawn = pipeline.pose.config.head.drawn_from(decoding) if drawn is None else drawn
    settings = dataclasses.replace(arguments.settings, decoding=decoding)
    arguments = dataclasses.replace(arguments, settings=settings, min_keypoint_score=drawn)
    return arguments, pipeline, drawn


def predict_stream(arguments: Arguments, address: str) -> int:
    """Follows a stream; the exit status. A ValueError if it cannot be opened."""
    if arguments.boxes:
        raise ValueError(f"--boxes: {address} is a stream; boxes are for pictures")
    if jax.process_count() > 1:
        raise ValueError(f"{address}: a stream is for one host")
    out, name = arguments.out, name_of(address)
    drawing = {name: out / f"{name}.mp4"} if arguments.draw else {}
    written = [out / "keypoints.json", *drawing.values()] + [out / "people.csv"] * arguments.csv
    there = [file for file in written if os.path.lexists(file)]
    if there and not arguments.overwrite:
        raise ValueError(f"--out {out}: {there[0].name} is there; --overwrite replaces it")
    arguments, pipeline, drawn = prepare(
        dataclasses.replace(arguments, batch_size=1), boxes_given=False
    )
    remove_journals(out)
    nothing: Any = None  # a stream cannot go on where it stopped: no journal
    with progress_bars() as progress:
        run = Run(arguments, pipeline, nothing, progress, drawing, None, drawn)
        try:
            found = follow(run, address)
        except ImageError as error:
            raise ValueError(f"{address}: {error}") from None
    frames = f"{found.frames} frames, {found.dropped} dropped as newer ones had come"
    print(f"{found.people} detections in {frames}")
    print(f"wrote {', '.join(file.name for file in written if file.exists())} to {out}")
    return 0


def predict(arguments: Arguments, sources: Sequence[Source]) -> Run:
    """Runs this host's part of the inputs, first the pictures; the first host then knows of all."""
    pictures = [source for source in sources if not source.is_video]
    videos = [source for source in sources if source.is_video]
    files = drawings(sources, arguments.out) if arguments.draw else {}
    boxes = boxes_of(arguments, sources)
    arguments, pipeline, drawn = prepare(arguments, boxes_given=boxes is not None)
    host, hosts = jax.process_index(), jax.process_count()
    together = sequences(pictures) if arguments.follows else [[picture] for picture in pictures]
    own = [picture for each in together[host::hosts] for picture in each]
    if not arguments.overwrite:
        tables = ["keypoints.json"] + ["people.csv"] * arguments.csv
        refuse_foreign(arguments.out, [*(arguments.out / name for name in tables), *files.values()])
    else:
        if is_first():
            remove_journals(arguments.out)
        wait_for_all("journals are removed")
    journal = Journal(arguments.out, dependencies(arguments, pipeline), host=host)
    with journal, progress_bars() as progress:
        refuse_others(journal, sources, arguments.out)
        run = Run(arguments, pipeline, journal, progress, files, boxes, drawn)
        run.pictures(own)
        for video in videos[host::hosts]:
            run.video(video)
        wait_for_all("inputs are done")
        if hosts > 1 and is_first():
            done = {*own, *videos[host::hosts]}
            run.collect([source for source in sources if source not in done])
    return run


def counted(results: Sequence[Mapping[str, Any]]) -> str:
    """How many people there are in images, and how often somebody is seen in videos."""
    frames = {(person["file_name"], person["frame"]) for person in results if "frame" in person}
    seen = sum("frame" in person for person in results)
    tracks = {_track(person) for person in results if person.get("track_id", -1) >= 0}
    there = len(results) - seen
    parts = [f"{there} {'person' if there == 1 else 'people'}"] if there or not frames else []
    parts += [f"{seen} detections in {len(frames)} frames"] * bool(frames)
    return ", ".join(parts + [f"{len(tracks)} tracks"] * bool(tracks))


def _track(person: Mapping[str, Any]) -> tuple[Any, ...]:
    """Ids are counted anew in each video and in each folder of pictures."""
    name = PurePosixPath(person["file_name"])
    return name if "frame" in person else name.parent, person["track_id"]


def write(run: Run, sources: Sequence[Source]) -> None:
    """Writes what all hosts have found and says so."""
    results, out = run.results(sources), run.arguments.out
    write_results(out / "keypoints.json", results)
    if run.arguments.csv:
        skeleton = run.pipeline.pose.skeleton
        options = {"min_score": run.drawn_from, "visibility": run.tells_visibility}
        write_table(out / "people.csv", results, skeleton, **options)
    whole = len(sources) - len(run.broken)
    print(f"{counted(results)}; {whole} of {len(sources)} inputs done")
    drawn = " and drawings" if whole and run.arguments.draw else ""
    table = " and people.csv" if run.arguments.csv else ""
    print(f"wrote keypoints.json{table}{drawn} to {out}")


def main(argv: Sequence[str]) -> int:
    """The program."""
    settings = load_settings(cli.peek(argv, "pose"))
    if cli.peek(argv, "boxes"):  # somebody has said that people are there
        settings = dataclasses.replace(settings, min_box_score=0.0, min_score=0.0)
    arguments = cli.arguments(Arguments, argv, name="predict", streams=True, settings=settings)
    address = stream_of(arguments.inputs, live=arguments.live)
    sources = find(arguments.inputs, leave_out=arguments.out) if address is None else []
    videos = address is not None or any(source.is_video for source in sources)
    if arguments.draw and videos and not browsers_play():
        print(
            "note: without PyAV (pip install av) videos are MPEG-4, which browsers do not play",
            file=sys.stderr,
        )
    join_hosts(arguments.hosts)
    if jax.process_count() > 1 and any(source.path is None for source in sources):
        raise ValueError(f"{STDIN}: standard input is for one host")
    enable_compilation_cache()
    try:
        with alone(arguments.out):
            if address is not None:
                return predict_stream(arguments, address)
            run = predict(arguments, sources)
            if is_first():
                write(run, sources)
    except KeyboardInterrupt:
        goes_on = "the same command goes on from here" if address is None else "nothing is written"
        print(f"interrupted; {goes_on}", file=sys.stderr)
        return INTERRUPTED
    return 1 if run.broken else 0


if __name__ == "__main__":
    cli.run(main)
