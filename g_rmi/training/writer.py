"""Where metrics go: `metrics.jsonl`, TensorBoard, the console, and a tracker if there is one."""

import contextlib
import datetime
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from errno import ENOSPC
from typing import Any

import jax
import numpy as np
import rich.progress
import rich.text
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from g_rmi.files import write_whole
from g_rmi.training.tracking import Run, Start


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`: "step" and numbers by name, None where one was not finite.

    Nothing if there is no such file; a line that a crash cut short is left out.
    """
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return lines


class Writer:
    """Writes the metrics of one run; on hosts other than the first it does nothing.

    `evaluated` says whether an earlier run has evaluated the step where this one begins.
    """

    def __init__(self, workdir: pathlib.Path, *, steps: int, step: int, track: Start | None = None):
        """Opens `metrics.jsonl` and `tensorboard/` for a run from `step` on, of `steps` in all.

        Lines of an earlier run past `step` are dropped. `track` begins a tracker's run, which gets
        the same numbers.
        """
        self._active = jax.process_index() == 0
        path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        self.evaluated = any(
            line["step"] == step and any(name.startswith("eval/") for name in line) for line in kept
        )
        if not self._active:
            return
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("ab", buffering=0)
        self._directory = workdir / "tensorboard"
        self._directory.mkdir(exist_ok=True)
        # Not SummaryWriter: when its thread cannot write, the training waits for it for ever.
        self._board = EventsWriter(str(self._directory / "events"))
        if step:  # hides what an earlier run has written past it
            restart = SessionLog(status=SessionLog.START)
            self._board.write_event(Event(step=step + 1, session_log=restart))
        self._run: Run | None = track() if track else None
        self._steps, self._printed = steps, time.monotonic()
        self._bar = None
        if sys.stdout.isatty():
            self._bar = rich.progress.Progress(
                rich.progress.BarColumn(bar_width=20),
                rich.progress.MofNCompleteColumn(),
                "{task.fields[status]}",
            )
            self._task = self._bar.add_task("", total=steps, completed=step, status="compiling")
            self._bar.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes named numbers of one step; an OSError names the file if the disk is full."""
        if not self._active:
            return
        numbers = {k: v if math.isfinite(v) else None for k, v in values.items()}  # JSON has no nan
        line = {"step": step, "time": round(time.time(), 3), **numbers}
        data = (json.dumps(line) + "\n").encode()
        with _naming(self._file.name):
            if self._file.write(data) < len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        finite = {k: v for k, v in numbers.items() if v is not None}
        self._events(step, [summary.scalar(k, v) for k, v in finite.items()])
        if self._run:
            self._run.log({"step": step, **finite})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes named RGB pictures, uint8 [H, W, 3], for TensorBoard."""
        if self._active:
            items = images.items()
            self._events(step, [summary.image(k, v, dataformats="HWC") for k, v in items])

    def _events(self, step: int, values: Sequence[Summary]) -> None:
        with _naming(self._directory):
            for value in values:
                self._board.write_event(Event(wall_time=time.time(), step=step, summary=value))
            self._board.flush()

    def progress(
        self, step: int, loss: float, rate: float, seconds_left: float, *, line: bool
    ) -> None:
        """Shows how far the training is, on a terminal as a bar; `rate` is examples per second.

        Elsewhere it prints a line, if asked to or if the last one is a minute old.
        """
        if not self._active:
            return
        status = f"loss {loss:.4g}"
        if math.isfinite(rate):
            left = datetime.timedelta(seconds=round(seconds_left))
            status += f"  {rate:.1f} examples/s  {left} left"
        if self._bar:
            self._bar.update(self._task, completed=step, status=status)
        elif line or time.monotonic() - self._printed > 60:
            self.say(f"step {step}/{self._steps}  {status}")
            self._printed = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line."""
        if not self._active:
            return
        if self._bar:
            self._bar.console.print(rich.text.Text(text), soft_wrap=True)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Closes the files and ends the progress bar."""
        if not self._active:
            return
        self._file.close()
        if self._run:
            self._run.finish()
        with contextlib.suppress(OSError):  # all that could be written has been
            self._board.close()
        if self._bar:
            self._bar.stop()


@contextlib.contextmanager
def _naming(path: str | pathlib.Path) -> Iterator[None]:
    """Errors of files that are open already do not say of which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
