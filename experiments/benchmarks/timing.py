"""Timings on a noisy machine: the rivals take turns, and ratios are taken within each round."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


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

    def table(self, reference: str) -> str:
        """One line per function: median milliseconds and the ratio to `reference`."""
        lines = [f"{'':28} {'median':>12} {'ratio to ' + reference:>28}"]
        for name in self.seconds:
            time_ms = f"{1e3 * self.median(name):.3f} ms"
            lines.append(f"{name:28} {time_ms:>12} {self.ratio(name, reference):28.3f}")
        return "\n".join(lines)


def time_interleaved(
    functions: Mapping[str, Callable[[], Any]],
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
