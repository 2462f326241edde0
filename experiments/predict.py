"""Finds people: `python -m experiments.predict INPUT... --out DIR [--detector DIR --pose DIR]`."""

import dataclasses
import math
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import jax
import numpy as np
import tyro
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
from experiments.parts import cli
from experiments.parts.inputs import STDIN, Source, find
from experiments.parts.journal import Journal, remove_journals
from experiments.parts.run import Run
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.evaluation.results import write_results
from g_rmi.inference.load import load_settings
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.training.hosts import Hosts, is_first, join_hosts, wait_for_all
from g_rmi.training.sharding import data_mesh

INTERRUPTED = 130  # Exit status of a program that Ctrl-C stopped.


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Finds the people of photographs and videos and draws them.

    Writes keypoints.json (COCO's results format, with file names) and a drawn picture or video for
    each input. The same command goes on where an interrupted one stopped. Exit status: 0, or 1 if
    inputs had to be left out, or 2 if nothing could begin.

    Attributes:
      inputs: Pictures, folders (with all folders below, pictures only), glob patterns, videos, or -
        for one picture on standard input.
      out: Where the results go.
      detector: Directory of the detector's training, or its weights file. Default: the detector
        shipped with the package.
      pose: The same of the pose network.
      boxes: Where to look instead of asking a detector: a JSON file, {"picture.jpg": [[x0, y0, x1,
        y1], ...]} or COCO's results format with the picture's name, its stem or number as image_id.
      max_side: Larger pictures are shrunk by the smallest whole factor that makes them fit.
      every: Of videos, only every n-th frame.
      draw: Draw what is found.
      min_keypoint_score: Keypoints that score lower are not drawn. Default: .3 where scores are an
        expected OKS, as those of the package's weights are, else .02.
      batch_size: Pictures that go through the networks together, shared out among as many devices
        of this host as divide it.
      overwrite: Start anew, also with other options.
      hosts: "all" if each host of a Kubernetes or TPU job runs this command; one of srun or mpirun
        needs nothing. Each takes a part of the inputs, the first one gathers the
        results; all must see --out. "one" works alone.
      settings: How people are looked for. Default: as the weights of the pose network were written
        with, else those of the package.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT ...")]
    out: Path
    detector: Path | None = None
    pose: Path | None = None
    boxes: Path | None = None
    max_side: int = 2560
    every: int = 1
    draw: bool = True
    min_keypoint_score: float | None = None
    batch_size: int = 4
    overwrite: bool = False
    hosts: Hosts = "auto"
    settings: Settings = Settings()

    def __post_init__(self):
        for name in ("every", "batch_size", "max_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1")


class Rate(ProgressColumn):
    """Pictures per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")


def drawings(sources: Sequence[Source], out: Path) -> dict[str, Path]:
    """A file to draw into for each input: its name with another ending, or after its own.

    Raises:
      ValueError: An input lies there.
    """
    plain = {
        source.name: PurePosixPath(source.name).with_suffix(_ending(source)) for source in sources
    }
    count = Counter(plain.values())
    files = {
        source.name: out
        / (plain[source.name] if count[plain[source.name]] == 1 else source.name + _ending(source))
        for source in sources
    }
    inputs = {source.path for source in sources}
    for file in files.values():
        if file.resolve() in inputs:
            raise ValueError(f"--out {out}: {file} would be drawn over, which is an input")
    return files


def _ending(source: Source) -> str:
    return ".mp4" if source.is_video else ".jpg"


def dependencies(arguments: Arguments, pipeline: PosePipeline) -> dict[str, Any]:
    """All that results depend on, but for the inputs."""
    names = ("max_side", "every", "min_keypoint_score")
    settings = dataclasses.asdict(arguments.settings)
    del settings["crops_at_once"]
    boxes = arguments.boxes and f"{zlib.crc32(arguments.boxes.read_bytes()):08x}"
    return {
        **{stage: checksum(pipeline.variables.get(stage)) for stage in ("detector", "pose")},
        "boxes": boxes,
        **{name: getattr(arguments, name) for name in names},
        **settings,
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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not is_first())


def predict(arguments: Arguments, sources: Sequence[Source]) -> Run:
    """Runs this host's part of the inputs, first the pictures; the first host then knows of all.

    Raises:
      ValueError: An option, the boxes, a training or the results of an earlier run do not fit.
    """
    pictures = [source for source in sources if not source.is_video]
    videos = [source for source in sources if source.is_video]
    files = drawings(sources, arguments.out) if arguments.draw else {}
    boxes = None
    if arguments.boxes:
        if videos:
            raise ValueError(f"--boxes: {videos[0].name} is a video; boxes are for pictures")
        names = [source.name for source in pictures]
        table = read_boxes(
            arguments.boxes,
            names,
            min_score=arguments.settings.min_box_score,
            max_per_image=arguments.settings.max_people,
        )
        columns = table.box.astype(np.float32), table.score.astype(np.float32)
        boxes = {
            name: (columns[0][table.image == i], columns[1][table.image == i])
            for i, name in enumerate(names)
        }
    devices = jax.local_devices()[: math.gcd(arguments.batch_size, jax.local_device_count())]
    mesh = data_mesh(devices) if len(devices) > 1 else None
    pipeline = PosePipeline.load(
        arguments.detector,
        arguments.pose,
        boxes_given=boxes is not None,
        settings=arguments.settings,
        mesh=mesh,
    )
    decoding = pipeline.pose.decoding(arguments.settings.decoding)
    drawn = arguments.min_keypoint_score
    drawn = pipeline.pose.config.head.drawn_from(decoding) if drawn is None else drawn
    settings = dataclasses.replace(arguments.settings, decoding=decoding)
    arguments = dataclasses.replace(arguments, settings=settings, min_keypoint_score=drawn)
    host, hosts = jax.process_index(), jax.process_count()
    if arguments.overwrite:
        if is_first():
            remove_journals(arguments.out)
        wait_for_all("journals are removed")
    journal = Journal(arguments.out, dependencies(arguments, pipeline), host=host)
    with journal, progress_bars() as progress:
        run = Run(
            pipeline,
            journal,
            progress,
            files,
            boxes,
            batch_size=arguments.batch_size,
            max_side=arguments.max_side,
            every=arguments.every,
            min_keypoint_score=drawn,
        )
        run.pictures(pictures[host::hosts])
        for video in videos[host::hosts]:
            run.video(video)
        wait_for_all("inputs are done")
        if hosts > 1 and is_first():
            own = {*pictures[host::hosts], *videos[host::hosts]}
            run.collect([source for source in sources if source not in own])
    return run


def main(argv: Sequence[str]) -> int:
    """The program."""
    missing: Any = tyro.MISSING
    default = Arguments(missing, missing, settings=load_settings(cli.peek(argv, "pose")))
    arguments = cli.arguments(Arguments, argv, name="predict", default=default)
    sources = find(arguments.inputs, leave_out=arguments.out)
    join_hosts(arguments.hosts)
    if jax.process_count() > 1 and any(source.path is None for source in sources):
        raise ValueError(f"{STDIN}: standard input is for one host")
    enable_compilation_cache()
    try:
        run = predict(arguments, sources)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    if not is_first():
        return 1 if run.broken else 0
    results = run.results(sources)
    write_results(arguments.out / "keypoints.json", results)
    whole = len(sources) - len(run.broken)
    print(f"{len(results)} people; {whole} of {len(sources)} inputs done")
    print(f"wrote keypoints.json{' and drawings' * arguments.draw} to {arguments.out}")
    return 1 if run.broken else 0


if __name__ == "__main__":
    cli.run(main)
