"""Matching against the loop oracle and by hand."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.matching import match
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import matching as oracle

matched = jax.jit(match, static_argnames=("force", "claim"))


@pytest.mark.parametrize(
    ("rows", "anchors"), [(0, 0), (0, 7), (7, 0), (1, 1), (1, 7), (2, 1), (7, 64), (64, 7)]
)
@pytest.mark.parametrize(("force", "claim"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.5), (0.25, 0.0)])
def test_equals_the_oracle(rows, anchors, force, claim, positive, negative):
    rng = np.random.default_rng(10 * rows + anchors)
    # Quarters: ties everywhere, and overlaps equal to the thresholds.
    overlap = rng.integers(0, 4, (rows, anchors)).astype(np.float32) / 4
    valid = rng.uniform(size=rows) < 0.7
    options = {"positive": positive, "negative": negative, "force": force, "claim": claim}
    ours = matched(overlap, valid, **options)
    theirs = oracle.match(overlap, valid, anchors=anchors, **options)
    np.testing.assert_array_equal(np.stack(ours, axis=1), np.reshape(theirs, (anchors, 3)))
    assert not np.any(ours.positive & ours.negative)


def test_forced_anchors_by_hand():
    overlap = np.array(
        [
            [0.4, 0.4, 0.2, 0.9, 0.0],
            [0.1, 0.0, 0.5, 0.6, 0.0],  # its best anchor already belongs to row 0
            [0.0, 0.0, 0.0, 0.0, 0.0],  # overlaps nothing: forces nothing
            [0.0, 0.0, 0.0, 0.0, 1.0],  # not valid
        ]
    )
    valid = np.array([True, True, True, False])
    forced = matched(overlap, valid, positive=0.95, negative=0.45, force=True)
    np.testing.assert_array_equal(forced.index, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(forced.positive, [False, False, False, True, False])
    np.testing.assert_array_equal(forced.negative, [True, True, False, False, True])
    free = matched(overlap, valid, positive=0.95, negative=0.45, force=False)
    assert not free.positive.any()
    np.testing.assert_array_equal(free.negative, [True, True, False, False, True])
    tied = matched(overlap[:1, :3], valid[:1], positive=0.95, negative=0.45, force=True)
    np.testing.assert_array_equal(tied.positive, [True, True, False])
    np.testing.assert_array_equal(tied.negative, [False, False, True])


def test_claimed_anchors_by_hand():
    overlap = np.array(
        [
            [
                0.0,
                0.0,
                0.0,
                0.0,
            ],  # overlaps nothing, as padding does: claims nothing, not the first
            [0.1, 0.4, 0.3, 0.0],
            [0.0, 0.6, 0.3, 0.3],  # its best is claimed: takes the first of the two next
            [0.0, 0.7, 0.0, 0.0],  # nothing is left for it
            [1.0, 1.0, 1.0, 1.0],  # not valid
        ]
    )
    valid = np.array([True, True, True, True, False])
    found = matched(overlap, valid, positive=0.5, negative=0.5, force=False, claim=True)
    np.testing.assert_array_equal(found.index, [1, 1, 2, 2])
    np.testing.assert_array_equal(found.positive, [False, True, True, False])
    np.testing.assert_array_equal(found.negative, [True, False, False, True])
    nobody = matched(overlap, valid & False, positive=0.5, negative=0.5, force=False, claim=True)
    assert nobody.negative.all()


def test_overlaps_that_only_rounding_tells_apart_are_tied():
    once = np.float32(0.4)
    overlap = np.array([[once, np.nextafter(once, np.float32(0)), 0.3999]], np.float32)
    forced = matched(overlap, np.ones(1, bool), positive=0.7, negative=0.3, force=True)
    np.testing.assert_array_equal(forced.positive, [True, True, False])


def test_nothing_valid_is_all_negative_and_nan_overlaps_nothing():
    overlap = np.ones((2, 3), np.float32)
    for force in ({"force": False}, {"force": True}, {"force": False, "claim": True}):
        nothing = matched(overlap, np.zeros(2, bool), positive=0.7, negative=0.3, **force)
        assert nothing.negative.all()
        assert not nothing.positive.any()
        broken = np.array([[0.9, 0.2, np.nan], [np.nan] * 3], np.float32)
        found = matched(broken, np.ones(2, bool), positive=0.7, negative=0.3, **force)
        np.testing.assert_array_equal(found.positive, [True, False, False])
        np.testing.assert_array_equal(found.negative, [False, True, True])


def test_contract():
    rng = np.random.default_rng(0)
    kernel = partial(match, positive=0.7, negative=0.3, force=True, claim=True)
    cases = [
        (rng.uniform(size=(3, 9)).astype(np.float32), np.array([True, False, True]))
        for _ in range(2)
    ]
    check_contract(kernel, *cases)
