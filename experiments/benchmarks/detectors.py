"""What detectors cost: milliseconds a picture, operations, memory, all measured in one process.

    python -m experiments.benchmarks.detectors --config detector_small [--proposals 10 50 100 300]

The config's detector and its siblings of the other kinds, alike in trunk and canvas, untrained,
take turns on one picture at a time, suppression included. Sweeps that compare detectors measure
their trained ones likewise.
"""

import dataclasses
import itertools
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.loader import canvases
from data_pipeline.schema import Dataset
from experiments.benchmarks import memory
from experiments.benchmarks.made import made_variables
from experiments.benchmarks.timing import RESULTS, Row, save, time_in_turns
from experiments.parts import ablations, cli, data
from experiments.parts.experiment import DetectorExperiment, Options, PoseExperiment
from experiments.parts.points import Base, resolve
from experiments.parts.sweep_jobs import Run, test_task
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.detector.detector import Detector
from g_rmi.files import write_whole
from g_rmi.inference.load import load_task

ROUNDS, PICTURES = 24, 8

Costs = dict[str, float]
Picture = tuple[np.ndarray, np.ndarray]
"""A canvas [1, H, W, 3] and the size [1, 2] of the picture on it."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times detectors that differ in kind and proposals, one picture at a time, in turns."""

    config: str = "detector_small"  # Its fields are the options below.
    rounds: int = ROUNDS  # Turns.
    out: Path = RESULTS  # Folder of the results.
    experiment: Options = DetectorExperiment()


def costs(
    detectors: Mapping[str, tuple[Detector, Any]],
    pictures: Mapping[str, Sequence[Picture]],
    *,
    rounds: int = ROUNDS,
) -> dict[str, Costs]:
    """What each detector (task and variables) costs on its pictures, all of one shape.

    "ms", wall time, and on CPUs "cpu_ms", processor time of all threads: medians of warm turns;
    "gflops" (two for a multiply-add, the bodies of loops once) and "memory_mb" of the compiled
    program; "parameters_m", millions.
    """
    found: dict[str, Costs] = {}
    calls = {}
    for name, (task, variables) in detectors.items():
        rows = [jax.device_put(picture) for picture in pictures[name]]
        program = jax.jit(task.predict).lower(variables, *rows[0]).compile()
        use = memory.use_of(program)
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        found[name] = {
            "gflops": use.flops / 1e9,
            "memory_mb": use.peak / 2**20,
            "parameters_m": count / 1e6,
        }
        turn = itertools.cycle(rows)
        calls[name] = lambda program=program, variables=variables, turn=turn: program(
            variables, *next(turn)
        )

    def clock():
        return np.array([time.perf_counter(), time.process_time()])

    for name, seconds in time_in_turns(calls, rounds=rounds, clock=clock).items():
        wall, processor = (1e3 * np.median(seconds, axis=0)).tolist()
        found[name] |= {"ms": wall}
        found[name] |= {"cpu_ms": processor} if jax.default_backend() == "cpu" else {}
    return found


def lying(dataset: Dataset, task: Detector, count: int = PICTURES) -> list[Picture]:
    """The first pictures of a data set that lie, one a canvas."""
    config = task.config
    rows = canvases(dataset, canvas=config.canvas, squash=config.squash, batch_size=1, threads=1)
    short, long = config.canvas
    shaped = (row for row in rows if row["image"].shape[1:3] == (short, long) and row["weight"][0])
    return [(row["image"], row["size"]) for row in itertools.islice(shaped, count)]


def measure(runs: Sequence[Run], file: Path) -> None:
    """A job of a sweep: the costs of its points, with what each is of."""
    enable_compilation_cache()
    dataset, *_ = data.read_split(runs[0].data, "val")
    detectors, pictures = {}, {}
    for run in runs:
        assert run.boxes
        task, variables = load_task(run.boxes[1].workdir, stage="detector")
        name = run.point.name
        detectors[name] = test_task(task, run.point.detector_test), variables
        pictures[name] = lying(dataset, detectors[name][0])
    found = costs(detectors, pictures)
    rows = {run.point.name: {"of": run.identity, **found[run.point.name]} for run in runs}
    write_whole(file, json.dumps(rows, indent=2) + "\n")


def siblings(experiment: DetectorExperiment) -> Iterator[tuple[str, Detector]]:
    """The points of the sweep `detectors` on this base, untrained."""
    base = Base(PoseExperiment(), experiment)
    for point in ablations.get("detectors", base):
        detector = resolve(point, base).detector
        assert detector
        yield point.name, test_task(detector.model.task(), point.detector_test)


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog=cli.program("benchmarks.detectors"))
    experiment = arguments.experiment
    if not isinstance(experiment, DetectorExperiment):
        raise ValueError(f"--config {arguments.config}: must be of a detector")
    enable_compilation_cache()
    detectors, pictures, variables = {}, {}, {}
    random = np.random.default_rng(0)
    for name, task in siblings(experiment):
        kind = task.config.kind
        if kind not in variables:
            variables[kind] = made_variables(task)
        detectors[name] = task, variables[kind]
        canvas = task.config.canvas
        noise = random.integers(0, 256, (PICTURES, 1, *canvas, 3), np.uint8)
        pictures[name] = [(image, np.array([canvas], np.int32)) for image in noise]
    found = costs(detectors, pictures, rounds=arguments.rounds)
    table: list[Row] = [{"detector": name, **row} for name, row in found.items()]
    save("detectors", table, arguments.out, note=shlex.join(argv))


if __name__ == "__main__":
    cli.run(main)
