"""Sampling: counts, order and distribution."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.sampling import hard_negatives, sample
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import mining as oracle

draw = jax.jit(sample, static_argnames=("size", "positive_share"))


@pytest.mark.parametrize("anchors", [0, 1, 2, 7, 64])
@pytest.mark.parametrize(("size", "share"), [(0, 0.5), (1, 0.5), (7, 0.25), (16, 0.0), (100, 1.0)])
def test_counts_and_order(anchors, size, share):
    rng = np.random.default_rng(anchors + size)
    for chance in (0.0, 0.1, 0.9):
        positive = rng.uniform(size=anchors) < chance
        negative = ~positive & (rng.uniform(size=anchors) < 0.8)
        index, valid = draw(jax.random.key(3), positive, negative, size=size, positive_share=share)
        assert index.shape == valid.shape == (size,)
        positives = min(positive.sum(), int(size * share))
        negatives = min(negative.sum(), size - positives)
        np.testing.assert_array_equal(valid, np.arange(size) < positives + negatives)
        index = np.asarray(index)
        assert positive[index[:positives]].all()
        assert negative[index[positives : positives + negatives]].all()
        assert len(set(index[valid])) == positives + negatives
        assert not index[~np.asarray(valid)].any()


def test_every_anchor_is_as_likely():
    positive, negative = np.arange(20) < 6, np.arange(20) >= 8
    draws = 4000
    index, valid = jax.jit(
        jax.vmap(partial(sample, positive=positive, negative=negative, size=8, positive_share=0.25))
    )(jax.random.split(jax.random.key(0), draws))
    assert valid.all()
    counts = np.bincount(np.ravel(index), minlength=20)
    for chance, members in ((2 / 6, slice(0, 6)), (0, slice(6, 8)), (6 / 12, slice(8, 20))):
        spread = np.sqrt(draws * chance * (1 - chance))
        np.testing.assert_allclose(counts[members], draws * chance, atol=4.5 * spread)
    # The first of the two positives, and pairs of them, are as likely, too.
    pairs = np.bincount(index[:, 0] * 6 + index[:, 1], minlength=36).reshape(6, 6)
    assert not np.diag(pairs).any()
    expected = draws / 30
    assert np.abs(pairs[~np.eye(6, dtype=bool)] - expected).max() < 4.5 * np.sqrt(expected)


def test_shares_weigh_the_draw():
    """Two of three positives, of shares 4, 1 and 1: chances of drawing one after the other."""
    positive, share = np.array([True, True, True, False]), np.array([4.0, 1.0, 1.0, 9.0])
    draws = 4000
    index, valid = jax.jit(
        jax.vmap(
            partial(
                sample,
                positive=positive,
                negative=~positive,
                size=2,
                positive_share=1.0,
                share=share,
            )
        )
    )(jax.random.split(jax.random.key(1), draws))
    assert valid.all()
    counts = np.bincount(index[:, 0] * 4 + index[:, 1], minlength=16).reshape(4, 4)
    wanted = np.zeros((4, 4))
    for first in range(3):
        for second in {0, 1, 2} - {first}:
            wanted[first, second] = share[first] / 6 * share[second] / (6 - share[first])
    spread = np.sqrt(draws * wanted * (1 - wanted))
    np.testing.assert_array_less(np.abs(counts - draws * wanted), 4.5 * spread + 1e-9)


def test_small_shares_are_all_the_same():
    """Anchors of one person whom 300 meet: none of them is preferred for its index."""
    everybody, draws = np.ones(300, bool), 200
    index, valid = jax.jit(
        jax.vmap(
            partial(
                sample,
                positive=everybody,
                negative=~everybody,
                size=200,
                positive_share=1.0,
                share=np.full(300, 1 / 300),
            )
        )
    )(jax.random.split(jax.random.key(2), draws))
    assert valid.all()
    first_half = np.mean(np.asarray(index) < 150)
    assert abs(first_half - 0.5) < 0.02


def test_the_key_decides():
    everybody = np.ones(1000, bool)
    draws = [
        np.asarray(draw(jax.random.key(seed), ~everybody, everybody, size=8, positive_share=0.5)[0])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_contract():
    rng = np.random.default_rng(0)

    def kernel(seed, positive, negative):
        return sample(jax.random.key(seed), positive, negative, size=8, positive_share=0.25)

    def inputs(seed):
        positive = rng.uniform(size=30) < 0.3
        return np.uint32(seed), positive, ~positive

    check_contract(kernel, inputs(0), inputs(1))


@pytest.mark.parametrize("anchors", [0, 1, 2, 7, 64])
def test_hard_negatives_equal_the_oracle(anchors):
    rng = np.random.default_rng(anchors)
    mine = jax.jit(hard_negatives)
    for count in (0, 1, 3.9, 6, 100):
        losses = (rng.integers(0, 4, anchors) / 4).astype(np.float32)  # ties everywhere
        losses[rng.uniform(size=anchors) < 0.1] = np.nan
        negative = rng.uniform(size=anchors) < 0.7
        chosen = oracle.hardest(losses, negative, int(count))
        found = mine(losses, negative, np.float32(count))
        np.testing.assert_array_equal(np.flatnonzero(found), sorted(chosen))


def test_hard_negatives_by_hand():
    losses = np.array([0.4, 0.9, 0.7, 0.1, 0.7, 0.05, 99.0], np.float32)
    negative = np.array([False, True, True, True, True, True, False])  # a person; padding
    found = hard_negatives(losses, negative, 3)
    np.testing.assert_array_equal(np.flatnonzero(found), [1, 2, 4])
    np.testing.assert_array_equal(np.flatnonzero(hard_negatives(losses, negative, 2)), [1, 2])
    lowest = np.full(3, -np.inf, np.float32)
    some = np.array([False, True, True])
    np.testing.assert_array_equal(hard_negatives(lowest, some, 1), [False, True, False])


def test_hard_negatives_keep_the_contract():
    rng = np.random.default_rng(1)
    inputs = [
        (rng.normal(size=20).astype(np.float32), rng.uniform(size=20) < 0.5, np.float32(4))
        for _ in range(2)
    ]
    check_contract(hard_negatives, *inputs)
