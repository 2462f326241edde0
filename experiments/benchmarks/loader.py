"""Training crops per second, without a model, next to the bare decoding and warping of the same.

    python -m experiments.benchmarks.loader [--data DIR] [--threads N]

Prints crops per second and processor time per crop, and both as shares of the bare rate: medians
over rounds in which the rivals take turns. On a busy machine only the last share means much.
"""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from data_pipeline import coco
from data_pipeline.images import DECODE_FLAGS, reduction_of
from data_pipeline.loader import PoseBatches, pose_batches
from data_pipeline.schema import DataError, Dataset
from data_pipeline.transforms import sample_view
from experiments.benchmarks.timing import machine
from experiments.data import directories
from g_rmi.config import PoseAugmentation, PoseDataConfig
from g_rmi.geometry import pose_box

PAPER = PoseAugmentation()
EVERYTHING = PoseAugmentation(shift=0.05, rotation=30.0, colour=0.5, half_body=0.3, occlusion=0.3)
_BATCH = 24


def bare(
    dataset: Dataset, people: Sequence[int], *, height: int, width: int, threads: int
) -> Callable[[], None]:
    """Reads, decodes and warps the paper's crops of some people in threads, and nothing else."""
    rng = np.random.default_rng(0)
    windows = pose_box(dataset.people.box, aspect=height / width)
    work = []
    for person in people:
        affine = sample_view(windows[person], PAPER, rng, height=height, width=width).affine
        reduction = reduction_of(affine)
        image = int(dataset.people.image[person])
        work.append((image, DECODE_FLAGS[reduction], affine * (reduction, reduction, 1)))

    def loop(first: int) -> None:
        for row, flags, affine in work[first::threads]:
            data = np.frombuffer(dataset.source.read(row), np.uint8)
            image = np.asarray(cv2.imdecode(data, flags))
            cv2.warpAffine(image, affine, (width, height))

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(loop, range(threads)))

    return run


def loader(batches: PoseBatches, *, crops: int) -> Callable[[], None]:
    """The training loader from the start of its stream each time, nothing read ahead before."""
    start = batches.get_state()

    def run() -> None:
        for _ in range(crops // _BATCH):
            next(batches)
        batches.set_state(start)  # drops what was read ahead

    return run


def measure(rivals: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, np.ndarray]:
    """Wall and processor seconds per turn, [rounds, 2] each; one more turn each warms up."""
    seconds = {name: [] for name in rivals}
    for i in range(rounds + 1):
        for name, run in rivals.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            spent = time.perf_counter() - wall, time.process_time() - processor
            if i:
                seconds[name].append(spent)
    return {name: np.array(turns) for name, turns in seconds.items()}


def main(
    data: tuple[Path, ...] = (),
    threads: int = 2,
    height: int = 353,
    width: int = 257,
    crops: int = 480,
    rounds: int = 5,
) -> int:
    """Compare the training loader with a bare loop of the same decoding and warping.

    Args:
      data: One data directory; the embedded synthetic set if not given.
      threads: Reader threads of all rivals; as many as there are cores is fair.
      height: Crop rows.
      width: Crop columns.
      crops: Crops per turn.
      rounds: Turns.
    """
    cv2.setNumThreads(1)
    try:
        dataset = coco.read(directories(data)[0], "train")
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    crops -= crops % _BATCH
    size = {"height": height, "width": width}
    streams = {}
    for name, augmentation in (("paper", PAPER), ("everything", EVERYTHING)):
        config = PoseDataConfig(augmentation=augmentation, threads=threads)
        streams[name] = pose_batches([dataset], config=config, batch_size=_BATCH, seed=0, **size)
    rivals = {f"loader, {name}": loader(stream, crops=crops) for name, stream in streams.items()}
    row = {int(person): i for i, person in enumerate(dataset.people.id)}
    ids = np.concatenate([next(streams["paper"])[0] for _ in range(crops // _BATCH)])
    rivals["bare"] = bare(dataset, [row[int(i)] for i in ids], threads=threads, **size)
    seconds = measure(rivals, rounds=rounds)
    for stream in streams.values():
        stream.close()

    table = Table("", "crops/s", "of bare", "CPU ms/crop", "of bare per CPU second")
    reference = seconds["bare"]
    for name, spent in seconds.items():
        wall, processor = np.median(spent, axis=0)
        shares = np.median(reference / spent, axis=0)
        cells = (crops / wall, shares[0], 1e3 * processor / crops, shares[1])
        table.add_row(name, *(f"{cell:.{digits}f}" for cell, digits in zip(cells, (0, 2, 2, 2))))
    console = Console()
    console.print(f"{dataset}, {height} x {width} crops, {threads} threads; {machine()}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
