"""Checkpoints: exact on any device count, strict about what they belong to, robust to damage."""

import contextlib
import functools
import json
import logging
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.parts.experiment import DetectorExperiment
from g_rmi.config import OptimConfig, default_values, to_dict
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.training import sharding
from g_rmi.training.checkpoint import Checkpoints, Mismatch, load_variables, write_config
from g_rmi.training.checksum import checksums
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state
from tests.g_rmi.training import toy

CONFIG = {"train": {"steps": 10, "keep": 3}, "optim": {"rate": 0.1, "boundaries": (1, 2)}}
DATA = {"records": 5}


@functools.cache
def host_state(average):
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = jax.jit(
        lambda: create_state(toy.ConvTask(), optimizer, jax.random.key(3), average=average)
    )()
    return jax.device_get(state.replace(key=None))


def make(devices=4, *, scale=1.0, average=True):
    """A state whose average differs from its variables, on some devices."""
    state = host_state(average)
    if average:
        state = state.replace(average=jax.tree.map(lambda x: x + 1, state.average))
    state = jax.tree.map(lambda x: (x * scale).astype(x.dtype), state)
    mesh = sharding.data_mesh(jax.devices()[:devices])
    return jax.device_put(state.replace(key=jax.random.key(5)), sharding.replicated(mesh))


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def save(workdir, *states, config=CONFIG, first=1, metrics=(), **kept):
    """Saves one state per step."""
    with Checkpoints(workdir, **kept) as checkpoints:
        for i, state in enumerate(states):
            metric = {"AP": metrics[i]} if i < len(metrics) and metrics[i] is not None else None
            step = first + i
            checkpoints.save(step, state, {"position": step}, config, DATA, metric=metric)


def steps(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def restore(workdir, state, *, config=CONFIG, data=DATA, defaults=None):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore_latest(abstract(state), config, data, defaults=defaults)


def assert_same(a, b):
    keyless = [x.replace(key=jax.random.key_data(x.key)) for x in (a, b)]
    jax.tree.map(np.testing.assert_array_equal, *keyless)


@pytest.mark.parametrize(("before", "after"), [(4, 4), (4, 1), (1, 2)])
def test_restores_onto_any_device_count(tmp_path, before, after):
    save(tmp_path, make(before), make(before, scale=2.0))
    restored = restore(tmp_path, make(after))
    assert (restored.step, restored.iterator) == (2, {"position": 2})
    assert_same(restored.state, make(before, scale=2.0))
    kernel = restored.state.params["Conv_0"]["kernel"]
    assert len(kernel.sharding.device_set) == after
    assert jax.tree.structure(restored.state) == jax.tree.structure(make(after))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_optimizers_come_back(tmp_path, name):
    optimizer = make_optimizer(OptimConfig(optimizer=name), steps=10)
    state = create_state(toy.ConvTask(), optimizer, jax.random.key(3), average=False)
    state = jax.tree.map(lambda x: (x + 2).astype(x.dtype), state.replace(key=None))
    mesh = sharding.data_mesh(jax.devices()[:2])
    state = jax.device_put(state.replace(key=jax.random.key(5)), sharding.replicated(mesh))
    save(tmp_path, state)
    restored = restore(tmp_path, state).state
    assert_same(restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path, make(1)) is None


def test_newest_are_kept(tmp_path):
    save(tmp_path, *[make(1)] * 4, keep=2)
    assert steps(tmp_path) == ["3", "4"]


def test_the_best_are_kept_besides_also_over_restarts(tmp_path):
    save(tmp_path, *[make(1)] * 4, keep=1, keep_best=2, metrics=(0.1, 0.5, None, 0.3))
    assert steps(tmp_path) == ["2", "4"]
    save(tmp_path, make(1), make(1), keep=1, keep_best=2, metrics=(0.2, float("nan")), first=5)
    assert steps(tmp_path) == ["2", "4", "6"]
    save(tmp_path, make(1), make(1), keep=1, keep_best=2, metrics=(0.5, None), first=7)
    assert steps(tmp_path) == ["2", "7", "8"]


def test_which_checkpoint_is_loaded(tmp_path):
    states = [make(1, scale=float(step)) for step in (1, 2, 3)]
    save(tmp_path, *states, metrics=(0.4, 0.4, 0.1))
    for which, state in [("1", 0), ("best", 1), ("3", 2), ("latest", 2)]:
        _, variables = load_variables(tmp_path, which)
        jax.tree.map(np.testing.assert_array_equal, variables, states[state].average)
    with pytest.raises(ValueError, match=r"no checkpoint '7'; choices: 3, 2, 1, latest, best$"):
        load_variables(tmp_path, "7")
    truncate(tmp_path / "checkpoints" / "2")
    with pytest.raises(ValueError, match=r"no readable checkpoint: .*/checkpoints/2 cannot be rea"):
        load_variables(tmp_path, "best")


def test_there_is_no_best_before_an_evaluation(tmp_path):
    save(tmp_path, make(1))
    with pytest.raises(ValueError, match=r"no checkpoint 'best'; choices: 1, latest$"):
        load_variables(tmp_path, "best")


def test_a_damaged_metric_only_loses_its_rank(tmp_path):
    save(tmp_path, *[make(1)] * 3, metrics=(0.1, 0.9, 0.2))
    (tmp_path / "checkpoints" / "2" / "metric" / "metadata").write_text('{"A')
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "metric")  # as versions before it
    assert restore(tmp_path, make(1)).step == 3
    save(tmp_path, make(1), keep=1, keep_best=1, first=4)
    assert steps(tmp_path) == ["3", "4"]


