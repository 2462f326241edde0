"""Partition against all partitions, an integer programme, greedy joins and every single move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.ops.partition import partition, partition_energy, partition_in_stages
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import partition as oracle

compiled = jax.jit(partition)
batched = jax.jit(jax.vmap(partition))
staged = jax.jit(partition_in_stages, static_argnames="count")


def random_costs(rng, n, scale=1.0):
    upper = np.triu(rng.normal(scale=scale, size=(n, n)), 1)
    return rng.normal(size=n).astype(np.float32), (upper + upper.T).astype(np.float32)


def people(rng, count, noise):
    """Log-odds of joints of people, some of them seen twice, among false ones."""
    person = np.repeat(np.arange(count), 17)
    person = person[rng.uniform(size=len(person)) < 0.8]
    twice = person[rng.uniform(size=len(person)) < 0.15]
    false = -1 - np.arange(len(person) // 3)
    person = rng.permutation(np.concatenate([person, twice, false]))
    unary = rng.normal(np.where(person < 0, 1.0, -1.5), 1.5)
    mean = np.where(person[:, None] == person[None], -1.5, 1.5)
    upper = np.triu(np.clip(rng.normal(mean, noise), -16, 16), 1)
    return unary.astype(np.float32), (upper + upper.T).astype(np.float32)


def padded(unary, pairwise, n):
    """The same costs among invalid nodes, which would matter a lot."""
    short = n - len(unary)
    valid = np.arange(n) < len(unary)
    return (
        np.pad(unary, (0, short), constant_values=-50.0),
        np.pad(pairwise, (0, short), constant_values=-70.0),
        valid,
    )


def check_promises(labels, unary, pairwise, valid):
    """Labels as they are promised; the energy at most 0, at most greedy's, no single move lower."""
    labels, n = np.asarray(labels), len(unary)
    assert labels.dtype == np.int32
    assert labels.shape == (n,)
    assert (labels[~valid] == -1).all()
    for i in range(n):
        if labels[i] >= 0:
            assert labels[i] == np.flatnonzero(labels == labels[i])[0]
    energy = oracle.energy(labels, unary, pairwise)
    rounding = 1e-5 * (1 + abs(energy))
    assert energy <= rounding
    greedy = oracle.greedy(unary, pairwise, valid)
    assert energy <= oracle.energy(greedy, unary, pairwise) + rounding
    for moved in oracle.single_moves(labels, valid):
        assert oracle.energy(moved, unary, pairwise) >= energy - rounding
    np.testing.assert_allclose(
        partition_energy(labels, unary, pairwise), energy, rtol=1e-5, atol=rounding
    )


@pytest.mark.parametrize("n", [0, 1, 2, 7, 24])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_promises(n, scale):
    rng = np.random.default_rng(n)
    for _ in range(4):
        valid = rng.uniform(size=n) < 0.8
        unary, pairwise = random_costs(rng, n, scale)
        check_promises(compiled(unary, pairwise, valid), unary, pairwise, valid)
        # Ties everywhere.
        unary, pairwise = np.round(unary), np.round(pairwise)
        check_promises(compiled(unary, pairwise, valid), unary, pairwise, valid)


# Measured: the best is reached in .956, .969 and .964 of the cases; the energies are in sum .16,
# .11 and .10 % above the best. Greedy joins with moves of single nodes and no chains: .8 and 1 %.
@pytest.mark.parametrize(
    ("unary_scale", "pairwise_scale", "shift", "share", "gap"),
    [(1.0, 1.0, 0.0, 0.93, 0.003), (2.0, 2.0, -0.3, 0.95, 0.002), (0.3, 1.0, 0.0, 0.94, 0.002)],
)
def test_is_mostly_the_best_of_all_partitions(unary_scale, pairwise_scale, shift, share, gap):
    rng, n, count = np.random.default_rng(0), 8, 1000
    labellings = oracle.labellings(n)
    assert len(labellings) == 21147  # the ninth Bell number
    rows, columns = np.triu_indices(n, 1)
    kept = labellings >= 0
    together = (labellings[:, rows] == labellings[:, columns]) & kept[:, rows]
    unary = unary_scale * rng.normal(size=(count, n))
    pairs = pairwise_scale * rng.normal(size=(count, len(rows))) + shift
    best = np.min(unary @ kept.T.astype(float) + pairs @ together.T.astype(float), axis=1)
    pairwise = np.zeros((count, n, n))
    pairwise[:, rows, columns] = pairwise[:, columns, rows] = pairs
    labels = batched(
        unary.astype(np.float32), pairwise.astype(np.float32), np.ones((count, n), bool)
    )
    energy = np.array([oracle.energy(*case) for case in zip(labels, unary, pairwise)])
    assert (energy >= best - 1e-4).all()
    assert np.mean(energy <= best + 1e-4) >= share
    assert np.sum(energy - best) <= gap * -np.sum(best)
    # What is promised of each: never above 0 or greedy joins, and no single move pays.
    everybody = np.ones(n, bool)
    for row, case, value in zip(
        np.asarray(labels)[::3], zip(unary[::3], pairwise[::3]), energy[::3]
    ):
        assert value <= 1e-5
        assert value <= oracle.energy(oracle.greedy(*case, everybody), *case) + 1e-4
        assert all(
            oracle.energy(moved, *case) >= value - 1e-4
            for moved in oracle.single_moves(row, everybody)
        )


