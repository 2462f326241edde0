"""The training loop, host side. It knows a Task and batches, neither detectors nor poses.

The order within one iteration, with n steps finished, is a contract:

1. evaluate the current state, if due; if that fails, say so and go on, with 2 due;
2. checkpoint {state, iterator, config, data}, if due: the iterator has not consumed the next batch;
3. take the next batch;
4. dispatch the step;
5. fetch the metrics of the step *before* it, so the device never waits for the host; stop if they
   are not finite, naming the record ids of that step's batch;
6. write.

Before 1 and 2 the outstanding metrics are fetched and checked, so that a state that went wrong is
neither evaluated nor saved over a good one. After the last step: 1, 2, wait, close.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int64, PyTree

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.metrics import Mean, compute, merge
from g_rmi.training import sharding
from g_rmi.training.checkpoint import Checkpoints, write_config
from g_rmi.training.interrupt import StopRequest
from g_rmi.training.optim import Schedule, describe, make_optimizer, make_schedule
from g_rmi.training.profile import Profile
from g_rmi.training.state import TrainState, create_state, evaluation_variables
from g_rmi.training.step import train_step
from g_rmi.training.task import Batches, Task, Variables
from g_rmi.training.tracking import Start
from g_rmi.training.writer import Writer

# Share of the time spent waiting for data from which that is worth a line.
_SLOW_READER = 0.5
# Numbers of an evaluation that are printed; the files have all.
_PRINTED = 5

Evaluate = Callable[[Variables, int], Mapping[str, Any]]


def train(
    task: Task,
    train_config: TrainConfig,
    optim_config: OptimConfig,
    batches: Batches,
    *,
    workdir: str | pathlib.Path,
    config_dict: Mapping[str, Any],
    data_fingerprint: Mapping[str, Any],
    config_defaults: Mapping[str, Any] | None = None,
    evaluate: Evaluate | None = None,
    best_by: str | None = None,
    mesh: Mesh | None = None,
    init_variables: Variables | None = None,
    track: Start | None = None,
    profile: int = 0,
) -> TrainState:
    """Trains up to `train_config.steps` on the mesh, by default of all devices.

    `workdir` gets checkpoints, metrics and `config.json`. If it has a checkpoint, that training is
    continued: `config_dict`, the whole experiment, and `data_fingerprint`, both JSON values, must
    be the same. `config_defaults` are what fields of the experiment were before there were such
    fields. Otherwise it starts from `init_variables`, if given. Batches are endless; each host
    yields its own rows.

    `evaluate` is a function (variables, step) -> names and numbers; pictures (uint8 [H, W, 3]) go
    to TensorBoard. It must not keep the variables: the next step overwrites them. `best_by` is the
    number that ranks checkpoints, the larger the better. With it, every evaluated state is saved
    and the best `train_config.keep_best` are kept. `track` begins a tracker's run, which gets all
    numbers. Of `profile` steps after the first ones JAX's profiler leaves a trace in
    `workdir/profile`.

    Raises:
      ValueError: The batch does not split over the devices, or workdir and config do not match.
      FloatingPointError: Loss or gradients became infinite or nan.
      SystemExit: Asked to stop by SIGTERM or Ctrl-C; the state is saved first.
    """
    mesh = mesh or sharding.data_mesh()
    create, shapes, one_step = jit_step(task, train_config, optim_config, mesh)
    workdir, steps, fsdp = pathlib.Path(workdir), train_config.steps, train_config.fsdp
    records = dict(config_dict), dict(data_fingerprint)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(workdir, keep=train_config.keep, keep_best=train_config.keep_best)
        )
        restored = checkpoints.restore_latest(shapes, *records, defaults=config_defaults)
        if restored:
            state, first = restored.state, restored.step
            batches.set_state(restored.iterator)
        else:
            state, first = sharding.initialise(create, mesh, init_variables, fsdp=fsdp), 0
        write_config(workdir, records[0])
        writer = Writer(workdir, steps=steps, step=first, track=track)
        stack.callback(writer.close)
        tracing = Profile(workdir / "profile", profile, first=first)
        stack.callback(tracing.close)
        if restored:
            writer.say(f"continuing {workdir} at step {first}")
        writer.say(describe(optim_config, train_config, mesh.size))
        monitor = _Monitor(writer, make_schedule(optim_config, steps), train_config, first)
        stop = stack.enter_context(StopRequest())
        stopping = False

        for step in range(first, max(first, steps) + 1):
            stopping = step < steps and stop.requested(step)
            last = step >= steps or stopping
            evaluation = evaluate if monitor.evaluation_due(step) and not stopping else None
            due = last or step % train_config.checkpoint_every == 0 or (evaluation and best_by)
            saves, metric = bool(step > first and due), None
            if evaluation or saves:
                monitor.settle()
                with monitor.paused():
                    if evaluation:
                        variables = evaluation_variables(state)
                        whole = jax.device_put(variables, sharding.replicated(mesh))
                        scalars = _evaluate(evaluation, whole, step, writer, best_by)
                        saves |= scalars is None and step > first
                        if best_by and scalars and f"eval/{best_by}" in scalars:
                            metric = {best_by: scalars[f"eval/{best_by}"]}
                    if saves:
                        checkpoints.save(step, state, batches.get_state(), *records, metric=metric)
            if last:
                break
            with monitor.waiting():
                given = next(batches, None)
            if given is None:
                raise ValueError(f"the training data ended after {step} steps; it must repeat")
            ids, batch = given
            with tracing.step(step, state):
                state, metrics = one_step(state, sharding.put_batch(mesh, batch))
            monitor.dispatched(step + 1, ids, metrics)

    if stopping:
        if jax.process_index() == 0:
            print(f"stopped at step {step}; the same command continues {workdir} from there")
        raise SystemExit(128 + stop.signal)
    return state


def jit_step(
    task: Task, train_config: TrainConfig, optim_config: OptimConfig, mesh: Mesh
) -> tuple[Callable[[Variables | None], TrainState], TrainState, Any]:
    """What makes the state from given variables, its shapes on the mesh, and the jitted step.

    A ValueError if the batch does not split over the devices.
    """
    sharding.check_batch_size(mesh, train_config.batch_size, train_config.grad_accumulation)
    frozen = getattr(task, "frozen", ())  # of tasks that are trained in steps
    optimizer = make_optimizer(optim_config, train_config.steps, frozen)
    ema_decay = optim_config.ema_decay

    def create(given):
        key = jax.random.key(train_config.seed)
        return create_state(task, optimizer, key, average=ema_decay > 0, given=given)

    shapes = sharding.abstract(create, mesh, None, fsdp=train_config.fsdp)
    step = jax.jit(
        train_step(
            task, optimizer, grad_accumulation=train_config.grad_accumulation, ema_decay=ema_decay
        ),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, shapes), sharding.replicated(mesh)),
    )
    return create, shapes, step


class _Moment(NamedTuple):
    """When a step was dispatched: seconds since the start but for pauses, and of them waited."""

    step: int
    time: float
    waited: float


class _Monitor:
    """Metrics on their way from the device to the files; those of one step are outstanding.

    The rate is that of the dispatches, each of which waits for the step before the last one; pauses
    and the first two dispatches, which compile and wait for nothing, are left out.
    """

    def __init__(self, writer: Writer, schedule: Schedule, config: TrainConfig, first: int):
        self._writer, self._schedule = writer, schedule
        self._config, self._first = config, first
        self._outstanding: tuple[_Moment, Any, dict[str, Mean]] | None = None
        self._window: dict[str, Mean] = {}
        self._clock = -time.perf_counter()  # minus the start and all pauses
        self._waited = 0.0
        self._warned = False
        self._lap = _Moment(0, 0.0, 0.0)

    def evaluation_due(self, step: int) -> bool:
        """At every n-th step and the last one, unless an earlier run has done it."""
        if step == 0 or (step == self._first and self._writer.evaluated):
            return False
        every = self._config.evaluate_every
        return step == self._config.steps or (every > 0 and step % every == 0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time inside out of the rate."""
        begin = time.perf_counter()
        yield
        self._clock -= time.perf_counter() - begin

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def dispatched(self, step: int, ids: Int64[np.ndarray, " B"], metrics: PyTree) -> None:
        """Takes the metrics of the step under way, and settles the one before it."""
        now = _Moment(step, self._clock + time.perf_counter(), self._waited)
        if step == self._first + 1:
            self._writer.say(f"compiled; first step under way after {now.time:.1f} s")
        if step <= self._first + 2:
            self._lap = now
        self.settle()
        self._outstanding = now, ids, metrics

    def settle(self) -> None:
        """Fetches and checks what is outstanding; writes it when it is time.

        A FloatingPointError names the step, and its records, that was not finite.
        """
        if self._outstanding is None:
            return
        (now, ids, metrics), self._outstanding = self._outstanding, None
        step, metrics = now.step, jax.device_get(metrics)
        if not metrics.pop("finite").compute():
            values = ", ".join(f"{name} {value:g}" for name, value in compute(metrics).items())
            raise FloatingPointError(
                f"not finite at step {step}: {values}; records {np.asarray(ids).tolist()}"
            )
        self._window = merge(self._window, metrics)
        values = compute(self._window)
        rate, waiting = float("nan"), float("nan")  # after two steps nobody knows
        done = (step - self._lap.step) * self._config.batch_size
        if done > 0 and step > self._first + 2:
            seconds = now.time - self._lap.time
            rate, waiting = done / seconds, (now.waited - self._lap.waited) / seconds
        left = (self._config.steps - step) * self._config.batch_size / rate
        written = step % self._config.log_every == 0 or step == self._config.steps
        self._writer.progress(step, values["loss"], rate, left, line=written)
        if written:
            values["learning_rate"] = float(self._schedule(step - 1))
            values |= {"examples_per_second": rate, "waiting": waiting}
            if waiting > _SLOW_READER and not self._warned:
                self._warned = True
                self._writer.say(
                    f"step {step}: {waiting:.0%} of the time went into waiting for data; the "
                    "reader is the limit (--threads, --processes, the disk)"
                )
            self._writer.scalars(step, {f"train/{name}": v for name, v in values.items()})
            self._window, self._lap = {}, max(self._lap, now)


def _evaluate(
    evaluate: Evaluate, variables: Variables, step: int, writer: Writer, best_by: str | None
) -> dict[str, float] | None:
    """Its numbers, which are written; None if it failed, which costs no training."""
    try:
        results = {f"eval/{k}": v for k, v in evaluate(variables, step).items()}
    except Exception as error:
        if jax.process_count() > 1:
            raise  # the others wait for this host's part
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        writer.say(f"error: step {step}: the evaluation failed, the training goes on: {reason}")
        return None
    scalars = {name: float(value) for name, value in results.items() if np.ndim(value) == 0}
    writer.scalars(step, scalars)
    writer.images(step, {name: value for name, value in results.items() if name not in scalars})
    names = sorted(scalars, key=lambda name: name != f"eval/{best_by}")[:_PRINTED]
    shown = (f"{name.removeprefix('eval/')} {_as_coco(scalars[name])}" for name in names)
    writer.say(f"step {step}  " + "  ".join(shown))
    return scalars


def _as_coco(value: float) -> str:
    """Three decimals as COCO's tables have them, .305; -1 stands for none."""
    return "-" if value == -1 else f"{value:.3f}".removeprefix("0")
