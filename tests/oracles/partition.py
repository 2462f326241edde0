"""Partition by enumeration, by an integer programme, and greedily; float64, pair by pair."""

import itertools

import numpy as np


def energy(labels, unary, pairwise):
    kept = [i for i in range(len(labels)) if labels[i] >= 0]
    total = sum(float(unary[i]) for i in kept)
    for i, j in itertools.combinations(kept, 2):
        if labels[i] == labels[j]:
            total += float(pairwise[i][j])
    return total


def labellings(n):
    """Every way to leave nodes out and to partition the others: Bell(n + 1) rows."""
    rows = [[]]
    for _ in range(n):
        rows = [[*row, label] for row in rows for label in range(-1, max(row, default=-1) + 2)]
    return np.array(rows)


def greedy(unary, pairwise, valid):
    """Joins the two groups with the lowest sum between them while it is below 0."""
    groups = [[i] for i in range(len(unary)) if valid[i]]
    while True:
        best, pair = 0.0, None
        for a, b in itertools.combinations(range(len(groups)), 2):
            between = sum(
                float(pairwise[min(i, j)][max(i, j)]) for i in groups[a] for j in groups[b]
            )
            if between < best:
                best, pair = between, (a, b)
        if pair is None:
            break
        groups[pair[0]] += groups.pop(pair[1])
    labels = np.full(len(unary), -1)
    for group in groups:
        together = np.full(len(unary), -1)
        together[group] = min(group)
        if energy(together, unary, pairwise) <= 0:
            labels[group] = min(group)
    return labels


def single_moves(labels, valid):
    """The labels after each move of one node: into another group, off by itself, out, back in."""
    for i in range(len(labels)):
        # One label more than there are groups: a group of its own.
        for label in {-1, *labels, len(labels)} - {labels[i]} if valid[i] else ():
            moved = np.array(labels)
            moved[i] = label
            yield moved


def lowest_energy(unary, pairwise):
    """The energy of the best partition: an integer programme with lazy triangles (DeeperCut)."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_matrix

    n = len(unary)
    pairs = list(itertools.combinations(range(n), 2))
    column = {pair: n + k for k, pair in enumerate(pairs)}
    cost = np.array([*unary, *(pairwise[i][j] for i, j in pairs)], float)
    # Pairs of one person are of kept nodes: y_ij <= x_i, y_ij <= x_j.
    rows = [{column[pair]: 1, node: -1} for pair in pairs for node in pair]
    limits = [0.0] * len(rows)
    while True:
        entries = [(r, c, v) for r, row in enumerate(rows) for c, v in row.items()]
        r, c, v = zip(*entries)
        matrix = coo_matrix((v, (r, c)), shape=(len(rows), len(cost))).tocsr()
        within = LinearConstraint(matrix, -np.inf, limits)
        answer = milp(cost, constraints=within, integrality=np.ones(len(cost)), bounds=Bounds(0, 1))
        assert answer.success, answer.message
        together = {pair for pair in pairs if answer.x[column[pair]] > 0.5}
        before = len(rows)
        for triple in itertools.combinations(range(n), 3):
            sides = list(itertools.combinations(triple, 2))
            if sum(side in together for side in sides) == 2:
                # Two sides of a triangle need the third: y_ij + y_jk - y_ik <= 1.
                rows.append({column[side]: 1 if side in together else -1 for side in sides})
                limits.append(1.0)
        if len(rows) == before:
            return answer.fun


def in_stages(unary, pairwise, valid, joints, stages, count):
    """The best way, in each stage, to add its nodes to the groups so far, by enumeration."""
    n, groups = len(unary), []
    for stage in range(count):
        kept = []
        for group in groups:
            cheapest = {}
            for i in sorted(group):
                if joints[i] not in cheapest or unary[i] < unary[cheapest[joints[i]]]:
                    cheapest[joints[i]] = i
            kept.append(list(cheapest.values()))
        new = [i for i in range(n) if valid[i] and stages[i] == stage]
        rows = [[]]
        for _ in new:
            rows = [
                [*row, label] for row in rows for label in range(-1, max([len(kept) - 1, *row]) + 2)
            ]
        best = None
        for row in rows:
            labels = np.full(n, -1)
            for g, group in enumerate(kept):
                labels[group] = g
            labels[new] = row
            total = energy(labels, unary, np.triu(pairwise) + np.triu(pairwise, 1).T)
            if best is None or total < best[0] - 1e-9:
                best = total, labels
        groups = [np.flatnonzero(best[1] == g).tolist() for g in range(best[1].max(initial=-1) + 1)]
    labels = np.full(n, -1)
    for group in groups:
        labels[group] = min(group)
    return labels
