"""Runs the benchmarks that this machine can: `make bench`."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarks.timing import RESULTS
from experiments.parts import cli
from g_rmi.config import nearest
from g_rmi.files import check_directory

# Sizes that two processor cores finish in some minutes.
BENCHMARKS = {
    "kernels": ("--rounds", "5"),
    "train_step": ("--config", "pose_small", "--batch-size", "8", "--rounds", "5"),
    "loader": ("--examples", "240", "--rounds", "3"),
    "pipeline": ("--rounds", "5"),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times kernels, training step, loader, pipeline and evaluation against other implementations.

    PyTorch, numba, onnxruntime and hotcoco take part if installed, in a clone. Writes NAME.json and
    the same as a table, NAME.md; compare ratios, not milliseconds.
    """

    out: Path = RESULTS  # Where the results go.
    only: tuple[str, ...] = tuple(BENCHMARKS)  # Some of the benchmarks.
    # Count processor time instead of wall time, for a busy machine; the loader has both.
    processor_time: bool = False


def main(argv: Sequence[str]) -> int:
    """The program; each benchmark has a process of its own. A ValueError if there is no such."""
    arguments = cli.arguments(Arguments, argv, name="bench")
    for name in arguments.only:
        if name not in BENCHMARKS:
            raise ValueError(f"--only {name}: no such benchmark{nearest(name, BENCHMARKS)}")
    check_directory(arguments.out)
    failed = []
    for name in arguments.only:
        options = [*BENCHMARKS[name], "--out", str(arguments.out)]
        options += ["--processor-time"] * (arguments.processor_time and name != "loader")
        print(f"== {name} {' '.join(options)}", flush=True)
        command = [sys.executable, "-m", f"experiments.benchmarks.{name}", *options]
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
