"""What a config's training step would take on machines that are not there; nothing is run.

    python -m experiments.benchmarks.scaling --config pose_resnet101

Work and messages are read from the step compiled for two virtual CPU devices, the config's batch on
each. The prediction is simple arithmetic, not a measurement:

    seconds = FLOPs / (share of the peak x peak) + 2 (n - 1) / n x message bytes / link rate

An all-reduce over n chips sends everything twice; it does not overlap with computing here, so that
the second term is an upper bound. Peaks are dense bfloat16, link rates one direction of all links
of a chip, both as the makers publish them.
"""

import dataclasses
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.benchmarks.memory import compile_training
from experiments.benchmarks.timing import RESULTS, Row, save
from experiments.parts import cli
from experiments.parts.experiment import Experiment, PoseExperiment
from g_rmi.training import sharding

_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "s64": 8, "u8": 1, "pred": 1}
_COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)


class Machine(NamedTuple):
    """A group of accelerators.

    Attributes:
      chips: How many.
      peak: bfloat16 FLOP/s of each.
      link: Bytes per second that each sends to the others.
    """

    chips: int
    peak: float
    link: float


MACHINES = {
    "TPU v4-8": Machine(4, 275e12, 150e9),
    "TPU v4-64": Machine(32, 275e12, 150e9),
    "TPU v5e-16": Machine(16, 197e12, 100e9),
    "TPU v5p-16": Machine(8, 459e12, 300e9),
    "TPU v5p-256": Machine(128, 459e12, 300e9),
    "8 x H100": Machine(8, 989e12, 450e9),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Predicts the time of a training step on machines that are not there.

    Attributes:
      config: Name of a file in experiments/configs; its fields are the options below.
      share: Share of the peak FLOP/s that is assumed to be reached.
      out: Folder of the results.
      experiment: The config's values.
    """

    config: str = "pose_resnet101"
    share: float = 0.4
    out: Path = RESULTS
    experiment: Experiment = PoseExperiment()


class Work(NamedTuple):
    """One device's part of a step.

    Attributes:
      flops: Floating-point operations.
      message: Bytes of the results of all collective operations.
      collectives: How many there are.
    """

    flops: float
    message: int
    collectives: int


def work_per_device(experiment: Experiment) -> Work:
    """Compiles the step for two devices, the config's batch on each."""
    train = experiment.train
    both = dataclasses.replace(train, batch_size=2 * train.batch_size)
    experiment = dataclasses.replace(experiment, train=both)
    compiled = compile_training(experiment, sharding.data_mesh(jax.devices()[:2]))
    text, cost = compiled.as_text(), compiled.cost_analysis()
    if text is None or cost is None:
        raise ValueError("this compiler shows neither its program nor its cost")
    sizes = message_sizes(text)
    return Work(cost["flops"], sum(sizes), len(sizes))


def message_sizes(program: str) -> list[int]:
    """Bytes of the result of each collective operation in an HLO program's text."""
    return [
        sum(
            _BYTES[kind] * math.prod(int(side) for side in shape.split(",") if side)
            for kind, shape in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", found["result"])
        )
        for found in _COLLECTIVE.finditer(program)
    ]


def predict(work: Work, machine: Machine, *, share: float) -> tuple[float, float]:
    """Seconds of computing and of sending.

    Args:
      work: Of one device.
      machine: The accelerators.
      share: Of the peak that is reached.
    """
    sent = 2 * (machine.chips - 1) / machine.chips * work.message
    return work.flops / (share * machine.peak), sent / machine.link


def row(name: str, experiment: Experiment, share: float) -> Row:
    """The row of a config: its work, and the prediction for each machine."""
    work, rows = work_per_device(experiment), experiment.train.batch_size
    size = f"{work.message / 2**20:,.0f} MiB in {work.collectives} messages"
    cells: Row = {
        "config": f"`{name}`, {rows} each",
        "per device and step": f"{work.flops / 1e9:,.0f} GFLOPs, {size}",
    }
    for machine, chips in MACHINES.items():
        compute, send = predict(work, chips, share=share)
        rate = chips.chips * rows / (compute + send)
        cells[machine] = f"{1e3 * compute:.0f} + {1e3 * send:.1f} ms, {rate:,.0f}/s"
    return cells


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog="python -m experiments.benchmarks.scaling")
    table = [row(arguments.config, arguments.experiment, arguments.share)]
    save(f"scaling_{arguments.config}", table, arguments.out, note=shlex.join(argv))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    cli.run(main)
