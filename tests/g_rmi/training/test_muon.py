"""Muon against optax's, which iterates on the kernels themselves, and against singular vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from g_rmi.training.muon import orthogonalize, scale_by_muon

MATRIX = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
SHAPES = [(3, 3, 8, 16), (1, 1, 12, 40), (1, 1, 16, 16), (7, 7, 3, 8)]


def kernel(shape, decay=0.0, seed=0):
    """Singular values fall from 1 to exp(-decay)."""
    rng = np.random.default_rng(seed)
    u, values, vt = np.linalg.svd(
        rng.normal(size=(np.prod(shape[:-1]), shape[-1])), full_matrices=False
    )
    values = np.exp(-decay * np.linspace(0, 1, len(values)))
    return (u * values @ vt).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_singular_values_become_alike(shape):
    x = kernel(shape, decay=3.0).reshape(-1, shape[-1])
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    y = np.asarray(orthogonalize(jnp.asarray(x.reshape(shape)))).reshape(x.shape)
    inside = u.T @ y @ vt.T
    np.testing.assert_allclose(np.diag(inside), 1, atol=0.35)
    np.testing.assert_allclose(inside - np.diag(np.diag(inside)), 0, atol=1e-3)
    np.testing.assert_allclose(u @ inside @ vt, y, atol=1e-3)  # nothing outside


@pytest.mark.parametrize("decay", [0.0, 5.0, 14.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_the_iteration_on_the_whole_kernel(shape, decay):
    x = jnp.asarray(7.0 * kernel(shape, decay))
    # Its first step without Nesterov's momentum is the kernel's own direction.
    other = optax.contrib.scale_by_muon(nesterov=False, weight_dimension_numbers=MATRIX)
    with jax.numpy_dtype_promotion("standard"):
        expected, _ = other.update(x, other.init(x))
    np.testing.assert_allclose(orthogonalize(x), expected, atol=2e-3)


def test_nothing_to_learn_moves_nothing():
    np.testing.assert_array_equal(orthogonalize(jnp.zeros((3, 3, 4, 8))), 0)


def test_the_momentum_is_optaxs_once_its_start_is_forgotten():
    params = {str(i): jnp.zeros(shape) for i, shape in enumerate(SHAPES)}
    matrices = jax.tree.map(lambda _: MATRIX, params)
    other = optax.contrib.muon(
        -1.0, muon_weight_dimension_numbers=matrices, consistent_rms=0.2, nesterov=True
    )

    def gradients(step):
        return {k: jnp.asarray(kernel(x.shape, 1.0, seed=step)) for k, x in params.items()}

    def last(optimizer):
        update = jax.jit(optimizer.update)
        state = optimizer.init(params)
        for step in range(120):
            updates, state = update(gradients(step), state, params)
        return updates

    with jax.numpy_dtype_promotion("standard"):
        expected = last(other)
    for name, update in last(scale_by_muon()).items():
        difference = np.linalg.norm(update - expected[name]) / np.linalg.norm(expected[name])
        assert difference < 0.02
