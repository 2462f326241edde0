"""One step: accumulation, sharding, averages, flags."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.metrics import Mean, compute
from g_rmi.training import sharding
from g_rmi.training.state import create_state
from g_rmi.training.step import split_rows, train_step
from tests.g_rmi.training import toy

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
LINEAR, CONV = toy.LinearTask(), toy.ConvTask()


class NoiseTask(toy.LinearTask):
    """Reports its random number and the square of it."""

    def loss(self, params, model_state, batch, key, *, train, step):
        loss, (state, metrics) = super().loss(
            params, model_state, batch, key, train=train, step=step
        )
        noise = jax.random.normal(key)
        metrics |= {"noise": Mean(noise, jnp.float32(1)), "square": Mean(noise**2, jnp.float32(1))}
        return loss, (state, metrics)


@functools.cache
def initial(task):
    """The state on the host: what is on a device would be donated."""
    state = jax.jit(lambda: create_state(task, OPTIMIZER, jax.random.key(3), average=True))()
    return jax.device_get(state.replace(key=None))


def start(task, mesh):
    state = initial(task).replace(key=jax.random.key(4))
    return jax.device_put(state, sharding.replicated(mesh))


@functools.cache
def compiled(task, grad_accumulation, devices, make):
    """(mesh, executable); every test that can shares it."""
    mesh = sharding.data_mesh(jax.devices()[:devices])
    step = train_step(task, OPTIMIZER, grad_accumulation=grad_accumulation, ema_decay=0.99)
    step = jax.jit(step, donate_argnums=0, out_shardings=sharding.replicated(mesh))
    batch = sharding.put_batch(mesh, make(np.random.default_rng(0), 16))
    return mesh, step.lower(start(task, mesh), batch).compile()


def run(task, make, *, devices=1, grad_accumulation=1, steps=1):
    mesh, step = compiled(
        task, grad_accumulation, devices, toy.points if make != toy.pictures else make
    )
    state = start(task, mesh)
    for n in range(steps):
        batch = sharding.put_batch(mesh, make(np.random.default_rng(n), 16))
        state, metrics = step(state, batch)
    return state, compute(metrics)


def padded_points(rng, size):
    """Weights that differ from micro-batch to micro-batch; one of four has no rows at all."""
    weight = (rng.random(size) < 0.6).astype(np.float32)
    weight[1::4] = 0
    return toy.points(rng, size) | {"weight": weight}


@pytest.mark.parametrize("grad_accumulation", [1, 4])
def test_gradient_is_the_weighted_mean_over_the_rows(grad_accumulation):
    batch = padded_points(np.random.default_rng(0), 16)
    error = batch["x"].sum(1) - batch["y"]  # w = 1, b = 0
    scale = 2 * batch["weight"] * error / batch["weight"].sum()
    state, values = run(LINEAR, padded_points, grad_accumulation=grad_accumulation)
    np.testing.assert_allclose(state.params["b"], [-0.1 * scale.sum()], rtol=1e-5)
    w = 1 - 0.1 * batch["x"].T @ scale
    np.testing.assert_allclose(state.params["w"][:, 0], w, rtol=1e-5)
    loss = (batch["weight"] * error**2).sum() / batch["weight"].sum()
    assert values["loss"] == pytest.approx(loss, rel=1e-5)
    norm = np.sqrt(((batch["x"].T @ scale) ** 2).sum() + scale.sum() ** 2)
    assert values["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert values["finite"] == 1


def test_first_average_keeps_a_tenth():
    state, _ = run(LINEAR, toy.points)
    expected = 0.1 * 1 + 0.9 * state.params["w"]
    np.testing.assert_allclose(state.average["params"]["w"], expected, rtol=1e-6)


@pytest.mark.parametrize("grad_accumulation", [1, 2])
def test_four_devices_are_one(grad_accumulation):
    one, values_one = run(CONV, toy.pictures, grad_accumulation=grad_accumulation, steps=3)
    four, values_four = run(
        CONV, toy.pictures, grad_accumulation=grad_accumulation, steps=3, devices=4
    )
    assert len(four.params["Conv_0"]["kernel"].sharding.device_set) == 4
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, one.replace(key=None), four.replace(key=None))
    assert values_one == pytest.approx(values_four, rel=1e-5)


@pytest.mark.parametrize("devices", [1, 4])
def test_batch_norm_sees_the_global_batch(devices):
    state, _ = run(CONV, toy.pictures, devices=devices)
    x = np.pad(toy.pictures(np.random.default_rng(0), 16)["x"], ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = initial(CONV).params["Conv_0"]["kernel"]
    maps = np.stack(
        [
            np.einsum("byxc,yxck->bk", x[:, i : i + 3, j : j + 3], kernel)
            for i in range(5)
            for j in range(5)
        ]
    )
    running = state.model_state["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(running["mean"], 0.1 * maps.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * maps.var((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("grad_accumulation", [1, 2])
def test_batch_rows_stay_on_their_devices(grad_accumulation):
    _, step = compiled(CONV, grad_accumulation, 4, toy.pictures)
    assert re.search(r" all-reduce\S*\(", step.as_text())
    assert not re.search(r" (all-gather|all-to-all|collective-permute)\S*\(", step.as_text())


def test_split_rows_deals_them_out():
    parts = split_rows({"x": jnp.arange(8).reshape(8, 1)}, 2)["x"]
    np.testing.assert_array_equal(parts[..., 0], [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_state_is_donated_without_host_transfers():
    mesh, step = compiled(CONV, 1, 4, toy.pictures)
    state = start(CONV, mesh)
    batch = sharding.put_batch(mesh, toy.pictures(np.random.default_rng(0), 16))
    with jax.transfer_guard("disallow"):
        new, _ = step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert new.step == 1


def test_every_step_and_micro_batch_has_its_own_noise():
    task = NoiseTask()
    _, once = run(task, toy.points, grad_accumulation=2)
    _, again = run(task, toy.points, grad_accumulation=2)
    _, later = run(task, toy.points, grad_accumulation=2, steps=2)
    assert once == again
    assert once["noise"] != later["noise"]
    assert once["square"] != pytest.approx(once["noise"] ** 2)  # equal if both keys were the same


@pytest.mark.parametrize("grad_accumulation", [1, 4])
def test_finite_flag(grad_accumulation):
    def broken(rng, size):
        batch = toy.points(rng, size)
        batch["x"][3] = np.inf
        return batch

    assert run(LINEAR, broken, grad_accumulation=grad_accumulation)[1]["finite"] == 0
