"""Pair features and costs against loops, and the values of the article's authors by hand."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.ops.pair_costs import PairModel, log_odds, pair_costs, pair_features
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import bottom_up as oracle

features_of, costs_of = jax.jit(pair_features), jax.jit(pair_costs)


def case(rng, n, joints=4):
    points = rng.uniform(0, 60, (n, 2)).astype(np.float32)
    origins = (points + rng.normal(scale=3, size=(n, 2))).astype(np.float32)
    offsets = rng.normal(scale=20, size=(n, joints, 2)).astype(np.float32)
    return points, origins, offsets, rng.integers(0, joints, n).astype(np.int32)


def model(rng, joints=4):
    weights = rng.normal(scale=0.2, size=(joints, joints, 8)).astype(np.float32)
    bias = rng.normal(size=(joints, joints)).astype(np.float32)
    return PairModel(weights, bias, rng.uniform(size=(joints, joints)) < 0.7)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 20])
def test_equals_the_oracle(n):
    rng = np.random.default_rng(n)
    arrays, regressions = case(rng, n), model(rng)
    points, _, _, joints = arrays
    expected = oracle.pair_features(*arrays)
    np.testing.assert_allclose(features_of(*arrays), expected, rtol=1e-4, atol=1e-4)
    costs = np.asarray(costs_of(expected.astype(np.float32), points, joints, regressions))
    np.testing.assert_allclose(
        costs, oracle.pair_costs(expected, points, joints, regressions), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(costs, costs.T)


def test_what_agrees_costs_nothing_in_distance_and_angle():
    points = np.array([[10, 10], [40, 50]], np.float32)
    offsets = np.zeros((2, 2, 2), np.float32)
    offsets[0, 1], offsets[1, 0] = (30, 40), (-30, -40)
    joints = np.array([0, 1], np.int32)
    np.testing.assert_allclose(
        features_of(points, points, offsets, joints)[0, 1], [0] * 4 + [1] * 4, atol=1e-6
    )
    # Expected on the opposite side: pi, not 0, whatever the direction.
    for x, y in ((30, 0), (-30, 0), (0, 30), (21, -13)):
        points[1] = points[0] + (x, y)
        offsets[0, 1] = -x, -y
        there = features_of(points, points, offsets, joints)[0, 1]
        np.testing.assert_allclose(there[:2], [2 * math.hypot(x, y), math.pi], rtol=1e-6)


def test_candidates_in_one_place():
    points, joints = np.full((3, 2), 7, np.float32), np.array([0, 0, 1], np.int32)
    features = features_of(points, points, np.zeros((3, 2, 2), np.float32), joints)
    np.testing.assert_allclose(features[..., :4], 0)
    nothing = PairModel(np.zeros((2, 2, 8)), np.zeros((2, 2)), np.zeros((2, 2), bool))
    costs = costs_of(features, points, joints, nothing)
    np.testing.assert_allclose(costs, [[0, -7.5, 0], [-7.5, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("away", "probability"), [(0.0, 0.99945), (20.0, 0.9707), (37.5, 0.5), (60.0, 0.011)]
)
def test_the_same_part_by_distance(away, probability):
    points, joints = np.array([[5, 5], [5, 5 + away]], np.float32), np.zeros(2, np.int32)
    nothing = PairModel(np.zeros((1, 1, 8)), np.zeros((1, 1)), np.zeros((1, 1), bool))
    costs = costs_of(np.zeros((2, 2, 8), np.float32), points, joints, nothing)
    np.testing.assert_allclose(jax.nn.sigmoid(-costs[0, 1]), probability, rtol=0.01)


def test_probabilities_of_0_and_1_and_nan():
    costs = log_odds(np.array([-np.inf, -1e30, -20, 0, 20, 1e30, np.inf, np.nan], np.float32))
    most = math.log((1 - 1e-7) / 1e-7)
    np.testing.assert_allclose(costs, [most] * 3 + [0] + [-most] * 3 + [0], rtol=1e-6)
    np.testing.assert_allclose(log_odds(math.log(9)), -2.197, atol=1e-3)  # p = .9
    np.testing.assert_allclose(log_odds(-math.log(4)), 1.386, atol=1e-3)  # p = .2


def test_nan_offsets_say_nothing():
    rng = np.random.default_rng(0)
    points, origins, offsets, _ = case(rng, 4)
    offsets[0] = np.nan
    joints = np.arange(4, dtype=np.int32)
    regressions = model(rng)._replace(known=np.ones((4, 4), bool))
    costs = costs_of(features_of(points, origins, offsets, joints), points, joints, regressions)
    assert np.isfinite(costs).all()
    assert (costs[0] == 0).all()
    assert np.count_nonzero(costs) == 6


def test_contract():
    rng = np.random.default_rng(0)
    check_contract(pair_features, case(rng, 6), case(rng, 6))
    regressions = PairModel(*map(jnp.asarray, model(rng)))

    def inputs():
        points, _, _, joints = arrays = case(rng, 6)
        return oracle.pair_features(*arrays).astype(np.float32), points, joints

    check_contract(partial(pair_costs, model=regressions), inputs(), inputs())
    check_contract(log_odds, (inputs()[1],), (inputs()[1],))
