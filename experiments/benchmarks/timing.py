"""Measuring on a noisy machine: rivals take turns, agree, and leave their times as values."""

import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from data_pipeline.synthetic.dataset import cores
from g_rmi.files import write_whole
from g_rmi.viz.table import markdown

T = TypeVar("T")
Call = Callable[[], Any]
Seconds = Mapping[str, np.ndarray]
"""Of each rival's turns; the first rival is ours."""
Row = dict[str, Any]
"""Cells of a table by column."""

RESULTS = Path("experiments/results")
LAYOUTS = {f"PyTorch, {layout}": layout for layout in ("contiguous_format", "channels_last")}
_PACKAGES = ("jax", "jaxlib", "numpy", "torch", "numba", "onnxruntime", "hotcoco")


class Case(NamedTuple):
    """Rivals that do the same with the same input."""

    name: str  # what they do
    # calls without arguments by name; ours, which the others are compared with, is first
    rivals: Mapping[str, Call]
    items: int = 1  # crops, pictures or the like that one call goes through
    # how far a rival's result is from the first one's; None where they are not to be compared
    difference: Callable[[Any, Any], float] | None = None
    tolerance: float = 0.0  # the largest difference that counts as agreement


def available(make: Callable[[Any], T], given: Mapping[str, Any]) -> dict[str, T]:
    """What `make` gives for each value that it can be had for here; says for which not, and why."""
    made = {}
    for name, value in given.items():
        try:
            made[name] = make(value)
        except (ImportError, ValueError) as error:
            print(f"{name}: left out ({error})")
    return made


def oracle(name: str) -> ModuleType:
    """Others' ways, in `tests/oracles`, which a clone has; an ImportError elsewhere."""
    return importlib.import_module(f"tests.oracles.{name}")


def time_in_turns(
    rivals: Mapping[str, Call],
    *,
    rounds: int,
    clock: Callable[[], Any] = time.perf_counter,
    items: Callable[[], int] = lambda: 1,
) -> Seconds:
    """Seconds of each turn, after one that warms up; a busy neighbour slows all rivals alike.

    What the calls return is waited for. The clock `time.process_time` counts processor time, of all
    threads together: steadier than wall time where others hold the cores. An array of several
    clocks is one more axis. `items`, asked when a turn is over, is what its seconds are divided by.
    """
    seconds: dict[str, list[Any]] = {name: [] for name in rivals}
    for _ in range(1 + rounds):
        for name, call in rivals.items():
            start = clock()
            jax.block_until_ready(call())
            seconds[name].append((clock() - start) / max(items(), 1))  # 0: all was read ahead
    return {name: np.array(turns[1:]) for name, turns in seconds.items()}


def differences(case: Case) -> dict[str, float]:
    """How far each rival's result is from the first one's; a ValueError if that is too far."""
    if case.difference is None:
        return {}
    (first, call), *others = case.rivals.items()
    expected, found = call(), {first: 0.0}
    for name, call in others:
        found[name] = float(case.difference(expected, call()))
        if not found[name] <= case.tolerance:
            raise ValueError(f"{case.name}: {name} differs from {first} by {found[name]:.1e}")
    return found


@dataclasses.dataclass(frozen=True)
class Turns:
    """How rivals are compared: the options that benchmarks share."""

    rounds: int = 5  # Turns of each rival.
    # Count processor time, of all threads, instead of wall time: for a busy machine.
    processor_time: bool = False
    out: Path = RESULTS  # Folder of the results.

    def compare(self, case: Case) -> tuple[Seconds, list[Row]]:
        """Times rivals in turns, the seconds and their `rows`; a ValueError if they disagree."""
        apart = differences(case)
        clock = time.process_time if self.processor_time else time.perf_counter
        seconds = time_in_turns(case.rivals, rounds=self.rounds, clock=clock)
        print(f"{case.name}: done", flush=True)
        return seconds, rows(case.name, seconds, items=case.items, apart=apart)

    def save(self, benchmark: str, table: Sequence[Row], *, note: str) -> None:
        """`save`, with a note of how it was measured."""
        clock = "processor" if self.processor_time else "wall"
        note = f"{note} Milliseconds of {clock} time, medians of {self.rounds} rounds."
        save(benchmark, table, self.out, note=note)


def rows(
    case: str, seconds: Seconds, *, items: int = 1, apart: Mapping[str, float] | None = None
) -> list[Row]:
    """One row per rival: milliseconds (median, quartiles), and their ratio to the first one's.

    The ratio is the median over the rounds: below 1, the rival is faster. `items` are what one call
    goes through, `apart` the differences of the results.
    """
    first, table = next(iter(seconds.values())), []
    for name, turns in seconds.items():
        low, median, high = 1e3 * np.percentile(turns, [25, 50, 75])
        row = {"case": case, "rival": name, "ms": median, "from": low, "to": high}
        row |= {"ratio": np.median(np.divide(turns, first)), "per_second": 1e3 * items / median}
        table.append(row | {"difference": (apart or {}).get(name, "")})
    return table


def save(benchmark: str, table: Sequence[Row], out: Path, *, note: str) -> None:
    """Prints the rows; writes OUT/BENCHMARK.json and the same as a table, OUT/BENCHMARK.md.

    The note is what else somebody must know who reads the numbers: sizes, options.
    """
    installed = {d.name.replace("-", "_"): d.version for d in importlib.metadata.distributions()}
    about = {
        "benchmark": benchmark,
        "note": note,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": _commit(),
        "machine": machine(),
        "versions": {name: installed[name] for name in _PACKAGES if name in installed},
    }
    cells = [[f"{x:,.4g}" if isinstance(x, float) else str(x) for x in r.values()] for r in table]
    text = f"{note}\n\n{markdown(list(table[0]), cells)}"
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    head = f"{about['date']}, commit {about['commit']}; {about['machine']}; {versions}"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{benchmark}.json").write_text(json.dumps({**about, "rows": table}, indent=2) + "\n")
    write_whole(out / f"{benchmark}.md", f"# {benchmark}\n\n{head}\n\n{text}")
    print(f"\n{about['machine']}\n{text}", flush=True)


def machine() -> str:
    """The machine a number was measured on: device, usable cores, processor, jax."""
    device = jax.devices()[0]
    return (
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {cores()} cores of "
        f"{_processor()}, jax {jax.__version__}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """Of the checkout that these sources are in; "unknown" outside one."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.check_output(
            command, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL, text=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
