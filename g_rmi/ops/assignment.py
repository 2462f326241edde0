"""Which row goes with which column: the pairs, one to one, of the least sum of costs."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Real

# Costs beyond are cut, so that sums stay finite.
_MOST = 2.0**96


def assign(
    cost: Real[ArrayLike, "N M"], valid: Bool[ArrayLike, "N M"], *, limit: Real[ArrayLike, ""]
) -> Int32[Array, " N"]:
    """Pairs rows with columns where that pays, at the least sum.

        min over one-to-one pairings P of  sum_{(n, m) in P} (cost[n, m] - limit)

    The Hungarian method as shortest augmenting paths (Jonker and Volgenant 1987), row by row as in
    Crouse 2016, of O(min(N, M)^2 max(N, M)) operations. A limit above every cost by more than
    min(N, M) times their range makes as many pairs as possible.

    Args:
      cost: Of pairing row n with column m; one that is not finite is never paid.
      valid: Pairs that may be made.
      limit: No pair that costs this or more is made; finite.

    Returns:
      The column of each row; -1 where it has none. But for rounding, no other pairing has a lower
      sum. Where all cost the same, the first row has the first column and so on.
    """
    cost, limit = jnp.asarray(cost, jnp.float32), jnp.asarray(limit, jnp.float32)
    rows, columns = cost.shape
    if rows == 0 or columns == 0:
        return jnp.full(rows, -1, jnp.int32)
    # Left over is as good as paired for nothing: then every row can have a column.
    change = jnp.where(jnp.asarray(valid) & jnp.isfinite(cost), jnp.minimum(cost - limit, 0.0), 0.0)
    change = jnp.maximum(change, -_MOST)
    if rows <= columns:
        column_of, _ = _complete(change)
    else:
        _, column_of = _complete(change.T)
    pays = change[jnp.arange(rows), column_of] < 0
    return jnp.where(pays & (column_of >= 0), column_of, -1)


def _complete(cost):
    """Gives every row a column, where there are at least as many, at the least sum.

    Returns:
      The column of each row; the row of each column or -1.
    """
    nobody, free = (cost[:, 0] * 0).astype(jnp.int32) - 1, (cost[0] * 0).astype(jnp.int32) - 1
    zeros = cost[:, 0] * 0, cost[0] * 0  # all of the data's own type on a device mesh
    state = nobody, free, *zeros
    state, _ = lax.scan(lambda s, row: (_augment(cost, s, row), None), state, _indices(len(cost)))
    return state[:2]


def _augment(cost, state, start):
    """Gives one more row a column; others exchange theirs along the shortest path to a free one."""
    column_of, row_of, row_price, column_price = state

    def visit(search):
        row, lowest, distance, before, done, _ = search
        through = lowest + cost[row] - row_price[row] - column_price
        closer = ~done & (through < distance)
        distance, before = jnp.where(closer, through, distance), jnp.where(closer, row, before)
        ahead = jnp.where(done, jnp.inf, distance)
        lowest = jnp.min(ahead)
        nearest = ahead == lowest
        free = nearest & (row_of < 0)  # the path may end there
        column = lax.argmax(jnp.where(jnp.any(free), free, nearest), 0, jnp.int32)
        return row_of[column], lowest, distance, before, done.at[column].set(True), column

    nowhere = row_of * 0
    search = nowhere[0] + start, column_price[0] * 0, column_price * 0 + jnp.inf, nowhere - 1
    search = lax.while_loop(lambda s: s[0] >= 0, visit, (*search, nowhere > 0, nowhere[0]))
    _, lowest, distance, before, done, column = search

    # Prices that keep every pair tight and every reduced cost at least 0.
    change = jnp.where(done, lowest - distance, 0.0)
    column_price -= change
    row_price = row_price.at[jnp.where(row_of < 0, len(cost), row_of)].add(change, mode="drop")
    row_price = row_price.at[start].add(lowest)

    def exchange(path):
        column, column_of, row_of, _ = path
        row = before[column]
        row_of = row_of.at[column].set(row)
        return column_of[row], column_of.at[row].set(column), row_of, row == start

    path = lax.while_loop(lambda p: ~p[3], exchange, (column, column_of, row_of, done[0] & False))
    return path[1], path[2], row_price, column_price


def _indices(n):
    return jnp.arange(n, dtype=jnp.int32)
