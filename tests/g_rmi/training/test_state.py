"""The state: initial values, given weights, averages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.training.state import create_state, evaluation_variables, overlay, update_average
from tests.g_rmi.training import toy

KEY = jax.random.key(0)


def test_average_starts_at_the_variables():
    state = create_state(toy.ConvTask(), optax.sgd(0.1), KEY, average=True)
    assert set(state.variables) == {"params", "batch_stats"}
    jax.tree.map(np.testing.assert_array_equal, state.average, state.variables)
    assert evaluation_variables(state) is state.average


def test_without_average_the_variables_are_evaluated():
    state = create_state(toy.LinearTask(), optax.sgd(0.1), KEY, average=False)
    assert state.average is None
    assert evaluation_variables(state) == {"params": state.params}


def test_given_variables_replace_initial_ones():
    given = {"params": {"w": np.full((3, 1), 5.0)}}
    state = create_state(toy.LinearTask(), optax.sgd(0.1), KEY, average=True, given=given)
    np.testing.assert_array_equal(state.params["w"], 5.0)
    np.testing.assert_array_equal(state.params["b"], 0.0)
    np.testing.assert_array_equal(state.average["params"]["w"], 5.0)
    assert state.params["w"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"params": {"v": np.ones(1)}}, "'params/v' is not in the model"),
        ({"params": {"w": np.ones((3, 2))}}, r"'params/w' has shape \(3, 2\), the model \(3, 1\)"),
        ({"params": np.ones(1)}, "'params' does not have the model's structure"),
        ({"params": {"w": {"x": np.ones(1)}}}, "'params/w' does not have the model's structure"),
    ],
)
def test_given_variables_must_fit(given, message):
    with pytest.raises(ValueError, match=message):
        overlay(toy.LinearTask().init(KEY), given)


def test_average_moves_towards_the_variables():
    average = {"w": jnp.array([1.0, 2.0]), "count": jnp.int32(1)}
    new = {"w": jnp.array([2.0, 2.0]), "count": jnp.int32(7)}
    updated = update_average(average, new, jnp.float32(0.75))
    np.testing.assert_array_equal(updated["w"], [1.25, 2.0])
    assert updated["count"] == 7
