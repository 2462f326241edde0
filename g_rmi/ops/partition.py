"""Which candidates are one person: a partition of minimal energy, by joins and exchanges."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Int32, Real

# A move must pay more than this part of what pulls at its node. Rounding cannot bring that about,
# so that the true energy falls with every move, and the search ends.
_ROUNDING = 2.0**-20
# The longest chain of exchanges between two groups.
_CHAIN = 16
# More than all savings together: two finished groups are not joined.
_FORBIDDEN = 1e9


def partition(
    unary: Real[ArrayLike, " N"], pairwise: Real[ArrayLike, "N N"], valid: Bool[ArrayLike, " N"]
) -> Int32[Array, " N"]:
    """Partitions nodes into people and leaves nodes out (Insafutdinov et al. 2016, DeeperCut).

        min over labels l of  sum_i [l_i >= 0] unary_i + sum_{i < j} [l_i = l_j >= 0] pairwise_ij

    The costs are log-odds: log((1 - p) / p) of being a joint and of being one person's. Greedy
    joins from several starts (Keuper et al. 2015), then moves of single nodes, then chains of
    moves between two groups, the best prefix of which is kept if it pays (Kernighan and Lin), until
    nothing pays any more: after Levinkov et al. 2017; both from memory. Being left out is a group
    as well, one that costs nothing.

    The result is a local optimum. But for rounding, its energy is at most 0 and at most that of
    greedy joins by sums without the groups that cost, and it is not lowered by moving one node
    (into another group, off by itself, out, back in), joining two groups or leaving one out.

    Args:
      unary: Cost of keeping a node; finite.
      pairwise: Cost of two nodes being one person; finite. Only what is above the diagonal is read.
      valid: Nodes that take part.

    Returns:
      The lowest index of the node's person; -1 where it is left out or not valid.
    """
    valid = jnp.asarray(valid)
    n = len(valid)
    if n == 0:
        return jnp.zeros(0, jnp.int32)
    problem = _problem(unary, pairwise, valid)
    # From all nodes, and from those that are rather joints than not; by sums, and by means.
    starts = jnp.stack([valid, valid & (problem.unary < 0)] * 2)
    mean = jnp.arange(4) >= 2
    labels, energies = lax.map(lambda start: _search(problem, *start), (starts, mean))
    labels = labels[jnp.argmin(energies)]
    return _first(jnp.where(labels < n, labels, -1))


def partition_energy(
    labels: Int[ArrayLike, " N"],
    unary: Real[ArrayLike, " N"],
    pairwise: Real[ArrayLike, "N N"],
) -> Float[Array, ""]:
    """The energy that `partition` makes low.

    Args:
      labels: The node's person, any number from 0; negative where it is left out.
      unary: Cost of keeping a node.
      pairwise: Cost of two nodes being one person. Only what is above the diagonal is read.

    Returns:
      The sum over kept nodes and over pairs of one person.
    """
    labels = jnp.asarray(labels)
    unary, pairwise = jnp.asarray(unary, jnp.float32), jnp.asarray(pairwise, jnp.float32)
    kept = labels >= 0
    together = jnp.triu((labels[:, None] == labels[None]) & kept[None], 1)
    return jnp.sum(jnp.where(kept, unary, 0.0)) + jnp.sum(jnp.where(together, pairwise, 0.0))


def partition_in_stages(
    unary: Real[ArrayLike, " N"],
    pairwise: Real[ArrayLike, "N N"],
    valid: Bool[ArrayLike, " N"],
    joints: Int[ArrayLike, " N"],
    stages: Int[ArrayLike, " N"],
    *,
    count: int,
) -> Int32[Array, " N"]:
    """`partition` of one body region after the other (DeeperCut, section 5, incremental).

    In each stage, its nodes join the groups of the stages before, or make their own. Those groups
    stay: they are neither joined nor left out, and of each joint only the cheapest node stays in
    them, the lowest index among equals. That is fewer nodes at a time, and no certainty of the
    lowest energy.

    Args:
      unary: Cost of keeping a node; finite.
      pairwise: Cost of two nodes being one person; finite. Only what is above the diagonal is read.
      valid: Nodes that take part.
      joints: Which joint a node is.
      stages: When a node takes part, 0 to `count` - 1.
      count: Number of stages.

    Returns:
      As `partition`.
    """
    valid, joints, stages = (jnp.asarray(x) for x in (valid, joints, stages))
    unary, pairwise = jnp.asarray(unary, jnp.float32), jnp.asarray(pairwise, jnp.float32)
    n = len(valid)
    pairwise = jnp.triu(pairwise, 1) + jnp.triu(pairwise, 1).T
    labels = jnp.full(n, -1, jnp.int32)
    for stage in range(count if n else 0):
        labels = _cheapest(labels, unary, joints)
        # Each group is one node, its first, that costs less than nothing.
        members = _members(_indices(n), labels)
        group = jnp.any(members > 0, axis=1)
        new = valid & (stages == stage)
        members = jnp.where(new[:, None], jnp.eye(n, dtype=jnp.float32), members)
        within = _product(_product(members, pairwise), members.T)
        within = jnp.where(group[:, None] & group[None], _FORBIDDEN, within)
        found = partition(jnp.where(group, -1.0, unary), within, group | new)
        # A later node can have a lower index than the group it joins.
        labels = _first(jnp.where(labels >= 0, found[labels], jnp.where(new, found, -1)))
    return labels


def _cheapest(labels, unary, joints):
    """The labels with one node of each joint in a group, the others left out."""
    alike = (labels[:, None] == labels[None]) & (joints[:, None] == joints[None])
    i = _indices(len(labels))
    costs = unary[None] - unary[:, None]
    better = (costs < 0) | ((costs == 0) & (i[None] < i[:, None]))
    return _first(jnp.where(jnp.any(alike & better, axis=1), -1, labels))


def _first(labels):
    """Groups named by their lowest index; -1 stays."""
    n = len(labels)
    group = jnp.where(labels < 0, n, labels)
    first = jnp.full(n + 1, n, jnp.int32).at[group].min(_indices(n))
    return jnp.where(labels < 0, -1, first[group])


# Inside, labels are the numbers of groups, 0 to N - 1, and N for nodes left out; there is an empty
# group unless everybody is alone. `costs[g, i]` is what node i costs in group g: moving it changes
# the energy by a difference in its column.


class _Problem(NamedTuple):
    unary: Float[Array, " N"]
    pairwise: Float[Array, "N N"]
    pull: Float[Array, " N"]  # the most that keeping a node can save
    valid: Bool[Array, " N"]


def _problem(unary, pairwise, valid):
    """Costs without invalid nodes, symmetric, with sums that stay finite.

    Nothing outweighs a cost above B, the sum of all that is negative: 2 B + 1 forbids as well, and
    small costs beside it are not lost.
    """
    unary = jnp.where(valid, jnp.asarray(unary, jnp.float32), 0.0)
    pairs = jnp.triu(valid[:, None] & valid[None], 1)
    pairwise = jnp.where(pairs, jnp.asarray(pairwise, jnp.float32), 0.0)
    most = -jnp.sum(jnp.minimum(unary, 0.0)) - jnp.sum(jnp.minimum(pairwise, 0.0))
    unary, pairwise = jnp.minimum(unary, 2 * most + 1), jnp.minimum(pairwise, 2 * most + 1)
    largest = jnp.maximum(jnp.max(jnp.abs(unary)), jnp.max(jnp.abs(pairwise)))
    scale = jnp.where(largest > 2.0**80, 2.0**-48, 1.0)
    unary, pairwise = unary * scale, pairwise * scale
    pairwise += pairwise.T
    pull = -jnp.minimum(unary, 0.0) - jnp.sum(jnp.minimum(pairwise, 0.0), axis=0)
    return _Problem(unary, pairwise, pull, valid)


def _search(problem, start, mean):
    """A local optimum from the nodes of `start`, each by itself, and its energy.

    Every round but the last has a lower energy than the one before: there are finitely many.
    """
    n = len(start)

    def settle(labels, mean):
        labels = _move(problem, _join(problem, labels, mean))
        outside = jnp.where(labels < n, labels, -1)
        return labels, partition_energy(outside, problem.unary, problem.pairwise)

    def improve(state):
        labels, energy, _ = state
        new, lower = settle(_exchange(problem, labels), mean & False)
        pays = lower < energy
        return jnp.where(pays, new, labels), jnp.where(pays, lower, energy), pays

    labels, energy = settle(jnp.where(start, _indices(n), n), mean)
    state = labels, energy, jnp.any(problem.valid)
    return lax.while_loop(lambda state: state[2], improve, state)[:2]


def _join(problem, labels, mean):
    """Joins the two groups with the lowest cost between them while it is < 0; at most N - 1 times.

    The cost is the sum over their pairs, or its mean: large groups attract less, then. Leaves out
    the groups that cost something in the end.
    """
    n = len(labels)
    members = _members(_indices(n), labels)
    between = _product(_product(members, problem.pairwise), members.T)
    totals = _product(members, problem.unary) + jnp.diagonal(between) / 2
    there = jnp.any(members > 0, axis=1)
    apart = there[:, None] & there[None] & ~jnp.eye(n, dtype=bool)
    between = jnp.where(apart, between, jnp.inf)
    sizes = jnp.where(mean, jnp.sum(members, axis=1), 1.0)

    def lowest(between, sizes):
        share = 1 / jnp.maximum(sizes, 1.0)
        return jnp.min(between * share[:, None], axis=0) * share

    def join(state):
        between, best, sizes, totals, labels = state
        a = lax.argmin(best, 0, jnp.int32)
        b = lax.argmin(between[a] / jnp.maximum(sizes, 1.0), 0, jnp.int32)
        sizes = sizes.at[a].add(jnp.where(mean, sizes[b], 0.0))
        totals = totals.at[a].add(totals[b] + between[a, b])
        row = between[a] + between[b]  # infinite at both
        between = between.at[a].set(row).at[:, a].set(row)
        between = between.at[b].set(jnp.inf).at[:, b].set(jnp.inf)
        return between, lowest(between, sizes), sizes, totals, jnp.where(labels == b, a, labels)

    state = between, lowest(between, sizes), sizes, totals, labels
    *_, totals, labels = lax.while_loop(lambda state: jnp.any(state[1] < 0), join, state)
    return jnp.where(totals.at[labels].get(mode="fill", fill_value=0.0) > 0, n, labels)


def _move(problem, labels):
    """Makes the best move of a single node while one pays."""

    def changes(labels, costs):
        here = jnp.take_along_axis(costs, labels[None], axis=0)[0]
        change = jnp.min(costs, axis=0) - here
        pays = problem.valid & (change < -_ROUNDING * problem.pull)
        return jnp.where(pays, change, 0.0)

    def move(state):
        labels, costs, change = state
        node = lax.argmin(change, 0, jnp.int32)
        a, b = labels[node], lax.argmin(costs[:, node], 0, jnp.int32)
        labels = labels.at[node].set(b)
        costs = _update(costs, problem, labels, a, b)
        return labels, costs, changes(labels, costs)

    costs = _costs(problem, labels)
    state = labels, costs, changes(labels, costs)
    return lax.while_loop(lambda state: jnp.any(state[2] < 0), move, state)[0]


def _exchange(problem, labels):
    """Makes, node by node, the chain of moves that begins with its best one, if it pays."""

    def from_node(state, node):
        labels, costs = state
        a = labels[node]
        b = lax.argmin(costs[:, node].at[a].set(jnp.inf), 0, jnp.int32)
        change, moved = _chain(problem, labels, costs, node, b)
        pays = change < -_ROUNDING * problem.pull[node]
        labels = jnp.where(pays & moved, jnp.where(labels == a, b, a), labels)
        costs = lax.cond(pays, lambda: _update(costs, problem, labels, a, b), lambda: costs)
        return (labels, costs), None

    state = labels, _costs(problem, labels)
    return lax.scan(from_node, state, _indices(len(labels)))[0][0]


def _chain(problem, labels, costs, node, b):
    """Moves a node into group b, then whatever costs least between b and the group it came from.

    Every node moves once at most.

    Returns:
      The change of the energy by the best prefix of the chain, and the nodes that move in it.
    """
    n = len(labels)
    a = labels[node]
    side = jnp.where(labels == a, 1.0, jnp.where(labels == b, -1.0, 0.0))
    side = jnp.where(problem.valid, side, 0.0)
    paid = jnp.where(a < n, 1.0, 0.0) + jnp.where(b < n, 1.0, 0.0)  # pairs left out cost nothing

    def step(state):
        node, length, gap, turn, total, lowest, best = state
        total += side[node] * gap[node]
        gap += side[node] * paid * problem.pairwise[node]
        turn = turn.at[node].set(length)
        best = jnp.where(total < lowest, length, best)
        change = jnp.where((side != 0) & (turn == _CHAIN), side * gap, jnp.inf)
        node = lax.argmin(change, 0, jnp.int32)
        length = jnp.where(jnp.isinf(change[node]), _CHAIN, length + 1)
        return node, length, gap, turn, total, jnp.minimum(total, lowest), best

    gap = costs[b] - costs[a]  # what moving from a to b costs
    zero, nothing = a * 0, gap[0] * 0  # of the data's own type on a device mesh
    length = jnp.where(problem.valid[node], zero, _CHAIN)
    state = zero + node, length, gap, labels * 0 + _CHAIN, nothing, nothing, zero - 1
    state = lax.while_loop(lambda state: state[1] < _CHAIN, step, state)
    *_, turn, _, lowest, best = state
    return lowest, turn <= best


def _costs(problem, labels):
    n = len(labels)
    costs = _product(_members(_indices(n + 1), labels), problem.pairwise)
    return (problem.unary[None] + costs).at[n].set(0.0)


def _update(costs, problem, labels, a, b):
    """The costs after moves between a and b, both summed anew: no rounding builds up."""
    groups = jnp.stack([a, b])
    rows = problem.unary[None] + _product(_members(groups, labels), problem.pairwise)
    return costs.at[groups].set(jnp.where(groups[:, None] == len(labels), 0.0, rows))


def _members(groups, labels):
    return (groups[:, None] == labels[None]).astype(jnp.float32)


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")


def _indices(n):
    return jnp.arange(n, dtype=jnp.int32)
