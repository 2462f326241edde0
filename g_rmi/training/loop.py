"""The training loop, host side. It knows a Task and batches, neither detectors nor poses.

The order within one iteration, with n steps finished, is a contract:

1. evaluate the current state, if due;
2. checkpoint {state, iterator, config, data}, if due: the iterator has not consumed the next batch;
3. take the next batch;
4. dispatch the step;
5. fetch the metrics of the step *before* it, so the device never waits for the host; stop if they
   are not finite, naming the record ids of that step's batch;
6. write.

Before 1 and 2 the outstanding metrics are fetched and checked first, so that a state that went
wrong is neither evaluated nor saved over a good one. After the last step: 1, 2, wait, close.
"""

import contextlib
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training import sharding
from g_rmi.training.checkpoint import Checkpoints, write_config
from g_rmi.training.metrics import compute, merge
from g_rmi.training.optim import describe, make_optimizer, make_schedule
from g_rmi.training.state import TrainState, create_state, evaluation_variables
from g_rmi.training.step import train_step
from g_rmi.training.task import Batches, Task, Variables
from g_rmi.training.writer import Writer

Evaluate = Callable[[Variables, int], Mapping[str, float | np.ndarray]]


def train(
    task: Task,
    train_config: TrainConfig,
    optim_config: OptimConfig,
    batches: Batches,
    *,
    workdir: str | pathlib.Path,
    config_dict: Mapping[str, Any],
    data_fingerprint: Mapping[str, Any],
    evaluate: Evaluate | None = None,
    mesh: Mesh | None = None,
    init_variables: Variables | None = None,
) -> TrainState:
    """Trains, or continues the training in `workdir`, up to `train_config.steps`.

    Args:
      task: What is trained.
      train_config: Steps, batch, intervals.
      optim_config: Optimiser, schedule, averaging.
      batches: Endless; each host yields its own rows.
      workdir: Gets checkpoints, metrics and `config.json`; continued if it has checkpoints.
      config_dict: The whole experiment as JSON values; must not change on continuation.
      data_fingerprint: What identifies the data, as JSON values; must not change either.
      evaluate: Function (variables, step) -> names and numbers; pictures (uint8 [H, W, 3]) go to
        TensorBoard. It must not keep the variables: the next step overwrites them.
      mesh: Devices; default all.
      init_variables: Weights to start from; used only if `workdir` has no checkpoint.

    Returns:
      The final state.

    Raises:
      ValueError: The batch does not split over the devices, or workdir and config do not match.
      FloatingPointError: Loss or gradients became infinite or nan.
      SystemExit: Asked to stop by SIGTERM or Ctrl-C; the state is saved first.
    """
    mesh = mesh or sharding.data_mesh()
    sharding.check_batch_size(mesh, train_config.batch_size, train_config.accumulate)
    workdir = pathlib.Path(workdir)
    config_dict, data_fingerprint = dict(config_dict), dict(data_fingerprint)
    steps = train_config.steps
    optimizer = make_optimizer(optim_config, steps)
    schedule = make_schedule(optim_config, steps)
    averaging = optim_config.averaging

    def create(given):
        key = jax.random.key(train_config.seed)
        return create_state(task, optimizer, key, average=averaging > 0, given=given)

    one_step = jax.jit(
        train_step(task, optimizer, accumulate=train_config.accumulate, averaging=averaging),
        donate_argnums=0,
        out_shardings=sharding.replicated(mesh),
    )
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(workdir, keep=train_config.keep)
        stack.callback(checkpoints.close)
        abstract = sharding.abstract_on_mesh(create, mesh, None)
        restored = checkpoints.restore_latest(abstract, config_dict, data_fingerprint)
        if restored:
            state = restored.state
            batches.set_state(restored.iterator)
        else:
            state = sharding.create_on_mesh(create, mesh, init_variables)
        first = int(state.step)
        if jax.process_index() == 0:
            write_config(workdir, config_dict)
        writer = Writer(workdir, steps=steps, step=first)
        stack.callback(writer.close)
        stop = stack.enter_context(_StopRequest())
        if restored:
            for bad, reason in restored.unreadable.items():
                writer.say(f"checkpoint {bad} cannot be read ({reason}): set aside")
            writer.say(f"continuing {workdir} at step {first}")
        writer.say(describe(optim_config, train_config, mesh.size))

        clock = _Clock(first)
        pending, window = None, {}

        def settle(pending, window):
            """Fetches one step's metrics, checks them, and writes when it is time."""
            if pending is None:
                return window
            step, ids, metrics = pending
            metrics = jax.device_get(metrics)
            if metrics["finite"].compute() < 1:
                values = ", ".join(f"{k} = {v:g}" for k, v in compute(metrics).items())
                raise FloatingPointError(
                    f"loss or gradient is not finite at step {step} ({values}); "
                    f"records {np.asarray(ids).tolist()}; the last good checkpoint is kept"
                )
            window = merge(window, metrics)
            if step % train_config.log_every and step != steps:
                return window
            rate = clock.lap(step) * train_config.batch_size
            values = {f"train/{name}": value for name, value in compute(window).items()}
            values["train/learning_rate"] = float(schedule(step - 1))
            values["train/examples_per_second"] = rate
            writer.scalars(step, values)
            left = (steps - step) * train_config.batch_size / rate if rate else 0.0
            writer.progress(step, values["train/loss"], rate, left)
            return {}

        for step in range(first, steps + 1):
            last, stopping = step == steps, stop.requested(step)
            every = train_config.evaluate_every
            evaluation_due = last or (every and step and step % every == 0)
            evaluation_due &= evaluate is not None and step not in writer.evaluated and not stopping
            save_due = last or stopping or step % train_config.checkpoint_every == 0
            save_due &= step > first
            if evaluation_due or save_due:
                window, pending = settle(pending, window), None
                with clock.paused():
                    if evaluation_due:
                        _evaluate(evaluate, state, step, writer)
                    if save_due:
                        checkpoints.save(state, batches.get_state(), config_dict, data_fingerprint)
            if last or stopping:
                break
            ids, batch = next(batches)
            batch = sharding.put_batch(mesh, batch)
            with clock.paused() if step == first else contextlib.nullcontext():  # compiles
                state, metrics = one_step(state, batch)
            window, pending = settle(pending, window), (step + 1, ids, metrics)
        if stopping and not last:
            writer.say(f"stopped and saved at step {step}; the same command continues from there")
            stack.close()
            raise SystemExit(128 + stop.signal)
    return state


def _evaluate(evaluate: Evaluate, state: TrainState, step: int, writer: Writer) -> None:
    results = {f"eval/{k}": v for k, v in evaluate(evaluation_variables(state), step).items()}
    scalars = {name: float(value) for name, value in results.items() if np.ndim(value) == 0}
    writer.scalars(step, scalars)
    writer.images(step, {name: value for name, value in results.items() if name not in scalars})
    writer.say(f"step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in scalars.items()))


class _Clock:
    """Steps per second, without the time spent in pauses."""

    def __init__(self, step: int):
        self._start = time.perf_counter()
        self._step = step

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._start += time.perf_counter() - begin

    def lap(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / (now - self._start)
        self._start, self._step = now, step
        return rate


class _StopRequest:
    """Turns SIGTERM and Ctrl-C into a request that the loop meets between steps.

    A second Ctrl-C interrupts at once. With several hosts JAX's own preemption notice is used, so
    that all of them stop at the same step.
    """

    def __init__(self):
        self.signal = 0
        self._previous: dict[int, Any] = {}

    def requested(self, step: int) -> bool:
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.signal != 0

    def __enter__(self) -> "_StopRequest":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)
