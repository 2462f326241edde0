"""Training pictures per second, without a model, next to the bare decoding and warping of the same.

    python -m experiments.benchmarks.loader [--stage pose|detector] [--data DIR] [--threads N]

Wall and processor time per picture, and how many times the bare loop's both are: medians over
rounds in which the rivals take turns. Pictures count when they are read: also those read ahead, and
all four of a mosaic. On a busy machine only the ratio of the processor time means much.
"""

import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import tyro

from data_pipeline.config import (
    DetectorAugmentation,
    DetectorDataConfig,
    PoseAugmentation,
    PoseDataConfig,
)
from data_pipeline.detection_examples import DetectionExamples
from data_pipeline.images import DECODE_FLAGS, reduction_of
from data_pipeline.loader import Batches, detection_batches, pose_batches
from data_pipeline.pose_examples import PoseExamples
from data_pipeline.readers import read
from data_pipeline.schema import DataError, Dataset, ImageSource
from experiments.benchmarks.timing import RESULTS, Row, Timings, rows, save
from experiments.parts.data import directories
from g_rmi.geometry import Affine

POSE = {
    "paper": PoseAugmentation(),
    "everything": PoseAugmentation(
        shift=0.05, rotation=30.0, colour=0.5, half_body=0.3, occlusion=0.3
    ),
}
DETECTOR = {
    "paper": DetectorAugmentation(),
    "scale, colour": DetectorAugmentation(scale=(0.7, 1.4), colour=0.5),
    "mosaic": DetectorAugmentation(mosaic=1.0),
}
_BATCH = 24


class Cut(NamedTuple):
    """What the bare loop makes of one picture: its row, and the crop's map, rows and columns."""

    row: int
    affine: Affine
    size: tuple[int, int]


def crops(dataset: Dataset, ids: Iterable[int], *, height: int, width: int) -> list[Cut]:
    """The paper's crops of some people."""
    people, rng = dataset.people, np.random.default_rng(0)
    examples = PoseExamples(dataset, height, width, PoseDataConfig(augmentation=POSE["paper"]))
    person = {int(number): i for i, number in enumerate(people.id)}
    cuts = []
    for i in map(person.__getitem__, ids):
        cuts.append(Cut(int(people.image[i]), examples.affine(i, rng), (height, width)))
    return cuts


def pictures(dataset: Dataset, ids: Iterable[int], *, canvas: tuple[int, int]) -> list[Cut]:
    """Some pictures, each as large as it fits its canvas, mirrored as in the paper."""
    images, rng = dataset.images, np.random.default_rng(0)
    config = DetectorDataConfig(augmentation=DETECTOR["paper"])
    examples = DetectionExamples([dataset], [1.0], canvas, config)
    image = {int(number): i for i, number in enumerate(images.id)}
    cuts = []
    for i in map(image.__getitem__, ids):
        room = canvas if images.width[i] >= images.height[i] else canvas[::-1]
        view = examples.view(room, 0, i, rng)
        cuts.append(Cut(i, view.affine, view.shown))
    return cuts


def bare(dataset: Dataset, cuts: list[Cut], *, threads: int) -> Callable[[], None]:
    """Reads, decodes and warps in threads, and nothing else."""
    work = []
    for row, affine, (height, width) in cuts:
        reduction = reduction_of(affine)
        reduced = affine * (reduction, reduction, 1)
        work.append((row, DECODE_FLAGS[reduction], reduced, (width, height)))

    def loop(first: int) -> None:
        for row, flags, affine, size in work[first::threads]:
            data = np.frombuffer(dataset.source.read(row), np.uint8)
            image = np.asarray(cv2.imdecode(data, flags))
            cv2.warpAffine(image, affine, size)

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(loop, range(threads)))

    return run


def loader(batches: Batches, *, examples: int) -> Callable[[], None]:
    """The training loader from the start of its stream each time, nothing read ahead before."""
    start = batches.get_state()

    def run() -> None:
        for _ in range(examples // _BATCH):
            next(batches)
        batches.set_state(start)  # drops what was read ahead

    return run


class Counting:
    """Encoded pictures of another source, and how many were read."""

    def __init__(self, source: ImageSource):
        self._source = source
        self._count = itertools.count()

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        next(self._count)  # in one step, so that threads do not lose any
        return self._source.read(index)

    def name(self, index: int) -> str:
        """Where the picture lies."""
        return self._source.name(index)

    def take(self) -> int:
        """Pictures read since the last call."""
        count, self._count = next(self._count), itertools.count()
        return count


def measure(
    rivals: dict[str, Callable[[], None]], source: Counting, *, rounds: int
) -> dict[str, Timings]:
    """Wall and processor seconds per picture; one more turn of each rival warms up."""
    wall: dict[str, list[float]] = {name: [] for name in rivals}
    processor: dict[str, list[float]] = {name: [] for name in rivals}
    for i in range(rounds + 1):
        for name, run in rivals.items():
            source.take()
            start, spent = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - start, time.process_time() - spent
            count = source.take()
            if i:
                wall[name].append(taken[0] / count)
                processor[name].append(taken[1] / count)
    return {"wall time": Timings(wall), "processor time": Timings(processor)}


def main(
    stage: Literal["pose", "detector"] = "pose",
    data: tuple[Path, ...] = (),
    threads: int = 2,
    height: int = 353,
    width: int = 257,
    canvas: tuple[int, int] = (320, 480),
    examples: int = 480,
    rounds: int = 5,
    out: Path = RESULTS,
) -> int:
    """Compare the training loader with a bare loop of the same decoding and warping.

    Args:
      stage: Crops for the pose network or whole pictures for the detector.
      data: One data directory; the embedded synthetic set if not given.
      threads: Reader threads of all rivals; as many as there are cores is fair.
      height: Crop rows.
      width: Crop columns.
      canvas: Shorter and longer side of the canvases.
      examples: Examples per turn.
      rounds: Turns.
      out: Folder of the results.
    """
    cv2.setNumThreads(1)
    try:
        dataset = read(directories(data)[0], "train")
        source = Counting(dataset.source)
        dataset = dataclasses.replace(dataset, source=source)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    examples -= examples % _BATCH
    shared = {"batch_size": _BATCH, "seed": 0}
    streams = {}
    if stage == "pose":
        for name, augmentation in POSE.items():
            config = PoseDataConfig(augmentation=augmentation, threads=threads)
            streams[name] = pose_batches(
                [dataset], height=height, width=width, config=config, **shared
            )
    else:
        for name, augmentation in DETECTOR.items():
            config = DetectorDataConfig(augmentation=augmentation, threads=threads)
            streams[name] = detection_batches([dataset], canvas=canvas, config=config, **shared)
    rivals = {
        f"loader, {name}": loader(stream, examples=examples) for name, stream in streams.items()
    }
    ids = np.concatenate([next(streams["paper"])[0] for _ in range(examples // _BATCH)]).tolist()
    if stage == "pose":
        cuts = crops(dataset, ids, height=height, width=width)
    else:
        cuts = pictures(dataset, ids, canvas=canvas)
    rivals = {"bare": bare(dataset, cuts, threads=threads), **rivals}
    table: list[Row] = []
    for clock, timings in measure(rivals, source, rounds=rounds).items():
        table += rows(f"{clock} per picture", timings)
    for stream in streams.values():
        stream.close()
    title = (
        f"{height} x {width} crops" if stage == "pose" else f"{canvas[0]} x {canvas[1]} canvases"
    )
    save("loader", table, out, note=f"{dataset}, {title}, {threads} threads")
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
