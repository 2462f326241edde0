"""Assignment against scipy's, and by hand."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from g_rmi.ops.assignment import assign
from tests.g_rmi.ops.contract import check_contract

assigned = jax.jit(assign)


def check(columns, cost, valid, limit):
    """One to one, every pair pays, and the sum is that of scipy's pairing."""
    columns = np.asarray(columns)
    rows = np.flatnonzero(columns >= 0)
    taken = columns[rows]
    assert columns.dtype == np.int32
    assert len(set(taken)) == len(taken)
    assert (columns >= -1).all()
    possible = valid & np.isfinite(cost) & (cost < limit)
    assert possible[rows, taken].all()
    change = np.where(possible, cost.astype(np.float64) - limit, 0.0)
    best = change[linear_sum_assignment(change)].sum()
    np.testing.assert_allclose(change[rows, taken].sum(), best, rtol=1e-5, atol=1e-5)


SHAPES = [(0, 0), (0, 7), (7, 0), (1, 1), (1, 7), (7, 2), (2, 64), (64, 7), (64, 64)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_the_sum_is_scipys(rows, columns):
    rng = np.random.default_rng(8 * rows + columns)
    for scale in (1.0, 1e-6, 1e6):
        cost = (scale * rng.normal(size=(rows, columns))).astype(np.float32)
        valid = rng.uniform(size=cost.shape) < 0.8
        broken = rng.uniform(size=cost.shape)
        cost[broken < 0.05], cost[broken > 0.9] = np.nan, np.inf
        cost[(broken > 0.5) & (broken < 0.55)] = -np.inf
        for limit in (0.0, scale, -0.5 * scale):
            check(assigned(cost, valid, limit=limit), cost, valid, limit)
        for few in (np.round(cost / scale), np.full_like(cost, 1.0)):  # ties everywhere
            check(assigned(few, valid, limit=1.5), few, valid, 1.5)
        nobody = assigned(cost, valid & False, limit=scale)
        np.testing.assert_array_equal(nobody, np.full(rows, -1))


def test_a_high_limit_pairs_as_many_as_there_can_be():
    """The assignment problem as it is usually put, with one best pairing."""
    rng = np.random.default_rng(1)
    for shape in ((7, 7), (7, 2), (2, 64)):
        cost = rng.permutation(np.arange(np.prod(shape))).reshape(shape).astype(np.float32) ** 2
        columns = np.asarray(assigned(cost, np.ones(shape, bool), limit=1e6))
        assert np.sum(columns >= 0) == min(shape)
        rows, best = linear_sum_assignment(cost)
        assert cost[rows, columns[rows]].sum() == cost[rows, best].sum()


def test_by_hand():
    cost = np.array([[1.0, 2.0, 9.0], [1.0, 5.0, 9.0], [0.5, 9.0, 9.0]], np.float32)
    valid = np.ones((3, 3), bool)
    # Rows 1 and 2 both want column 0; the one that saves more has it.
    np.testing.assert_array_equal(assigned(cost, valid, limit=4.0), [1, -1, 0])
    np.testing.assert_array_equal(assigned(cost, valid, limit=20.0), [1, 2, 0])
    np.testing.assert_array_equal(assigned(cost, valid, limit=0.5), [-1, -1, -1])
    same = np.zeros((3, 3), np.float32)
    np.testing.assert_array_equal(assigned(same, valid, limit=1.0), [0, 1, 2])
    np.testing.assert_array_equal(assigned(same[:, :2], valid[:, :2], limit=1.0), [0, 1, -1])
    np.testing.assert_array_equal(assigned(same[:2], valid[:2], limit=1.0), [0, 1])
    huge = np.full((2, 2), -3e38, np.float32)
    np.testing.assert_array_equal(assigned(huge, valid[:2, :2], limit=3e38), [0, 1])


def test_contract():
    rng = np.random.default_rng(0)
    cases = [
        (rng.normal(size=(5, 9)).astype(np.float32), rng.uniform(size=(5, 9)) < 0.8)
        for _ in range(2)
    ]
    check_contract(partial(assign, limit=0.5), *cases)
