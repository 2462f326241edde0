"""The loop: exact resume, order, bookkeeping, stopping."""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training import loop, sharding
from g_rmi.training.checkpoint import load_variables
from g_rmi.training.loop import train
from tests.g_rmi.training import toy

OPTIM = OptimConfig(momentum=0.9, learning_rate=0.05, schedule="cosine", ema_decay=0.99)


def run(workdir, steps, *, task=None, batches=None, devices=1, length=20, **kwargs):
    """Linear regression unless told otherwise; returns the state and the ids of the batches."""
    intervals = {"log_every": 3, "evaluate_every": 5, "checkpoint_every": 4}
    names = [name for name in kwargs if name in TrainConfig.__dataclass_fields__]
    intervals |= {name: kwargs.pop(name) for name in names}
    config = TrainConfig(steps=steps, **({"batch_size": 8} | intervals))
    batches = batches or toy.Batches(toy.points, config.batch_size)
    state = train(
        task or toy.LinearTask(),
        config,
        kwargs.pop("optim", OPTIM),
        batches,
        workdir=workdir,
        config_dict={"train": {"steps": steps}},
        data_fingerprint={"records": 1},
        mesh=sharding.data_mesh(jax.devices()[:devices]),
        **kwargs,
    )
    return state, batches.given


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def checkpoints(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def assert_same(a, b):
    keyless = [x.replace(key=jax.random.key_data(x.key)) for x in (a, b)]
    jax.tree.map(np.testing.assert_array_equal, *keyless)


def run_conv(workdir, steps, devices, **kwargs):
    optim = OptimConfig(momentum=0.9, learning_rate=0.05, ema_decay=0.99)
    batches = toy.Batches(toy.pictures)
    return run(
        workdir, steps, task=toy.ConvTask(), batches=batches, optim=optim, devices=devices, **kwargs
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """20 steps on two devices."""
    return run_conv(tmp_path_factory.mktemp("whole"), 20, 2)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The workdir and the records of 10 steps on two devices."""
    workdir = tmp_path_factory.mktemp("half")
    return workdir, run_conv(workdir, 10, 2)[1]


@pytest.mark.parametrize("devices", [2, 1, 4])
def test_ten_and_ten_steps_are_twenty(whole, half, tmp_path, devices):
    workdir = tmp_path / "continued"
    shutil.copytree(half[0], workdir)
    state, ids = run_conv(workdir, 20, devices)
    assert half[1] + ids == whole[1]
    assert state.step == 20
    assert len(state.params["Conv_0"]["kernel"].sharding.device_set) == devices
    assert state.model_state["batch_stats"]["BatchNorm_0"]["mean"].any()
    if devices == 2:
        assert_same(state, whole[0])
    else:  # sums over the batch are grouped otherwise
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6)
        jax.tree.map(close, *(jax.device_get(x.replace(key=None)) for x in (state, whole[0])))
    assert [line["step"] for line in lines(workdir)] == [3, 6, 9, 10, 12, 15, 18, 20]


def test_a_split_state_trains_the_same_and_goes_on_whole(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "_SPLIT_FROM", 16)
    seen = []

    def evaluate(variables, step):
        seen.append(variables["params"]["Conv_0"]["kernel"].sharding.is_fully_replicated)
        return {}

    intervals = {"fsdp": True, "evaluate_every": 5}
    first, ids = run_conv(tmp_path, 10, 4, evaluate=evaluate, **intervals)
    kernel = first.params["Conv_0"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 4
    momentum = jax.tree.leaves(first.opt_state)
    assert any(not x.sharding.is_fully_replicated for x in momentum)
    assert seen == [True, True]
    second, more = run_conv(tmp_path, 20, 2)
    assert ids + more == whole[1]
    assert second.params["Conv_0"]["kernel"].sharding.is_fully_replicated
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6)
    jax.tree.map(close, *(jax.device_get(x.replace(key=None)) for x in (second, whole[0])))


def test_learns_and_reports(tmp_path):
    state, _ = run(tmp_path, 200, checkpoint_every=500, evaluate=lambda v, step: {"AP": 0.5})
    np.testing.assert_allclose(state.params["w"][:, 0], [1, -2, 0.5], atol=0.05)
    _, variables = load_variables(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, state.average)
    assert json.loads((tmp_path / "config.json").read_text()) == {"train": {"steps": 200}}
    first, *_, last, evaluation = lines(tmp_path)
    assert first["train/loss"] > 100 * last["train/loss"]
    assert set(last) == {
        "step",
        "time",
        "train/loss",
        "train/gradient_norm",
        "train/learning_rate",
        "train/examples_per_second",
        "train/waiting",
    }
    assert last["train/learning_rate"] == pytest.approx(
        0.05 * (0.5 + 0.5 * np.cos(np.pi * 199 / 200)), rel=1e-4
    )
    assert evaluation["eval/AP"] == 0.5


def test_order(tmp_path, monkeypatch):
    events = []
    real_get, real_save = jax.device_get, loop.Checkpoints.save
    real_dispatched = loop._Monitor.dispatched

    class Batches(toy.Batches):
        def __next__(self):
            events.append(f"batch {self.position + 1}")
            return super().__next__()

    def dispatched(monitor, step, ids, metrics):
        events.append(f"dispatched {step}")
        real_dispatched(monitor, step, ids, metrics)

    def get(tree):
        if isinstance(tree.get("finite", [None])[0], jax.Array):
            events.append("fetch")
        return real_get(tree)

    def save(checkpoints, step, state, iterator, *args, **kwargs):
        events.append(f"save {step} at {iterator['position']}")
        real_save(checkpoints, step, state, iterator, *args, **kwargs)

    def evaluate(variables, step):
        events.append(f"evaluate {step}")
        return {"AP": 0.0, "people": np.zeros((2, 2, 3), np.uint8)}

    monkeypatch.setattr(loop.jax, "device_get", get)
    monkeypatch.setattr(loop.Checkpoints, "save", save)
    monkeypatch.setattr(loop._Monitor, "dispatched", dispatched)
    batches = Batches(toy.points)
    run(tmp_path, 5, batches=batches, evaluate=evaluate, evaluate_every=2, checkpoint_every=3)
    assert events == [
        *("batch 1", "dispatched 1"),
        *("batch 2", "dispatched 2", "fetch"),
        *("fetch", "evaluate 2"),
        *("batch 3", "dispatched 3"),
        *("fetch", "save 3 at 3"),
        *("batch 4", "dispatched 4"),
        *("fetch", "evaluate 4"),
        *("batch 5", "dispatched 5"),
        *("fetch", "evaluate 5", "save 5 at 5"),
    ]
    assert [line["step"] for line in lines(tmp_path) if "eval/AP" in line] == [2, 4, 5]


def test_evaluation_gets_the_average_and_is_not_repeated_on_restart(tmp_path):
    seen = []

    def evaluate(variables, step):
        seen.append((step, float(variables["params"]["w"][0, 0])))
        return {}

    def numbers(variables, step):
        evaluate(variables, step)
        return {"AP": 0.0}

    state, _ = run(tmp_path, 5, evaluate=numbers)
    assert seen == [(5, float(state.average["params"]["w"][0, 0]))]
    assert seen[0][1] != float(state.params["w"][0, 0])
    run(tmp_path, 5, evaluate=numbers)
    run(tmp_path, 8, evaluate=numbers)
    assert [step for step, _ in seen] == [5, 8]


def test_evaluated_states_are_saved_and_the_best_are_kept(tmp_path):
    found = iter([0.1, 0.9, 0.3, 0.2])
    seen = []

    def evaluate(variables, step):
        seen.append(float(variables["params"]["b"][0]))
        return {"loss": 7.0, "AP": next(found)}

    kept = {"evaluate_every": 3, "checkpoint_every": 5, "keep": 1, "keep_best": 1}
    run(tmp_path, 10, evaluate=evaluate, best_by="AP", **kept)
    assert checkpoints(tmp_path) == [6, 10]
    _, best = load_variables(tmp_path, "best")
    assert float(best["params"]["b"][0]) == seen[1]


def test_state_is_donated(tmp_path):
    seen = []
    run(tmp_path, 6, evaluate=lambda variables, step: seen.append(variables) or {"AP": 0.0})
    first, last = seen
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(last))


def test_without_averaging_the_weights_are_evaluated(tmp_path):
    seen = []

    def evaluate(variables, step):
        seen.append(float(variables["params"]["b"][0]))
        return {"AP": 0.0}

    optim = OptimConfig(learning_rate=0.05, ema_decay=0.0)
    state, _ = run(tmp_path, 2, optim=optim, evaluate=evaluate)
    assert state.average is None
    assert seen == [float(state.params["b"][0])]


def test_rate_counts_neither_compiling_nor_evaluation_nor_saving(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])

    class Batches(toy.Batches):
        def __next__(self):
            now[0] += 100.0 if self.position == 0 else 2.0
            return super().__next__()

    def evaluate(variables, step):
        now[0] += 1000.0
        return {"AP": 0.0}

    run(tmp_path, 12, batches=Batches(toy.points), evaluate=evaluate)
    rates = [line["train/examples_per_second"] for line in lines(tmp_path) if "train/loss" in line]
    assert rates == [4.0] * 4
    assert [line["train/waiting"] for line in lines(tmp_path) if "train/loss" in line] == [1.0] * 4
    assert capsys.readouterr().out.count("100% of the time went into waiting for data") == 1


def test_no_rate_before_two_steps_and_coco_s_numbers(tmp_path, capsys):
    found = {"loss": 0.25, "AR": 1.0, "APL": -1.0, "AP": 4.4e-6}
    run(tmp_path, 4, evaluate=lambda v, step: found, best_by="AP", log_every=1)
    out = capsys.readouterr().out.splitlines()
    rated = {line.split()[1]: "examples/s" in line for line in out if "/4  loss" in line}
    assert rated == {"1/4": False, "2/4": False, "3/4": True, "4/4": True}
    assert "step 4  AP .000  loss .250  AR 1.000  APL -" in out


@pytest.mark.parametrize(("steps", "profile", "traced"), [(6, 2, [3, 4]), (3, 5, [3]), (2, 1, [])])
def test_some_steps_are_profiled(tmp_path, monkeypatch, steps, profile, traced):
    seen = []
    running = lambda name: lambda *_: seen.append(name)  # noqa: E731
    monkeypatch.setattr("jax.profiler.start_trace", running("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", running("stop"))

    class Annotation(contextlib.nullcontext):
        def __init__(self, name, step_num):
            super().__init__()
            seen.append(step_num)

    monkeypatch.setattr("jax.profiler.StepTraceAnnotation", Annotation)
    run(tmp_path, steps, profile=profile)
    assert seen == (["start", *traced, "stop"] if traced else [])


def test_step_compiles_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        run(tmp_path, 9, devices=4)
    compiled = [r.message for r in caplog.records if re.match(r"Compiling \S*\bstep\b", r.message)]
    assert len(compiled) == 1


def poisoned(step):
    def make(rng, size):
        batch = toy.points(rng, size)
        make.calls += 1
        if make.calls == step:
            batch["y"][2] = np.nan
        return batch

    make.calls = 0
    return make


@pytest.mark.parametrize("step", [3, 4, 5, 10])
def test_non_finite_loss_names_its_records_and_is_not_saved(tmp_path, step):
    batches = toy.Batches(poisoned(step))
    ids = list(range(8 * (step - 1), 8 * step))
    with pytest.raises(FloatingPointError) as error:
        run(tmp_path, 10, batches=batches, evaluate=lambda v, s: {"AP": 1.0})
    message = str(error.value)
    assert message.startswith(f"not finite at step {step}: ")
    assert "loss nan" in message
    assert message.endswith(f"records {ids}")
    assert checkpoints(tmp_path) == [s for s in (4, 8) if s < step]
    assert all(line["step"] < step for line in lines(tmp_path))


class Interrupting(toy.Batches):
    """Sends this process a signal while a batch is made."""

    def __init__(self, number, at, times=1):
        super().__init__(toy.points)
        self.number, self.at, self.times = number, at, times

    def __next__(self):
        if self.position + 1 == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
        return super().__next__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_says_how_to_go_on(tmp_path, capsys, number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "parts", 10, batches=Interrupting(number, 6), evaluate_every=6)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before
    out, err = capsys.readouterr()
    assert "stopping after this step; once more to stop at once" in err
    assert "stopped at step 6; the same command continues" in out
    assert checkpoints(tmp_path / "parts") == [4, 6]
    evaluated = []
    state, ids = run(
        tmp_path / "parts",
        10,
        evaluate=lambda v, step: evaluated.append(step) or {"AP": 0.0},
        evaluate_every=6,
    )
    assert ids[0][0] == 48
    assert evaluated == [6, 10]  # what was due when the signal came is made up for
    whole, _ = run(tmp_path / "whole", 10)
    assert_same(state, whole)


def test_signal_in_the_last_step_changes_nothing(tmp_path):
    evaluated = []
    batches = Interrupting(signal.SIGINT, 3)
    run(tmp_path, 3, batches=batches, evaluate=lambda v, step: evaluated.append(step) or {"AP": 0})
    assert evaluated == checkpoints(tmp_path) == [3]


def test_second_signal_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 10, batches=Interrupting(signal.SIGINT, 2, times=2))
    assert checkpoints(tmp_path) == []


def test_finished_training_is_left_alone(tmp_path):
    state, _ = run(tmp_path, 5)
    for steps in (5, 3):
        again, ids = run(tmp_path, steps)
        assert ids == []
        assert_same(state, again)


def test_given_weights_start_a_new_training_only(tmp_path):
    given = {"params": {"w": np.full((3, 1), 7.0, np.float32)}}
    optim = OptimConfig(learning_rate=1e-9, ema_decay=0.9)
    state, _ = run(tmp_path, 1, optim=optim, init_variables=given)
    np.testing.assert_allclose(state.params["w"], 7.0, rtol=1e-6)
    np.testing.assert_allclose(state.average["params"]["w"], 7.0, rtol=1e-6)
    other = jax.tree.map(jnp.zeros_like, given)
    state, _ = run(tmp_path, 2, optim=optim, init_variables=other)
    np.testing.assert_allclose(state.params["w"], 7.0, rtol=1e-6)


def test_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is not a directory"):
        run(tmp_path / "file", 5)


def test_data_that_end(tmp_path):
    with pytest.raises(ValueError, match="the training data ended after 3 steps"):
        run(tmp_path, 10, batches=toy.Batches(toy.points, limit=3))


def test_batch_that_does_not_split(tmp_path):
    with pytest.raises(ValueError, match="batch_size = 6 does not split evenly over 4 devices"):
        run(tmp_path, 10, batch_size=6, devices=4)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("best_by", [None, "AP"])
def test_a_failing_evaluation_costs_no_training(tmp_path, capsys, best_by):
    def evaluate(variables, step):
        if step != 4:
            raise OSError("a picture is gone")
        return {"AP": 0.5}

    options = {"evaluate_every": 2, "checkpoint_every": 100, "keep": 9, "best_by": best_by}
    state, _ = run(tmp_path, 6, evaluate=evaluate, **options)
    assert int(state.step) == 6
    assert checkpoints(tmp_path) == ([2, 4, 6] if best_by else [2, 6])
    told = capsys.readouterr().out
    for step in (2, 6):
        assert f"error: step {step}: the evaluation failed, the training goes on: a pict" in told
    # The last one is tried again when the same command is started again.
    run(tmp_path, 6, evaluate=lambda variables, step: {"AP": 0.25}, **options)
    assert [line["eval/AP"] for line in lines(tmp_path) if "eval/AP" in line] == [0.5, 0.25]
