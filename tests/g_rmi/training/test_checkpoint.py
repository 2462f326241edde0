"""Checkpoints: exact on any device count, strict about what they belong to, robust to damage."""

import functools
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.training import sharding
from g_rmi.training.checkpoint import Checkpoints, Mismatch, load_variables, write_config
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


def save(workdir, *states, keep=None, config=CONFIG):
    """Saves one state per step, from step 1."""
    with Checkpoints(workdir, keep=keep) as checkpoints:
        for step, state in enumerate(states, 1):
            checkpoints.save(step, state, {"position": step}, config, DATA)


def restore(workdir, state, *, config=CONFIG, data=DATA):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore_latest(abstract(state), config, data)


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


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path, make(1)) is None


def test_newest_are_kept(tmp_path):
    save(tmp_path, *[make(1)] * 4, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]


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
    with pytest.raises(Mismatch, match=r"optim.new was None, is True"):
        restore(tmp_path, make(1), config=other)


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
