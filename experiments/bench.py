"""Runs the benchmarks that this machine can: `make bench`."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments import cli
from experiments.benchmarks.timing import machine
from g_rmi.config import nearest

# Sizes that two processor cores finish in some minutes.
BENCHMARKS = {
    "decode": ("--crops", "4", "--rounds", "12"),
    "nms": ("--rounds", "5"),
    "roi": ("--only", "small", "--rounds", "5"),
    "train_step": ("--config", "pose_small", "--batch-size", "8", "--rounds", "5"),
    "loader": ("--examples", "240", "--rounds", "3"),
    "pipeline": ("--rounds", "5"),
    "evaluation": ("--images", "1000", "--rounds", "1"),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times kernels, training step, loader, pipeline and evaluation against what is installed.

    Rivals (PyTorch, numba, onnxruntime, faster-coco-eval) take part where they are installed.
    Writes bench.md and bench.json; compare ratios, not milliseconds.

    Attributes:
      out: Where the results go.
      only: Some of the benchmarks.
    """

    out: Path = Path("runs/bench")
    only: tuple[str, ...] = tuple(BENCHMARKS)


def rows(text: str) -> dict[str, dict[str, float]]:
    """The lines of `Timings.table` in a program's output: milliseconds and ratio by name.

    Between the name and the milliseconds, a line may have those of what it is compared with.
    """
    line = r"^(\S.*?)(?: +[\d.]+ ms)? +([\d.]+) ms +([\d.]+)$"
    found = re.findall(line, text, re.MULTILINE)
    return {name: {"ms": float(ms), "ratio": float(ratio)} for name, ms, ratio in found}


def run(name: str) -> tuple[str, int]:
    """Runs one benchmark as a program; its output, printed as it comes, and its exit status."""
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}", *BENCHMARKS[name]]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as program:
        for line in program.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines), program.returncode


def main(argv: Sequence[str]) -> int:
    """The program.

    Raises:
      ValueError: There is no such benchmark.
    """
    arguments = tyro.cli(
        Arguments,
        args=argv,
        prog=cli.program("bench"),
        description=str(Arguments.__doc__).partition("Attributes:")[0],
    )
    for name in arguments.only:
        if name not in BENCHMARKS:
            raise ValueError(f"--only {name}: no such benchmark{nearest(name, BENCHMARKS)}")
    results, page, failed = {}, [f"# Benchmarks\n\n{machine()}\n"], []
    for name in arguments.only:
        print(f"== {name} {' '.join(BENCHMARKS[name])}", flush=True)
        text, status = run(name)
        failed += [name] if status else []
        results[name] = rows(text)
        page.append(f"## {name}\n\n    {'    '.join(text.splitlines(keepends=True))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.md").write_text("\n".join(page))
    values = {"machine": machine(), "benchmarks": results, "failed": failed}
    (arguments.out / "bench.json").write_text(json.dumps(values, indent=2) + "\n")
    print(f"wrote bench.md and bench.json to {arguments.out}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
