"""Candidates against loops; plateaus, gaps in the maps, more of them than there is room for."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.candidates import find_candidates
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import bottom_up as oracle

OPTIONS = {"count": 4, "stride": 8.0, "radius": 12.0, "least": -1.0}
compiled = jax.jit(find_candidates, static_argnames="count")


def maps(rng, height=9, width=11, joints=3):
    logits = rng.normal(size=(height, width, joints))
    offset = rng.normal(scale=5, size=(height, width, joints, 2))
    return (
        logits.astype(np.float32),
        offset.astype(np.float32),
        rng.uniform(size=(height, width)) < 0.9,
    )


def check(logits, offset, usable, **options):
    found = compiled(logits, offset, usable, **options)
    expected = oracle.candidates(logits, offset, usable, **options)
    joints, count = logits.shape[2], options["count"]
    assert found.valid.shape == (joints, count)
    for k, rows in enumerate(expected):
        there = np.arange(count) < len(rows)
        np.testing.assert_array_equal(found.valid[k], there)
        table = np.array(rows).reshape(-1, 5)
        np.testing.assert_allclose(found.points[k][there], table[:, :2], atol=1e-4)
        np.testing.assert_array_equal(found.cells[k][there], table[:, 2:4])
        np.testing.assert_allclose(found.logits[k][there], table[:, 4])
        for column in (found.points, found.cells):
            assert (np.asarray(column[k])[~there] == 0).all()
        assert (np.asarray(found.logits[k])[~there] == -np.inf).all()
    return found


@pytest.mark.parametrize("count", [1, 4, 200])
@pytest.mark.parametrize("radius", [0.0, 12.0, 40.0])
def test_equals_the_oracle(count, radius):
    rng = np.random.default_rng(0)
    for least in (-np.inf, -1.0, 1.0):
        check(*maps(rng), count=count, stride=8.0, radius=radius, least=least)


@pytest.mark.parametrize("size", [(0, 4, 2), (4, 0, 2), (4, 5, 0), (1, 1, 1), (2, 1, 3), (1, 7, 2)])
def test_sizes(size):
    check(*maps(np.random.default_rng(1), *size), **OPTIONS)


def test_all_equal_scores_are_thinned_out_from_the_first_cell():
    logits, offset = np.zeros((5, 6, 1), np.float32), np.zeros((5, 6, 1, 2), np.float32)
    usable = np.ones((5, 6), bool)
    found = check(logits, offset, usable, count=20, stride=8.0, radius=16.0, least=0.0)
    assert found.cells[0][:3].tolist() == [[0, 0], [3, 0], [5, 1]]
    # Below the least score nobody is left.
    assert not compiled(logits - 1, offset, usable, **OPTIONS | {"least": 0.0}).valid.any()


def test_the_rim_of_the_disk_belongs_to_it():
    logits, offset = np.full((1, 9, 1), -9.0, np.float32), np.zeros((1, 9, 1, 2), np.float32)
    logits[0, [1, 4], 0] = 2, 1  # 24 pixels apart
    usable = np.ones((1, 9), bool)
    for radius, count in ((23.9, 2), (24.0, 1)):
        assert check(logits, offset, usable, **OPTIONS | {"radius": radius}).valid.sum() == count
    # It is the refined positions that count.
    offset[0, 4, 0] = -3.0, 0.0
    assert check(logits, offset, usable, **OPTIONS | {"radius": 21.0}).valid.sum() == 1


def test_nan_and_infinite_maps():
    rng = np.random.default_rng(2)
    logits, offset, usable = maps(rng)
    logits[rng.uniform(size=logits.shape) < 0.2] = np.nan
    logits[rng.uniform(size=logits.shape) < 0.05] = np.inf  # p = 1
    logits[rng.uniform(size=logits.shape) < 0.1] = -np.inf  # p = 0
    offset[rng.uniform(size=offset.shape) < 0.05] = np.nan
    offset[rng.uniform(size=offset.shape) < 0.05] = np.inf
    check(logits, offset, usable, **OPTIONS | {"least": -np.inf})
    for nothing in (np.nan, -np.inf):
        found = check(np.full_like(logits, nothing), offset, usable, **OPTIONS)
        assert not found.valid.any()


def test_contract():
    rng = np.random.default_rng(3)
    check_contract(partial(find_candidates, **OPTIONS), maps(rng), maps(rng))