def test_is_close_to_the_best_for_people():
    # Measured: the best in all twelve, of 31 to 46 nodes. In 80 of 33 to 72 nodes, with two and
    # three people, in 79; the one other is .02 % above it.
    cases = [people(np.random.default_rng(i), 2, (1.0, 1.6, 2.0)[i % 3]) for i in range(12)]
    size = max(len(unary) for unary, _ in cases)
    labels = batched(*(np.stack(x) for x in zip(*(padded(*case, size) for case in cases))))
    energy = np.array([oracle.energy(row[: len(u)], u, p) for row, (u, p) in zip(labels, cases)])
    best = np.array([oracle.lowest_energy(*case) for case in cases])
    gap = (energy - best) / -best
    assert (gap >= -1e-6).all()
    assert gap.mean() <= 0.001


@pytest.mark.parametrize("n", [60, 150])
def test_promises_for_many_people(n):
    rng = np.random.default_rng(n)
    unary, pairwise = (x[:n] for x in people(rng, n // 12, 2.0))
    pairwise, valid = pairwise[:, :n], rng.uniform(size=n) < 0.9
    labels = np.asarray(compiled(unary, pairwise, valid))
    energy = oracle.energy(labels, unary, pairwise)
    assert energy <= oracle.energy(oracle.greedy(unary, pairwise, valid), unary, pairwise) + 1e-3
    moves = list(oracle.single_moves(labels, valid))
    for k in rng.choice(len(moves), 300, replace=False):
        assert oracle.energy(moves[k], unary, pairwise) >= energy - 1e-3
    # Nor does leaving out a person, or joining two, pay.
    groups = set(labels.tolist()) - {-1}
    for a in groups:
        for b in groups | {-1}:
            joined = np.where(labels == a, b, labels)
            assert oracle.energy(joined, unary, pairwise) >= energy - 1e-3


def symmetric(n, *costs):
    pairwise = np.zeros((n, n), np.float32)
    pairwise[np.triu_indices(n, 1)] = costs
    return pairwise + pairwise.T


@pytest.mark.parametrize(
    ("costs", "labels"),
    [
        # Greedy: one group, -8. Node 0 leaves it: -9.
        ((1, -5, 5, -3, -2, -4), [0, 1, 1, 1]),
        # Greedy: {0, 1}, {2, 3}, -7. Node 1 changes sides: -10.
        ((-6, 5, 6, -4, -5, -1), [0, 1, 1, 1]),
    ],
)
def test_repairs_what_greedy_joins_miss(costs, labels):
    everybody = np.ones(4, bool)
    np.testing.assert_array_equal(
        compiled(np.zeros(4, np.float32), symmetric(4, *costs), everybody), labels
    )


def test_a_person_is_kept_or_left_out_as_a_whole():
    # 0 and 1 are kept. 2 and 3 cost 1 each by themselves, and 2 pairs them save 3.
    unary = np.array([-1, -1, 1, 1], np.float32)
    pairwise = symmetric(4, -1, 5, 5, 5, 5, -3)
    np.testing.assert_array_equal(compiled(unary, pairwise, np.ones(4, bool)), [0, 0, 2, 2])
    # The person as a whole is left out when its joints cost more than its pairs save.
    unary[2:] = 2
    np.testing.assert_array_equal(compiled(unary, pairwise, np.ones(4, bool)), [0, 0, -1, -1])


def test_one_and_two_nodes():
    one = np.zeros((1, 1), np.float32)
    for unary, label in ((-1.0, 0), (1.0, -1)):
        assert compiled(np.array([unary]), one, np.ones(1, bool)).tolist() == [label]
        assert compiled(np.array([unary]), one, np.zeros(1, bool)).tolist() == [-1]
    for pair, costs, labels in (
        (-1, (0, 0), [0, 0]),
        (1, (-2, -2), [0, 1]),
        (1, (2, -2), [-1, 1]),
        (-3, (2, 2), [-1, -1]),
        (-5, (2, 2), [0, 0]),
        (-3, (2, -2), [0, 0]),
    ):
        unary = np.array(costs, np.float32)
        np.testing.assert_array_equal(compiled(unary, symmetric(2, pair), np.ones(2, bool)), labels)


def test_zeros_and_ties():
    nothing, everybody = np.zeros(5, np.float32), np.ones(5, bool)
    # What neither costs nor pays is not joined and not left out.
    np.testing.assert_array_equal(compiled(nothing, np.zeros((5, 5)), everybody), np.arange(5))
    np.testing.assert_array_equal(compiled(nothing, np.zeros((5, 5)), ~everybody), [-1] * 5)
    # Node 2 belongs with 0 as much as with 1, which exclude each other: the lower index.
    labels = compiled(np.zeros(3, np.float32), symmetric(3, 9, -1, -1), np.ones(3, bool))
    np.testing.assert_array_equal(labels, [0, 1, 0])


def test_the_diagonal_and_what_is_below_are_not_read():
    rng = np.random.default_rng(0)
    unary, pairwise = random_costs(rng, 12)
    everybody = np.ones(12, bool)
    expected = compiled(unary, pairwise, everybody)
    for other in (np.eye(12), -99 * np.eye(12), np.tril(rng.normal(size=(12, 12)))):
        changed = (pairwise + other).astype(np.float32)
        np.testing.assert_array_equal(compiled(unary, changed, everybody), expected)
        np.testing.assert_allclose(
            partition_energy(expected, unary, changed),
            oracle.energy(expected, unary, pairwise),
            rtol=1e-5,
        )


@pytest.mark.parametrize("huge", [1e30, -1e30, 3e38, -3e38])
def test_invalid_nodes_never_matter(huge):
    rng = np.random.default_rng(0)
    valid = rng.uniform(size=20) < 0.6
    unary, pairwise = (np.round(8 * x) / 8 for x in random_costs(rng, 20))  # sums are exact
    alone = np.asarray(compiled(unary[valid], pairwise[valid][:, valid], valid[valid]))
    expected = np.full(20, -1)
    where = np.flatnonzero(valid)
    expected[valid] = np.where(alone < 0, -1, where[alone])
    unary[~valid], pairwise[~valid], pairwise[:, ~valid] = huge, huge, -huge
    np.testing.assert_array_equal(compiled(unary, pairwise, valid), expected)


@pytest.mark.parametrize("huge", [1e6, 1e30, 3e38])
def test_what_is_forbidden_hides_no_small_costs(huge):
    rng = np.random.default_rng(1)
    everybody = np.ones(16, bool)
    for _ in range(10):
        unary, pairwise = random_costs(rng, 16)
        apart = np.triu(rng.uniform(size=(16, 16)) < 0.2, 1)
        never = rng.uniform(size=16) < 0.1
        unary[never], pairwise[apart | apart.T] = 1e3, 1e3  # more than all others together
        expected = compiled(unary, pairwise, everybody)
        unary[never], pairwise[apart | apart.T] = huge, huge
        labels = np.asarray(compiled(unary, pairwise, everybody))
        np.testing.assert_array_equal(labels, expected)
        check_promises(labels, unary, pairwise, everybody)
        assert not ((labels[:, None] == labels) & (labels >= 0) & apart).any()
        assert (labels[never] == -1).all()


@pytest.mark.parametrize("huge", [1e30, 3e38])
def test_huge_savings(huge):
    unary = np.full(6, huge, np.float32)
    everybody = np.ones(6, bool)
    np.testing.assert_array_equal(compiled(unary, np.full((6, 6), -huge), everybody), [0] * 6)
    np.testing.assert_array_equal(compiled(unary, np.full((6, 6), huge), everybody), [-1] * 6)
    np.testing.assert_array_equal(compiled(-unary, np.full((6, 6), huge), everybody), range(6))


def regions(rng, people, joints=4):
    """Costs of people whose joints come in two stages, one seen twice; nodes in any order."""
    person = np.repeat(np.arange(people), joints)
    joint, stage = np.tile(np.arange(joints), people), np.tile(np.arange(joints) // 2, people)
    order = rng.permutation([*range(len(person)), 0])
    person, joint, stage = person[order], joint[order], stage[order]
    mean = np.where(person[:, None] == person[None], -3.0, 3.0)
    upper = np.triu(rng.normal(mean, 1.0), 1)
    unary = rng.normal(-1.0, 1.0, len(person))
    return *(x.astype(np.float32) for x in (unary, upper + upper.T)), joint, stage


@pytest.mark.parametrize("people", [1, 2])
def test_stages_equal_the_enumeration(people):
    rng = np.random.default_rng(people)
    for _ in range(12):
        unary, pairwise, joint, stage = regions(rng, people)
        valid = rng.uniform(size=len(unary)) < 0.9
        labels = np.asarray(staged(unary, pairwise, valid, joint, stage, count=2))
        expected = oracle.in_stages(unary, pairwise, valid, joint, stage, 2)
        np.testing.assert_array_equal(labels, expected)


def test_one_stage_is_the_partition():
    rng = np.random.default_rng(0)
    for _ in range(5):
        unary, pairwise = random_costs(rng, 12)
        valid, zeros = rng.uniform(size=12) < 0.8, np.zeros(12, int)
        np.testing.assert_array_equal(
            staged(unary, pairwise, valid, zeros, zeros, count=1), compiled(unary, pairwise, valid)
        )
    nothing = np.zeros(0, int)
    assert staged(np.zeros(0), np.zeros((0, 0)), nothing > 0, nothing, nothing, count=3).size == 0


def test_what_a_stage_has_decided_stays():
    rng = np.random.default_rng(1)
    for _ in range(10):
        unary, pairwise = random_costs(rng, 14, scale=2.0)
        valid, joint = rng.uniform(size=14) < 0.9, rng.integers(0, 5, 14)
        stage = joint // 2
        before = np.asarray(staged(unary, pairwise, valid & (stage < 2), joint, stage, count=2))
        after = np.asarray(staged(unary, pairwise, valid, joint, stage, count=3))
        for labels in (before, after):
            for i in np.flatnonzero(labels >= 0):
                assert labels[i] == np.flatnonzero(labels == labels[i])[0]
        assert (after[~valid] == -1).all()
        early = stage < 2
        assert (after[early & (before < 0)] == -1).all()
        # Of each joint, the cheapest node stays; groups are still apart, or together.
        for group in set(before[before >= 0].tolist()):
            members = np.flatnonzero(before == group)
            cheapest = [
                m for m in members if unary[m] == unary[members[joint[members] == joint[m]]].min()
            ]
            assert set(np.flatnonzero(early & (after == after[cheapest[0]]))) == set(cheapest)
            assert (after[cheapest] >= 0).all()


def test_energy():
    unary, pairwise = random_costs(np.random.default_rng(0), 5)
    for labels in ([-1] * 5, [0] * 5, [0, 1, 2, 3, 4], [3, -1, 3, 7, -1], [0, 0, -1, 3, 3]):
        np.testing.assert_allclose(
            partition_energy(np.array(labels), unary, pairwise),
            oracle.energy(labels, unary, pairwise),
            rtol=1e-5,
            atol=1e-6,
        )
    assert partition_energy(np.zeros(0, np.int32), np.zeros(0), np.zeros((0, 0))) == 0


def test_contract():
    rng = np.random.default_rng(0)

    def inputs():
        return *random_costs(rng, 9), rng.uniform(size=9) < 0.8

    check_contract(partition, inputs(), inputs())

    def energies(unary, pairwise, valid):
        labels = jnp.where(valid, np.arange(9, dtype=np.int32) // 3, -1)
        return partition_energy(labels, unary, pairwise)

    check_contract(energies, inputs(), inputs())

    def stages(unary, pairwise, valid):
        return partition_in_stages(
            unary, pairwise, valid, np.arange(9) % 4, np.arange(9) % 3, count=3
        )

    check_contract(stages, inputs(), inputs(), eager=False)
