"""Schedules, masks and updates against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training.optim import (
    averaging_decay,
    decay_mask,
    describe,
    make_optimizer,
    make_schedule,
)

SCHEDULES = [
    (OptimConfig(learning_rate=0.2), [(0, 0.2), (50, 0.2), (1000, 0.2)]),
    (OptimConfig(learning_rate=0.2, warmup_steps=4), [(0, 0.0), (1, 0.05), (3, 0.15), (4, 0.2)]),
    (
        OptimConfig(learning_rate=0.2, schedule="cosine", warmup_steps=20),
        # cos(pi / 3) = 1/2 a third of the way from 20 to 80.
        [(10, 0.1), (20, 0.2), (40, 0.15), (50, 0.1), (60, 0.05), (80, 0.0), (99, 0.0)],
    ),
    (
        OptimConfig(learning_rate=0.2, schedule="steps", boundaries=(10, 30)),
        [(0, 0.2), (9, 0.2), (10, 0.02), (29, 0.02), (30, 0.002)],
    ),
]


@pytest.mark.parametrize(("config", "expected"), SCHEDULES)
def test_schedule(config, expected):
    schedule = make_schedule(config, 80)
    steps, rates = zip(*expected)
    on_host = [schedule(step) for step in steps]
    assert not any(isinstance(rate, jax.Array) for rate in on_host)
    np.testing.assert_allclose(on_host, rates, atol=1e-7)
    compiled = jax.jit(schedule)
    on_device = [compiled(jnp.int32(step)) for step in steps]
    np.testing.assert_allclose(on_device, rates, atol=1e-7)


def update(config, params, *gradients):
    optimizer = make_optimizer(config, 100)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_sgd_with_momentum():
    w = {"w": jnp.array([[1.0]])}
    g = {"w": jnp.array([[2.0]])}
    # velocities 2 and .5 * 2 + 2 = 3
    new = update(OptimConfig(learning_rate=0.1, momentum=0.5), w, g, g)
    np.testing.assert_allclose(new["w"], [[0.5]], rtol=1e-6)


def test_adamw_moves_by_the_learning_rate_first():
    w = {"w": jnp.array([[1.0, 1.0]])}
    g = {"w": jnp.array([[3.0, -0.01]])}
    new = update(OptimConfig(optimizer="adamw", learning_rate=0.1), w, g)
    np.testing.assert_allclose(new["w"], [[0.9, 1.1]], rtol=1e-5)


def test_muon_orthogonalises_kernels_that_a_norm_follows():
    key = jax.random.key(0)
    kernel = jax.random.normal(key, (3, 3, 8, 16))
    params = {
        "conv": {"kernel": jnp.zeros((3, 3, 8, 16))},
        "norm": {"scale": jnp.ones(16), "bias": jnp.zeros(16)},
        "head": {"kernel": jnp.zeros((1, 1, 16, 4)), "bias": jnp.zeros(4)},
        "dense": {"kernel": jnp.zeros((16, 4)), "bias": jnp.zeros(4)},
    }
    gradient = jax.tree.map(lambda x: 1e-3 * jax.random.normal(key, x.shape), params)
    gradient["conv"]["kernel"] = kernel
    new = update(OptimConfig(optimizer="muon", learning_rate=0.1), params, gradient)

    # All singular directions alike: U V^T of the gradient, but for the five iterations' precision.
    u, _, vt = np.linalg.svd(np.reshape(kernel, (72, 16)), full_matrices=False)
    in_those = u.T @ np.reshape(new["conv"]["kernel"], (72, 16)) @ vt.T
    size = -0.1 * 0.2 * np.sqrt(72)
    np.testing.assert_allclose(in_those, size * np.eye(16), atol=0.35 * abs(size))
    np.testing.assert_allclose(in_those - np.diag(np.diag(in_those)), 0, atol=1e-3 * abs(size))

    # The rest, heads among it, is Adam's with Nesterov's momentum.
    del new["conv"], params["conv"], gradient["conv"]
    adam = optax.nadam(0.1)
    with jax.numpy_dtype_promotion("standard"):
        moved = optax.apply_updates(params, adam.update(gradient, adam.init(params))[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), new, moved)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_weight_decay_leaves_norms_and_biases_alone(optimizer):
    params = {"kernel": jnp.ones((3, 3, 2, 2)), "bias": jnp.ones(2), "scale": jnp.float32(1)}
    assert decay_mask(params) == {"kernel": True, "bias": False, "scale": False}
    config = OptimConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    new = update(config, params, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_allclose(new["kernel"], 0.95, rtol=1e-6)
    np.testing.assert_array_equal(new["bias"], 1.0)
    np.testing.assert_array_equal(new["scale"], 1.0)
    hidden = update(config, {"kernel": params["kernel"]}, {"kernel": jnp.zeros((3, 3, 2, 2))})
    np.testing.assert_allclose(hidden["kernel"], 0.95, rtol=1e-6)


def test_clipping_is_by_the_norm_of_all_gradients():
    params = {"a": jnp.zeros((1, 1)), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([[6.0]]), "b": jnp.array([8.0])}  # norm 10
    new = update(OptimConfig(learning_rate=1.0, clip_norm=5.0), params, gradient)
    np.testing.assert_allclose(new["a"], [[-3.0]], rtol=1e-6)
    np.testing.assert_allclose(new["b"], [-4.0], rtol=1e-6)
    new = update(OptimConfig(learning_rate=1.0, clip_norm=20.0), params, gradient)
    np.testing.assert_allclose(new["b"], [-8.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "decay"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (980, 0.99), (10**6, 0.99)]
)
def test_averaging_warms_up(step, decay):
    np.testing.assert_allclose(averaging_decay(0.99, jnp.int32(step)), decay, rtol=1e-6)


def test_describe_says_how_rate_and_batch_hang_together():
    optim = OptimConfig(
        learning_rate=0.02, momentum=0.9, schedule="steps", boundaries=(5, 8), warmup_steps=2
    )
    train = TrainConfig(steps=10, batch_size=24, grad_accumulation=3)
    assert describe(optim, train, 4) == (
        "sgd momentum 0.9, learning rate 0.02 steps (/ 10 at 5, 8) after 2 warm-up steps, for the "
        "global batch 24 = 4 devices x 2 x 3 micro-batches (not rescaled with devices), 10 steps"
    )
    one = describe(OptimConfig(), TrainConfig(), 1)
    assert "batch 24 = 1 device x 24 (" in one
    assert "\n" not in one
