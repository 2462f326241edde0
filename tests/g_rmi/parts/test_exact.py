"""The exact partition against all partitions; time limits; with the kernel as a start."""

import itertools

import numpy as np
import pytest

from g_rmi.parts.exact import energy, exact_partition
from tests.oracles import partition as oracle


def random_costs(rng, n, scale=1.0):
    upper = np.triu(rng.normal(scale=scale, size=(n, n)), 1)
    return rng.normal(size=n), upper + upper.T


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6])
def test_is_the_best_of_all_partitions(n):
    rng = np.random.default_rng(n)
    for _ in range(8):
        unary, pairwise = random_costs(rng, n)
        valid = rng.uniform(size=n) < 0.9
        found = exact_partition(unary, pairwise, valid)
        best = min(
            oracle.energy(labels, unary, pairwise)
            for labels in oracle.labellings(n)
            if (labels[~valid] == -1).all()
        )
        assert found.proven
        np.testing.assert_allclose(found.energy, best, atol=1e-6)
        np.testing.assert_allclose(oracle.energy(found.labels, unary, pairwise), best, atol=1e-6)
        assert (found.labels[~valid] == -1).all()
        for i in np.flatnonzero(found.labels >= 0):
            assert found.labels[i] == np.flatnonzero(found.labels == found.labels[i])[0]


@pytest.mark.parametrize("n", [10, 12])
def test_equals_the_oracles_programme(n):
    unary, pairwise = random_costs(np.random.default_rng(n), n)
    found = exact_partition(unary, pairwise, np.ones(n, bool))
    assert found.proven
    np.testing.assert_allclose(found.energy, oracle.lowest_energy(unary, pairwise), atol=1e-6)


def test_people_of_forty_candidates():
    rng = np.random.default_rng(0)
    person = rng.permutation(np.repeat(np.arange(-4, 3), [*[1] * 4, *[12] * 3]))
    same = (person[:, None] == person) & (person >= 0)
    upper = np.triu(rng.normal(np.where(same, -1.5, 1.5), 1.5), 1)
    unary = rng.normal(np.where(person < 0, 1, -1.5), 1.0)
    found = exact_partition(unary, upper, np.ones(40, bool))
    assert found.proven
    np.testing.assert_allclose(found.energy, oracle.lowest_energy(unary, upper), atol=1e-6)


@pytest.mark.parametrize(
    ("costs", "labels"),
    [
        ((-5, 3, -4, -2, 4, 0), [0, 1, 1, 0]),
        ((1, -5, 5, -3, -2, -4), [0, 1, 1, 1]),
        ((-6, 5, 6, -4, -5, -1), [0, 1, 1, 1]),
    ],
)
def test_small_cases(costs, labels):
    pairwise = np.zeros((4, 4))
    pairwise[np.triu_indices(4, 1)] = costs  # what is below the diagonal is not read
    found = exact_partition(np.zeros(4) - 1e-3, pairwise, np.ones(4, bool))
    np.testing.assert_array_equal(found.labels, labels)


def test_out_of_time_takes_the_lower_energy():
    rng = np.random.default_rng(0)
    unary, pairwise = random_costs(rng, 30)
    everybody = np.ones(30, bool)
    start = oracle.greedy(unary, pairwise, everybody)
    found = exact_partition(unary, pairwise, everybody, start=start, time_limit=0.0)
    assert not found.proven
    np.testing.assert_allclose(found.energy, oracle.energy(start, unary, pairwise))
    # A start that costs something is worse than nobody.
    found = exact_partition(unary + 9, abs(pairwise), everybody, start=start, time_limit=0.0)
    assert found.energy == 0
    # Whenever it is stopped, it is not worse than its start.
    for seconds in (0.02, 0.1):
        found = exact_partition(unary, pairwise, everybody, start=start, time_limit=seconds)
        assert found.energy <= oracle.energy(start, unary, pairwise) + 1e-9


def test_energy_is_the_oracles():
    rng = np.random.default_rng(1)
    unary, pairwise = random_costs(rng, 9)
    for labels in itertools.islice(oracle.labellings(8), 0, None, 3001):
        labels = np.append(labels, -1)
        np.testing.assert_allclose(
            energy(labels, unary, pairwise), oracle.energy(labels, unary, pairwise), atol=1e-9
        )
