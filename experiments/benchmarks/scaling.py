"""What a config's training step would take on machines that are not there; nothing is run.

    python -m experiments.benchmarks.scaling --names pose_resnet101 detector_resnet101

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
from collections.abc import Sequence
from typing import NamedTuple

import jax

from experiments import cli
from experiments.benchmarks.memory import compile_training
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
      names: Names of files in experiments/configs, or all.
      share: Of the peak FLOP/s that is assumed to be reached.
      experiment: The configs' values; those given go for all of them.
    """

    names: tuple[str, ...] = ("pose_resnet101", "detector_resnet101")
    share: float = 0.4
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


def cells(name: str, experiment: Experiment, share: float) -> list[str]:
    """A line of the table."""
    work, rows = work_per_device(experiment), experiment.train.batch_size
    size = f"{work.message / 2**20:,.0f} MiB in {work.collectives} messages"
    line = [f"`{name}`, {rows} each", f"{work.flops / 1e9:,.0f} GFLOPs, {size}"]
    for machine in MACHINES.values():
        compute, send = predict(work, machine, share=share)
        rate = machine.chips * rows / (compute + send)
        line.append(f"{1e3 * compute:.0f} + {1e3 * send:.1f} ms, {rate:,.0f}/s")
    return line


def main(argv: Sequence[str]) -> None:
    """Prints a Markdown table."""
    prog = "python -m experiments.benchmarks.scaling"
    given = cli.parse_each(Arguments(), argv, prog=prog)
    print(f"| config | per device and step | {' | '.join(MACHINES)} |")
    print("|---" * (len(MACHINES) + 2) + "|")
    for name, arguments in given.items():
        print(f"| {' | '.join(cells(name, arguments.experiment, arguments.share))} |", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    cli.run(main)