@pytest.fixture
def small_files():
    """No file may grow past 64 KiB: what a full disk is, without one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# tensorstore's threads report to an event loop that Orbax has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_error_and_the_older_ones_stay(tmp_path, small_files, capfd, caplog):
    big = {"w": jax.random.normal(jax.random.key(0), (256, 1024))}
    states = [make(1, scale=float(step)) for step in (1, 2)]
    states.append(states[0].replace(params=big))
    with pytest.raises(OSError, match="File too large") as error:
        save(tmp_path, *states, keep=1)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/checkpoints: checkpoint 3 cannot be written: ")
    assert message.endswith("; whole are: 2")
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err + caplog.text
    for _ in range(2):  # Orbax alone stays silent when it is the first of a run that fails
        with pytest.raises(OSError, match="File too large"):
            save(tmp_path, states[2], keep=1, first=3)
        assert_same(restore(tmp_path, make(1)).state, states[1])
    # What ended the run is not hidden by it.
    with contextlib.suppress(FloatingPointError), Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(3, states[2], {}, CONFIG, DATA)
        raise FloatingPointError
    assert "checkpoint 3 cannot be written" in caplog.text
    save(tmp_path, states[0], keep=1, first=3)
    assert steps(tmp_path) == ["3"]  # nothing half-written is left


def test_half_deleted_checkpoints_are_in_nobodys_way(tmp_path):
    save(tmp_path, *[make(1)] * 3)
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "state")
    assert restore(tmp_path, make(1)).step == 3
    save(tmp_path, make(1), keep=1, first=4)
    assert steps(tmp_path) == ["4"]


def test_state_may_be_donated_while_it_is_saved(tmp_path):
    state = make(4).replace(params={"w": jnp.zeros((512, 512))})
    kept = abstract(state)
    advance = jax.jit(lambda s: s.replace(params={"w": s.params["w"] + 1}), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            checkpoints.save(step, state, {}, CONFIG, DATA)
            for _ in range(5):
                state = advance(state)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(kept, CONFIG, DATA)
    np.testing.assert_array_equal(restored.state.params["w"], 10.0)


def biggest_file(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def truncate(step):
    for path in (step / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(step):
    path = biggest_file(step / "state")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut_json(step):
    (step / "iterator" / "metadata").write_text('{"hosts": [')


@pytest.mark.parametrize("damage", [truncate, flip, cut_json])
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog, damage):
    big = {"w": jax.random.normal(jax.random.key(0), (64, 1024))}
    states = [make(1, scale=s).replace(params=big) for s in (1.0, 2.0, 3.0)]
    save(tmp_path, *states)
    damage(tmp_path / "checkpoints" / "3")
    with caplog.at_level(logging.WARNING, logger="g_rmi"):
        restored = restore(tmp_path, states[0])
    assert restored.step == 2
    assert_same(restored.state, states[1])
    (message,) = [r.message for r in caplog.records if r.name.startswith("g_rmi")]
    assert message.startswith(f"{tmp_path}/checkpoints/3 cannot be read: ")
    assert "\n" not in message
    # The step can be saved again, and what was damaged is still there to be looked at.
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, states[2], {"position": 3}, CONFIG, DATA)
    assert restore(tmp_path, states[0]).step == 3
    assert len(list((tmp_path / "checkpoints").glob("unreadable-3-*"))) == 1


def test_only_damaged_checkpoints(tmp_path):
    save(tmp_path, make(1))
    cut_json(tmp_path / "checkpoints" / "1")
    with pytest.raises(ValueError, match=r"no readable checkpoint: .*/checkpoints/1 cannot"):
        restore(tmp_path, make(1))
    assert (tmp_path / "checkpoints" / "1").exists()


def test_config_must_be_the_same(tmp_path):
    save(tmp_path, make(1))
    other = {"train": {"steps": 99, "keep": 1}, "optim": {"rate": 0.2, "boundaries": [1, 2]}}
    with pytest.raises(Mismatch) as error:
        restore(tmp_path, make(1), config=other)
    assert str(error.value) == (
        f"{tmp_path} was started with another config: optim.rate was 0.1, is 0.2 "
        "(go back to the first values, or choose another workdir)"
    )
    other["optim"]["rate"] = 0.1
    assert restore(tmp_path, make(1), config=other).step == 1
    other["optim"]["new"] = True
    with pytest.raises(Mismatch, match=r"optim.new was not there, is True"):
        restore(tmp_path, make(1), config=other)


def test_checkpoints_of_earlier_versions_go_on_or_say_why_not(tmp_path):
    now, defaults = to_dict(DetectorExperiment()), default_values(DetectorExperiment())
    earlier = json.loads(json.dumps(now))
    del earlier["train"]["keep_best"], earlier["model"]["roi"]
    save(tmp_path, make(1), config=earlier)
    assert restore(tmp_path, make(1), config=now, defaults=defaults).step == 1
    other = to_dict(DetectorExperiment(model=FasterRCNNConfig(roi="align")))
    with pytest.raises(Mismatch, match=r"config: model.roi was 'crop', is 'align' \(go"):
        restore(tmp_path, make(1), config=other, defaults=defaults)
    earlier["model"]["dropout"] = 0.5
    save(tmp_path / "removed", make(1), config=earlier)
    with pytest.raises(Mismatch, match=r"config: model.dropout was 0.5, is not there \(go"):
        restore(tmp_path / "removed", make(1), config=now, defaults=defaults)


def test_a_checkpoint_of_another_network_says_why_not(tmp_path):
    save(tmp_path, make(1).replace(params={"w": jnp.zeros((2, 3))}))
    with pytest.raises(Mismatch, match=r"another network: params/w was \[2, 3\], is \[2, 4\] \(go"):
        restore(tmp_path, make(1).replace(params={"w": jnp.zeros((2, 4))}))
    message = r"params/v was not there, is \[2, 3\]; params/w was \[2, 3\], is not there \(go"
    with pytest.raises(Mismatch, match=message):
        restore(tmp_path, make(1).replace(params={"v": jnp.zeros((2, 3))}))
    save(tmp_path / "older", make(1).replace(opt_state={"mu": jnp.zeros(2)}))
    message = r"another optimiser: opt_state/mu was \[2\], is not there; opt_state/trace was not"
    with pytest.raises(Mismatch, match=message):
        restore(tmp_path / "older", make(1).replace(opt_state={"trace": jnp.zeros(2)}))


def test_data_must_be_the_same(tmp_path):
    save(tmp_path, make(1))
    with pytest.raises(Mismatch, match="started with other data: records was 5, is 6"):
        restore(tmp_path, make(1), data={"records": 6})


@pytest.mark.parametrize("average", [True, False])
def test_load_variables(tmp_path, average):
    state = make(4, average=average)
    save(tmp_path, make(4, scale=3.0, average=average), state)
    config, variables = load_variables(tmp_path)
    assert config == json.loads(json.dumps(CONFIG))
    expected = state.average if average else state.variables
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(expected))
    assert isinstance(variables["params"]["Conv_0"]["kernel"], jax.Array)


def test_load_variables_skips_a_damaged_checkpoint(tmp_path, caplog):
    save(tmp_path, make(1), make(1, scale=2.0))
    truncate(tmp_path / "checkpoints" / "2")
    _, variables = load_variables(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(make(1).average))
    assert f"{tmp_path}/checkpoints/2 cannot be read" in caplog.text
    assert (tmp_path / "checkpoints" / "2").exists()  # a reader changes nothing


def test_load_variables_of_something_else(tmp_path):
    (tmp_path / "runs" / "pose_small" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="runs/pose_smal does not exist; did you mean 'pose_small"):
        load_variables(tmp_path / "runs" / "pose_smal")
    with pytest.raises(ValueError, match=r"runs is not a workdir.*did you mean '.*/pose_small'"):
        load_variables(tmp_path / "runs")
    with pytest.raises(ValueError, match="pose_small has no checkpoint yet"):
        load_variables(tmp_path / "runs" / "pose_small")
    with pytest.raises(ValueError, match=r"elsewhere/x does not exist$"):
        load_variables(tmp_path / "elsewhere" / "x")


def test_write_config(tmp_path):
    write_config(tmp_path / "new" / "run", CONFIG)
    assert json.loads((tmp_path / "new" / "run" / "config.json").read_text()) == json.loads(
        json.dumps(CONFIG)
    )
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["config.json"]


def test_double_precision_changes_no_checksum():
    tree = {"average": np.arange(9000, dtype=np.float32), "step": np.int32(7)}
    plain = checksums(tree)
    with jax.enable_x64(True):
        double = checksums(tree)
        assert all(value.dtype == np.uint32 for value in double.values())
    assert {name: int(value) for name, value in plain.items()} == {
        name: int(value) for name, value in double.items()
    }
