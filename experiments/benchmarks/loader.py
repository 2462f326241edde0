"""Training pictures per second, without a model, next to the bare decoding and warping of the same.

    python -m experiments.benchmarks.loader [--stage pose|detector] [--data DIR] [--threads N]

Wall and processor time per picture, and how many times the bare loop's both are: medians over
rounds in which the rivals take turns. Pictures count when they are read: also those read ahead, and
all four of a mosaic. On a busy machine only the ratio of the processor time means much.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from data_pipeline.config import (
    DetectorAugmentation,
    DetectorDataConfig,
    PoseAugmentation,
    PoseDataConfig,
)
from data_pipeline.detection_examples import DetectionExamples
from data_pipeline.images import DECODE_FLAGS, reduction_of
from data_pipeline.loader import Batches
from data_pipeline.pose_examples import PoseExamples
from data_pipeline.readers import read
from data_pipeline.schema import Dataset, ImageSource
from experiments.benchmarks.timing import RESULTS, Row, rows, save, time_in_turns
from experiments.parts import cli
from experiments.parts.data import directories
from experiments.parts.experiment import DetectorExperiment, PoseExperiment
from experiments.parts.stages import STAGES
from g_rmi.config import TrainConfig
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.geometry import Affine
from g_rmi.pose.config import PoseConfig

Cut = tuple[int, Affine, tuple[int, int]]
"""What the bare loop makes of one picture: its row, and the crop's map, rows and columns."""

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "pose": {
        "paper": PoseAugmentation(),
        "everything": PoseAugmentation(
            shift=0.05, rotation=30.0, colour_jitter=0.5, half_body=0.3, random_erasing=0.3
        ),
    },
    "detector": {
        "paper": DetectorAugmentation(),
        "scale, colour": DetectorAugmentation(scale=(0.7, 1.4), colour_jitter=0.5),
        "mosaic": DetectorAugmentation(mosaic=1.0),
    },
}
_BATCH = 24
_CLOCKS = {"wall time": time.perf_counter, "processor time": time.process_time}


@dataclass(frozen=True)
class Arguments:
    """Compares the training loader with a bare loop of the same decoding and warping."""

    # Crops for the pose network or whole pictures for the detector.
    stage: Literal["pose", "detector"] = "pose"
    data: tuple[Path, ...] = ()  # One data directory; the embedded synthetic set if not given.
    threads: int = 2  # Reader threads of all rivals; as many as there are cores is fair.
    height: int = 353  # Crop rows.
    width: int = 257  # Crop columns.
    canvas: tuple[int, int] = (320, 480)  # Shorter and longer side of the canvases.
    examples: int = 480  # Examples per turn.
    rounds: int = 5  # Turns.
    out: Path = RESULTS  # Folder of the results.


def crops(size: tuple[int, int], dataset: Dataset, ids: list[int]) -> Iterator[Cut]:
    """The paper's crops of some people."""
    people, rng = dataset.people, np.random.default_rng(0)
    examples = PoseExamples(dataset, *size, PoseDataConfig())
    person = {int(number): i for i, number in enumerate(people.id)}
    for i in map(person.__getitem__, ids):
        yield int(people.image[i]), examples.affine(i, rng), size


def pictures(canvas: tuple[int, int], dataset: Dataset, ids: list[int]) -> Iterator[Cut]:
    """Some pictures, each as large as it fits its canvas, mirrored as in the paper."""
    images, rng = dataset.images, np.random.default_rng(0)
    examples = DetectionExamples([dataset], [1.0], canvas, DetectorDataConfig())
    image = {int(number): i for i, number in enumerate(images.id)}
    for i in map(image.__getitem__, ids):
        room = canvas if images.width[i] >= images.height[i] else canvas[::-1]
        view = examples.view(room, 0, i, rng)
        yield i, view.affine, view.shown


def bare(dataset: Dataset, cuts: Iterator[Cut], *, threads: int) -> Callable[[], None]:
    """Reads, decodes and warps in threads, and nothing else."""
    work = []
    for row, affine, (height, width) in cuts:
        reduction = reduction_of(affine)
        reduced = affine * (reduction, reduction, 1)
        work.append((row, DECODE_FLAGS[reduction], reduced, (width, height)))

    def loop(first: int) -> None:
        for row, flags, affine, size in work[first::threads]:
            data = np.frombuffer(dataset.source.read(row), np.uint8)
            cv2.warpAffine(np.asarray(cv2.imdecode(data, flags)), affine, size)

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(loop, range(threads)))

    return run


def loader(batches: Batches, *, count: int) -> Callable[[], None]:
    """`count` batches from the start of the stream each time, nothing read ahead before."""
    start = batches.get_state()

    def run() -> None:
        for _ in range(count):
            next(batches)
        batches.set_state(start)  # drops what was read ahead

    return run


class Counting:
    """Encoded pictures of another source, and how many were read."""

    def __init__(self, source: ImageSource):
        self._source, self.name = source, source.name
        self._count = itertools.count()

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        next(self._count)  # in one step, so that threads do not lose any
        return self._source.read(index)

    def take(self) -> int:
        """Pictures read since the last call."""
        count, self._count = next(self._count), itertools.count()
        return count


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="benchmarks.loader")
    cv2.setNumThreads(1)
    dataset = read(directories(arguments.data)[0], "train")
    source = Counting(dataset.source)
    dataset = replace(dataset, source=source)
    stage, threads, count = arguments.stage, arguments.threads, arguments.examples // _BATCH
    train, streams = TrainConfig(batch_size=_BATCH), {}
    if stage == "pose":
        size, cut = (arguments.height, arguments.width), crops
        experiment = PoseExperiment(model=PoseConfig(crop_height=size[0], crop_width=size[1]))
    else:
        size, cut = arguments.canvas, pictures
        experiment = DetectorExperiment(model=FasterRCNNConfig(canvas=size))
    for name, augmentation in AUGMENTATIONS[stage].items():
        data: Any = replace(experiment.data, augmentation=augmentation, threads=threads)
        varied = replace(experiment, data=data, train=train)
        streams[name] = STAGES[stage].batches(varied, [dataset])
    rivals = {f"loader, {name}": loader(stream, count=count) for name, stream in streams.items()}
    ids = np.concatenate([next(streams["paper"])[0] for _ in range(count)]).tolist()
    rivals = {"bare": bare(dataset, cut(size, dataset, ids), threads=threads), **rivals}
    source.take()
    seconds = time_in_turns(
        rivals,
        rounds=arguments.rounds,
        clock=lambda: np.array([clock() for clock in _CLOCKS.values()]),
        items=source.take,
    )
    table: list[Row] = []
    for i, clock in enumerate(_CLOCKS):
        table += rows(f"{clock} per picture", {name: s[:, i] for name, s in seconds.items()})
    for stream in streams.values():
        stream.close()
    what = f"{size[0]} x {size[1]} {'crops' if stage == 'pose' else 'canvases'}"
    save("loader", table, arguments.out, note=f"{dataset}, {what}, {threads} threads")


if __name__ == "__main__":
    cli.run(main)
