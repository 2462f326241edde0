"""Runs jobs that wait for each other: here, each in its own process, or on Slurm, by submitit."""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import submitit

Launcher = Literal["local", "slurm", "debug"]

_POLL = 0.5  # Seconds between two looks at the jobs.
_NO_LIMIT = 365 * 24 * 60  # Minutes.


@dataclasses.dataclass(frozen=True)
class Job:
    """A call of a module's function that runs in a process of its own."""

    name: str  # Unique, fit for a file name.
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    needs: frozenset[str] = frozenset()  # Names of jobs that must have succeeded before.


@dataclasses.dataclass(frozen=True)
class Resources:
    """What each job gets."""

    partition: str | None = None  # Slurm partition.
    account: str | None = None  # Slurm account.
    # Accelerators; on this machine, jobs that run side by side take the next ones. Default: all of
    # this machine's, 1 of Slurm's.
    gpus: int | None = None
    cpus: int = 8  # Processor cores of a job on Slurm.
    memory_gb: float | None = None  # Memory of a job on Slurm.
    # Time limit on Slurm, after which a job is put back into the queue and continues.
    hours: float = 24.0
    # Any other of sbatch's options, as pairs: "constraint a100 qos low".
    slurm: dict[str, str] = dataclasses.field(default_factory=dict)


class _Call:
    """What is submitted: runs the job and returns its error as a line, or None."""

    def __init__(self, job: Job, launcher: Launcher, devices: str | None):
        self._job, self._launcher, self._devices = job, launcher, devices

    def __call__(self) -> str | None:
        if self._launcher == "local":
            os.setsid()  # Ctrl-C is the launcher's, which asks the job to stop
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's
            if self._devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self._devices
        try:
            self._job.function(*self._job.arguments)
        except Exception as error:  # one failed point must not end the others
            traceback.print_exc()
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return None

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """At the time limit of Slurm: the same again; a training continues by itself."""
        return submitit.helpers.DelayedSubmission(self)


class Executor:
    """Submits jobs through submitit and says how they ended."""

    def __init__(self, launcher: Launcher, folder: Path, resources: Resources):
        """Runs them as processes of this machine, on Slurm, or ("debug") in this process.

        Their logs, and what is known of jobs that Slurm has, go into the folder. A ValueError if
        there is no Slurm here.
        """
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.launcher: Launcher = launcher
        self._tickets, self._resources = folder, resources
        self.folder = folder / time.strftime("%Y%m%d-%H%M%S")
        if launcher == "debug":
            return
        try:
            self._executor = submitit.AutoExecutor(
                self.folder, cluster=launcher, slurm_max_num_timeout=1000
            )
        except RuntimeError as error:
            raise ValueError(f"--launcher {launcher}: {error}") from None
        self._executor.update_parameters(
            timeout_min=_NO_LIMIT if launcher == "local" else round(60 * resources.hours),
            gpus_per_node=1 if resources.gpus is None else resources.gpus,
            cpus_per_task=resources.cpus,
            mem_gb=resources.memory_gb,
            slurm_partition=resources.partition,
            slurm_account=resources.account,
            slurm_additional_parameters=resources.slurm or None,
        )

    def submit(self, job: Job, slot: int) -> submitit.Job | Future:
        """Starts a job; one that Slurm still has from an earlier launch is taken over."""
        call = _Call(job, self.launcher, self._devices(slot))
        if self.launcher == "debug":
            done = Future()  # submitit's own way of running here leaves its log files open
            done.set_result(call())
            return done
        ticket = self._tickets / f"{job.name}.json"
        if self.launcher == "slurm" and ticket.exists():
            earlier = submitit.SlurmJob(**json.loads(ticket.read_text()))
            if not earlier.done(force_check=True):
                return earlier
        self._executor.update_parameters(name=job.name[:60])
        with _handling(signal.SIGINT, signal.SIG_IGN):  # which the job's process inherits
            handle = self._executor.submit(call)
        if self.launcher == "slurm":
            ticket.write_text(json.dumps({"folder": str(self.folder), "job_id": handle.job_id}))
        return handle

    def error(self, handle: submitit.Job | Future) -> str | None:
        """How a finished job failed, in a line; None if it did not."""
        try:
            return handle.result()
        except submitit.core.utils.UncompletedJobError:
            return f"the job ended without a result; see {handle.paths.stderr}"  # type: ignore

    def stop(self, handles: Sequence[submitit.Job]) -> None:
        """Asks the jobs of this machine to stop, and waits; trainings save their state."""
        if self.launcher != "local":
            return
        for handle in handles:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(handle.job_id), signal.SIGTERM)
        while not all(handle.done() for handle in handles):
            time.sleep(_POLL)

    def _devices(self, slot: int) -> str | None:
        """The accelerators of a slot, among those that this process may use."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = self._resources.gpus
        if gpus is None:
            return visible
        numbers = range(slot * gpus, (slot + 1) * gpus)
        if visible is None:
            return ",".join(map(str, numbers))
        devices = visible.split(",")
        return ",".join(devices[i] for i in numbers if i < len(devices))


@contextlib.contextmanager
def _handling(number: int, handler: Any) -> Iterator[None]:
    """Handles a signal so for a while; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def run_jobs(
    jobs: Sequence[Job], executor: Executor, *, limit: int, ended: Callable[[Job, str | None], None]
) -> dict[str, str | None]:
    """Runs jobs in order of preference, each once those that it needs have succeeded.

    At most `limit` run at once; `ended` is told of each one's end. Returns the error of each job,
    or None. What needed a failed job has its error.
    """
    waiting, running = list(jobs), {}
    outcomes: dict[str, str | None] = {}

    def end(job: Job, error: str | None) -> None:
        outcomes[job.name] = error
        ended(job, error)

    with _handling(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)):
        try:
            while waiting or running:
                for job in list(waiting):
                    errors = [outcomes[name] for name in sorted(job.needs) if outcomes.get(name)]
                    if errors:
                        waiting.remove(job)
                        end(job, errors[0])
                    elif len(running) < limit and job.needs <= outcomes.keys():
                        waiting.remove(job)
                        used = {slot for slot, _, _ in running.values()}
                        slot = next(i for i in range(limit) if i not in used)
                        running[job.name] = slot, job, executor.submit(job, slot)
                for name, (_, job, handle) in list(running.items()):
                    if handle.done():
                        del running[name]
                        end(job, executor.error(handle))
                if running and executor.launcher != "debug":
                    time.sleep(_POLL)
        finally:
            executor.stop([handle for _, _, handle in running.values()])
    return outcomes
