"""Measuring on a noisy machine: rivals take turns, agree, and leave their times as values."""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

T = TypeVar("T")
Call = Callable[[], Any]
Row = dict[str, Any]
"""Cells of a table by column."""

RESULTS = Path("experiments/results")
_PACKAGES = ("jax", "jaxlib", "numpy", "torch", "numba", "onnxruntime", "faster_coco_eval")


class Timings(NamedTuple):
    """Seconds per call: `seconds[name][i]` is the turn of `name` in round i."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one call."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, reference: str) -> float:
        """Median over the rounds of time(name) / time(reference): below 1, `name` is faster."""
        pairs = zip(self.seconds[name], self.seconds[reference])
        return statistics.median(a / b for a, b in pairs)


class Case(NamedTuple):
    """Rivals that do the same with the same input.

    Attributes:
      name: What they do.
      rivals: Calls without arguments by name; ours, which the others are compared with, is first.
      items: Crops, pictures or the like that one call goes through.
      difference: How far a rival's result is from the first one's; None where they are not to be
        compared.
      tolerance: The largest difference that counts as agreement.
    """

    name: str
    rivals: Mapping[str, Call]
    items: int = 1
    difference: Callable[[Any, Any], float] | None = None
    tolerance: float = 0.0


def available(makers: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Makes the rivals that can be had here, and says which cannot, and why."""
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except (ImportError, ValueError) as error:
            print(f"{name}: left out ({error})")
    return made


def time_interleaved(
    functions: Mapping[str, Call],
    *,
    rounds: int = 20,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Times functions in turns, so that a busy neighbour slows all of them alike.

    Args:
      functions: Name -> a call without arguments; what it returns is waited for.
      rounds: Turns per function that count.
      warmup: Turns per function before that: compilation and caches.
      clock: `time.process_time` counts processor time instead, of all threads together: steadier
        than wall time where others hold the cores.

    Returns:
      The seconds of every turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warmup + rounds):
        for name, function in functions.items():
            start = clock()
            jax.block_until_ready(function())
            if i >= warmup:
                seconds[name].append(clock() - start)
    return Timings(seconds)


def differences(case: Case) -> dict[str, float]:
    """How far each rival's result is from the first one's.

    Raises:
      ValueError: One is further than the case tolerates.
    """
    if case.difference is None:
        return {}
    (first, call), *others = case.rivals.items()
    expected, found = call(), {first: 0.0}
    for name, call in others:
        found[name] = float(case.difference(expected, call()))
        if not found[name] <= case.tolerance:
            raise ValueError(f"{case.name}: {name} differs from {first} by {found[name]:.1e}")
    return found


def compare(
    case: Case, *, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[Timings, list[Row]]:
    """Checks that the rivals agree, then times them in turns.

    Returns:
      The seconds, and the rows of `rows`.

    Raises:
      ValueError: They do not agree.
    """
    apart = differences(case)
    timings = time_interleaved(case.rivals, rounds=rounds, warmup=1, clock=clock)
    return timings, rows(case.name, timings, items=case.items, apart=apart)


def rows(
    case: str, timings: Timings, *, items: int = 1, apart: Mapping[str, float] | None = None
) -> list[Row]:
    """One row per rival: median and quartiles in milliseconds, and its time divided by the first's.

    Args:
      case: What was timed.
      timings: The seconds.
      items: Crops, pictures or the like that one call goes through.
      apart: Differences of the results, by rival.
    """
    first, table = next(iter(timings.seconds)), []
    for name, seconds in timings.seconds.items():
        low, median, high = 1e3 * np.percentile(seconds, [25, 50, 75])
        row = {"case": case, "rival": name, "ms": median, "from": low, "to": high}
        row |= {"ratio": timings.ratio(name, first), "per_second": 1e3 * items / median}
        table.append(row | {"difference": (apart or {}).get(name, "")})
    return table


def markdown(table: Sequence[Row]) -> str:
    """Rows as a Markdown table; numbers have four digits."""
    lines = [list(table[0]), ["---"] * len(table[0])] if table else []
    for row in table:
        cells = (f"{x:,.4g}" if isinstance(x, float) else str(x) for x in row.values())
        lines.append([cell.replace("|", "\\|") for cell in cells])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def save(benchmark: str, table: Sequence[Row], out: Path, *, note: str) -> None:
    """Prints the rows; writes OUT/BENCHMARK.json and the same as a table, OUT/BENCHMARK.md.

    Args:
      benchmark: Its name.
      table: The rows, all with the same columns.
      out: A folder.
      note: What else somebody must know who reads the numbers: sizes, options.
    """
    about = {
        "benchmark": benchmark,
        "note": note,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": _commit(),
        "machine": machine(),
        "versions": _versions(),
    }
    text = f"{note}\n\n{markdown(table)}"
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{benchmark}.json").write_text(json.dumps({**about, "rows": table}, indent=2) + "\n")
    (out / f"{benchmark}.md").write_text(
        f"# {benchmark}\n\n{about['date']}, commit {about['commit']}; {about['machine']}; "
        f"{versions}\n\n{text}"
    )
    print(f"\n{about['machine']}\n{text}", flush=True)


def machine() -> str:
    """The machine a number was measured on: device, usable cores, processor, jax."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {cores} cores of "
        f"{_processor()}, jax {jax.__version__}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """Of the checkout that these sources are in; "unknown" outside one."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    where = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
