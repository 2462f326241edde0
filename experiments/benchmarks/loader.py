"""Training crops per second, without a model, next to the bare decoding and warping of the same.

    python -m experiments.benchmarks.loader [--data DIR] [--threads N]

Prints crops per second, processor time per crop, and the loader's share of the bare rate: the
median over rounds in which the rivals take turns.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from data_pipeline import coco
from data_pipeline.images import cut
from data_pipeline.loader import PoseBatches, pose_batches, trainable
from data_pipeline.schema import DataError, Dataset
from data_pipeline.transforms import sample_view
from experiments.benchmarks.timing import machine
from experiments.data import directories
from g_rmi.config import PoseAugmentation, PoseDataConfig

PAPER = PoseAugmentation()
EVERYTHING = PoseAugmentation(shift=0.05, rotation=30.0, colour=0.5, half_body=0.3, occlusion=0.3)
_BATCH = 24


def bare(
    dataset: Dataset, *, crops: int, height: int, width: int, threads: int
) -> Callable[[], None]:
    """Reading, decoding and warping of the paper's crops and nothing else, in threads."""
    rng = np.random.default_rng(0)
    people = rng.choice(trainable(dataset, 1), crops)
    work = [
        (
            int(dataset.people.image[person]),
            sample_view(dataset.people.box[person], PAPER, rng, height=height, width=width).affine,
        )
        for person in people
    ]

    def loop(first: int) -> None:
        for image, affine in work[first::threads]:
            cut(dataset.source.read(image), affine, height=height, width=width)

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(loop, range(threads)))

    return run


def loader(batches: PoseBatches, *, crops: int) -> Callable[[], None]:
    """The training loader from the same position each time, nothing read ahead before."""
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
    rivals = {"bare decode + warp": bare(dataset, crops=crops, threads=threads, **size)}
    streams = []
    for name, augmentation in (("paper", PAPER), ("everything", EVERYTHING)):
        config = PoseDataConfig(augmentation=augmentation, threads=threads)
        streams.append(pose_batches([dataset], config=config, batch_size=_BATCH, seed=0, **size))
        rivals[f"loader, {name}"] = loader(streams[-1], crops=crops)
    seconds = measure(rivals, rounds=rounds)
    for stream in streams:
        stream.close()

    table = Table("", "crops/s", "share of bare", "CPU ms/crop", "share of bare, per CPU second")
    reference = seconds["bare decode + warp"]
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
