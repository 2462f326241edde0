"""The partition of lowest energy, by an integer programme: slow, and no accelerator helps."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Real
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

_WHOLE, _TOLERANCE = 0.5, 1e-6  # What the solver gives for 0 and 1 may be a little off.
_TRIANGLES = 2_000  # Most that are added at a time.


class Solution(NamedTuple):
    """A partition, as `g_rmi.ops.partition.partition` gives it, and whether it is the best."""

    labels: Int32[np.ndarray, " N"]
    energy: float
    proven: bool


def exact_partition(
    unary: Real[np.ndarray, " N"],
    pairwise: Real[np.ndarray, "N N"],
    valid: Bool[np.ndarray, " N"],
    *,
    start: Int[np.ndarray, " N"] | None = None,
    time_limit: float = 60.0,
) -> Solution:
    """Minimises what `g_rmi.ops.partition.partition` makes low (DeeperCut, section 2).

        min  sum_i unary_i x_i + sum_{i < j} pairwise_ij y_ij,    x, y in {0, 1}
        y_ij <= x_i    y_ij <= x_j    y_ij + y_jk - y_ik <= 1

    Triangles are added where a solution violates them, first one of fractions. People are connected
    by pairs that save something; so nodes between which there is no such path are solved apart.

    Args:
      unary: Cost of keeping a node; finite.
      pairwise: Cost of two nodes being one person; finite. Only what is above the diagonal is read.
      valid: Nodes that take part.
      start: Labels to fall back on, such as those of `partition`; None leaves everybody out.
      time_limit: In seconds, for all together. What is not solved by then takes the lower energy of
        the start and of what the solver has.

    Returns:
      The lowest index of a node's person, -1 where it is left out or not valid.
    """
    upper = np.triu(np.asarray(pairwise, np.float64), 1)
    unary, pairwise = np.asarray(unary, np.float64), upper + upper.T
    labels, proven = np.full(len(unary), -1, np.int32), True
    ends = time.monotonic() + time_limit
    saves = csr_matrix((pairwise < 0) & valid[:, None] & valid)
    component = connected_components(saves, directed=False)[1]
    for nodes in _groups(np.where(valid, component, -1)):
        costs = unary[nodes], pairwise[np.ix_(nodes, nodes)]
        given = np.full(len(nodes), -1) if start is None else np.asarray(start)[nodes]
        found, best = _solve(*costs, given, ends)
        labels[nodes] = np.where(found < 0, -1, nodes[found])
        proven &= best
    return Solution(labels, energy(labels, unary, pairwise), proven)


def energy(
    labels: Int[np.ndarray, " N"], unary: Real[np.ndarray, " N"], pairwise: Real[np.ndarray, "N N"]
) -> float:
    """The energy of a partition, in float64."""
    kept = labels >= 0
    together = np.triu((labels[:, None] == labels) & kept, 1)
    return float(np.sum(unary, where=kept) + np.sum(pairwise, where=together))


def _groups(labels: np.ndarray) -> Iterator[np.ndarray]:
    """The nodes of each group, by its lowest index."""
    for name in np.unique(labels[labels >= 0]):
        yield np.flatnonzero(labels == name)


def _solve(
    unary: np.ndarray, pairwise: np.ndarray, start: np.ndarray, ends: float
) -> tuple[np.ndarray, bool]:
    """Labels of nodes that hang together, and whether they are the best."""
    n = len(unary)
    if n == 1:
        return np.where(unary < 0, 0, -1), True
    programme, tried = _Programme(unary, pairwise), [_named(start), np.full(n, -1)]
    # Triangles that fractions violate come cheap, and leave little to branch on.
    for whole in (False, True):
        while (left := ends - time.monotonic()) > 0:
            answer = programme.solve(left, whole=whole)
            if answer.x is None:
                break
            together, kept = programme.matrix(answer.x), answer.x[:n] > _WHOLE
            tried.append(_closed(together > _WHOLE, kept))
            triangles = _violated(together)
            certain = np.abs(answer.x - answer.x.round()).max() < _TOLERANCE
            if answer.success and certain and not len(triangles):
                return tried[-1], True
            if not answer.success or not len(triangles):
                break
            programme.add(triangles)
    return min(tried, key=lambda labels: energy(labels, unary, pairwise)), False


class _Programme:
    """The integer programme of n nodes: columns x_0 .. x_(n-1), then y of each pair i < j."""

    def __init__(self, unary: np.ndarray, pairwise: np.ndarray):
        n = self.n = len(unary)
        i, j = self.pairs = np.triu_indices(n, 1)
        self.column = np.zeros((n, n), int)
        self.column[i, j] = self.column[j, i] = columns = n + np.arange(len(i))
        self.cost = np.concatenate([unary, pairwise[i, j]])
        # y_ij - x_i <= 0, y_ij - x_j <= 0
        pairs = np.stack([np.tile(columns, 2), np.concatenate([i, j])], axis=1)
        self.columns, self.values = [pairs], [np.tile([1.0, -1.0], (len(pairs), 1))]
        self.limits = [np.zeros(len(pairs))]

    def solve(self, seconds: float, *, whole: bool) -> OptimizeResult:
        """In so many seconds; fractions are allowed unless `whole`."""
        columns = np.concatenate([c.ravel() for c in self.columns])
        values = np.concatenate([v.ravel() for v in self.values])
        widths = np.concatenate([np.full(len(c), c.shape[1]) for c in self.columns])
        rows = np.repeat(np.arange(len(widths)), widths)
        matrix = coo_matrix((values, (rows, columns)), shape=(len(widths), len(self.cost)))
        return milp(
            self.cost,
            constraints=LinearConstraint(matrix.tocsr(), -np.inf, np.concatenate(self.limits)),
            integrality=np.full(len(self.cost), int(whole)),
            bounds=Bounds(0, 1),
            options={"time_limit": seconds, "mip_rel_gap": 0.0},
        )

    def matrix(self, x: np.ndarray) -> np.ndarray:
        """How much two nodes are together, [n, n]."""
        together = np.zeros((self.n, self.n))
        together[self.pairs] = x[self.n :]
        return together + together.T

    def add(self, triangles: np.ndarray) -> None:
        """y_ij + y_jk - y_ik <= 1 for each row (i, j, k)."""
        i, j, k = triangles.T
        sides = [self.column[i, j], self.column[j, k], self.column[i, k]]
        self.columns.append(np.stack(sides, axis=1))
        self.values.append(np.tile([1.0, 1.0, -1.0], (len(i), 1)))
        self.limits.append(np.ones(len(i)))


def _violated(together: np.ndarray) -> np.ndarray:
    """Rows (i, j, k), i < k, where i is with j and j with k more than i with k; the worst ones."""
    rows, excess = [np.zeros((0, 3), int)], [np.zeros(0)]
    for j, near in enumerate(together):
        # Two that are together by 1 - a and 1 - b: the third side is at least 1 - a - b.
        more = np.triu(near[:, None] + near - together - 1, 1)
        i, k = np.nonzero(more > _TOLERANCE)
        rows.append(np.stack([i, np.full(len(i), j), k], axis=1))
        excess.append(more[i, k])
    worst = np.argsort(-np.concatenate(excess), kind="stable")[:_TRIANGLES]
    return np.concatenate(rows)[worst]


def _closed(together: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Labels of what hangs together; those left out stay so."""
    component = connected_components(csr_matrix(together), directed=False)[1]
    return _named(np.where(kept, component, -1))


def _named(labels: np.ndarray) -> np.ndarray:
    """Groups named by their lowest index."""
    named = np.full(len(labels), -1)
    for nodes in _groups(labels):
        named[nodes] = nodes[0]
    return named
