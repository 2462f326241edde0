"""The maxima of Hough vote maps without casting every vote: branch and bound, for CPUs.

The crop's positions fall into cells: those between one coarse position and the next. Inside a cell
the up-sampled logits and vote targets x + F(x) are bilinear, so

* every target lies in the bounding box of the four corners' targets, and
* no pixel receives more from the cell than m = (greatest corner probability) x D, where D bounds
  how many of the cell's targets can crowd onto one pixel (`_density`).

Hence, with blocks of pixels as large as cells:

1. The cells of the greatest m vote. L, the greatest f_k so far, is no more than the maximum.
2. In no block can f_k exceed its greatest value so far plus the sum of m over the other cells that
   can reach the block. The maximum lies in an open block: one where this is at least L.
3. All other cells that can reach an open block vote. f_k is then complete there, and elsewhere no
   greater than it really is. Its argmax is that of the whole f_k.

Nothing is approximate. How much is saved depends on the maps: a trained network leaves some 3 to
10 % of the cells; noise leaves them all.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from g_rmi.types import Grid

# Cells with at least this share of their joint's greatest m vote first.
_FIRST = 0.1
# Votes cast per round: few enough for the cache, enough to hide the round's own cost.
_ROUND = 8192
# Relative room for rounding in the bounds, far above that of a float32 sum of all m.
_SLACK = 1e-3

Flat = Float[Array, " n"]
Corners = tuple[Flat, Flat, Flat, Flat]


class Peaks(NamedTuple):
    """Maxima `(x, y)` of vote maps, the lowest row, then column, among equals; and f_k there."""

    points: Int[Array, "K 2"]
    values: Float[Array, " K"]


def has_cells(shape: tuple[int, ...], grid: Grid) -> bool:
    """Whether maps of shape (h, w, K) sit on every s-th row and column of the crop, s >= 2."""
    (h, w, joints), (height, width) = shape[:3], grid
    if min(h, w) < 2 or joints == 0 or height <= h or width <= w:
        return False
    return (height - 1) % (h - 1) == 0 and (width - 1) % (w - 1) == 0


def bounded_peaks(
    logits: Float[Array, "h w K"], offset: Float[Array, "h w K 2"], grid: Grid, *, radius: float
) -> Peaks:
    """Maxima of the vote maps of finite coarse maps that `has_cells`; offsets, R in crop pixels."""
    cells = _Cells(logits.shape, grid)
    # Keeps differences finite. Unequal ends, for no sample between them to land in the crop.
    target = jnp.clip(offset + cells.positions, -1e37, 1.7e37)
    maps = tuple(cells.flatten(m) for m in (target[..., 0], target[..., 1], logits))
    x, y, z = (cells.corners(m) for m in maps)
    most = jnp.minimum(_density(x, y, cells), cells.samples.astype(np.float32))
    mass = jax.nn.sigmoid(functools.reduce(jnp.maximum, z)) * most
    # Without the barrier, XLA computes these again for every scatter that uses them.
    mass, blocks = lax.optimization_barrier((mass, _blocks(x, y, cells)))

    greatest = jnp.max(mass.reshape(cells.joints, -1), axis=1)
    first = (mass >= _FIRST * greatest[cells.joint]) & (cells.samples > 0)
    votes = jnp.zeros((cells.joints * cells.map_rows, cells.map_columns), jnp.float32)
    votes = _vote(votes, maps, first, cells)

    so_far = _block_maxima(votes, cells)
    upper = so_far + _sum_over_cells(jnp.where(first, 0.0, mass), blocks, cells)
    lower = jnp.max(so_far, axis=(1, 2), keepdims=True)
    rest = _reaches(upper * (1.0 + _SLACK) >= lower, blocks) & ~first & (cells.samples > 0)
    votes = _vote(votes, maps, rest, cells)
    points, most = _find(votes, cells)
    return Peaks(points, most / (jnp.pi * radius**2))


class _Cells:
    """Sizes and index arithmetic. A cell is an index into flat arrays over (joint, row, column).

    Those have one row and column more than the coarse maps, so that the neighbours of cell n are
    n + 1, n + columns and n + columns + 1; the extra cells have no samples. Vote maps are stored
    x first. They hold whole blocks, and a margin of one pixel before and two after; what falls
    outside the crop is caught there.
    """

    def __init__(self, shape: tuple[int, ...], grid: Grid):
        h, w, self.joints = shape
        self.height, self.width = grid
        self.strides = down, across = (self.height - 1) // (h - 1), (self.width - 1) // (w - 1)
        self.block_shape = -(-self.height // down), -(-self.width // across)
        self.map_rows = self.block_shape[1] * across + 3
        self.map_columns = self.block_shape[0] * down + 3
        self.columns = w + 1
        self.count = self.joints * (h + 1) * self.columns
        self.joint = np.repeat(np.arange(self.joints, dtype=np.int32), (h + 1) * self.columns)
        # The crop pixel (x, y) of each coarse position.
        y, x = np.mgrid[:h, :w].astype(np.float32)
        self.positions = np.stack([across * x, down * y], axis=-1)[:, :, None]
        # Rows and columns of samples; the last coarse row and column have a single one.
        rows = np.array([down] * (h - 1) + [1, 0], np.int32)[:, None]
        columns = np.array([across] * (w - 1) + [1, 0], np.int32)
        whole = self.joints, h + 1, self.columns
        self.extent = [np.broadcast_to(side, whole).reshape(-1) for side in (rows, columns)]
        self.samples = self.extent[0] * self.extent[1]

    def flatten(self, m: Float[Array, "h w K"]) -> Float[Array, " padded"]:
        m = jnp.pad(jnp.moveaxis(m, -1, 0), ((0, 0), (0, 1), (0, 1)), mode="edge")
        return jnp.pad(m.reshape(-1), (0, self.columns + 1))

    def corners(self, m: Float[Array, " padded"]) -> Corners:
        a, b, c, d = (m[s : s + self.count] for s in (0, 1, self.columns, self.columns + 1))
        return a, b, c, d


def _density(x: Corners, y: Corners, cells: _Cells) -> Flat:
    """D: a bound on sum B(target - pixel) over a cell's targets, for any pixel.

    Take the cell row by row. A row's s targets are evenly spaced in x, at least d apart, where d is
    the lesser spacing of the top and bottom edges (0 if these run in opposite directions). At such
    points the hat function sums to at most 1/d + 1/4 (and 1 for d > 1). The rows in turn are spaced
    e in y along an edge, and each covers at most a range r of y: their greatest values of the hat
    sum to at most (1 + r) / e + 1. The product is a bound; so is that of the columns; so is s^2.
    """
    down, across = cells.strides
    # The edges of the cell: those that run along x, above and below, and along y.
    (top_x, top_y), (bottom_x, bottom_y), (left_x, left_y), (right_x, right_y) = (
        (x[j] - x[i], y[j] - y[i]) for i, j in ((0, 1), (2, 3), (0, 2), (1, 3))
    )

    def in_line(a, b, count):
        least = jnp.maximum(jnp.maximum(jnp.minimum(a, b), -jnp.maximum(a, b)), 1e-3)
        return jnp.clip(count / least + 0.25, 1.0, count)

    def stacked(a, b, edge_a, edge_b, count):
        spread = jnp.maximum(jnp.maximum(a, b), 0.0) - jnp.minimum(jnp.minimum(a, b), 0.0)
        step = jnp.maximum(jnp.maximum(jnp.abs(edge_a), jnp.abs(edge_b)), 1e-3)
        return jnp.clip(count * (1.0 + spread) / step + 1.0, 1.0, count)

    by_rows = in_line(top_x, bottom_x, across) * stacked(top_y, bottom_y, left_y, right_y, down)
    by_columns = in_line(left_y, right_y, down) * stacked(left_x, right_x, top_x, bottom_x, across)
    return jnp.minimum(by_rows, by_columns)


def _blocks(x: Corners, y: Corners, cells: _Cells) -> tuple[Int[Array, " n"], ...]:
    """The blocks with a pixel that a cell's votes can touch.

    Four indices per cell into prefix sums over blocks: the rectangle's corners, the ends exclusive,
    in the order + - - + of their signs.
    """

    def ends(corners, stride, blocks):
        # A vote touches pixels less than 1 away; .01 is for rounding.
        start = jnp.floor((functools.reduce(jnp.minimum, corners) - 0.01) / stride)
        stop = jnp.floor((functools.reduce(jnp.maximum, corners) + 1.01) / stride) + 1.0
        return tuple(jnp.clip(end, 0, blocks).astype(jnp.int32) for end in (start, stop))

    rows, columns = cells.block_shape
    y0, y1 = (
        (jnp.asarray(cells.joint) * (rows + 1) + end) * (columns + 1)
        for end in ends(y, cells.strides[0], rows)
    )
    x0, x1 = ends(x, cells.strides[1], columns)
    return y0 + x0, y0 + x1, y1 + x0, y1 + x1


def _prefix_sums(a: Float[Array, "K rows columns"]) -> Float[Array, "K rows columns"]:
    """Inclusive sums along both axes, as matrix products: XLA's cumsum is slower on CPUs."""
    rows, columns = (np.tril(np.ones((n, n), np.float32)) for n in a.shape[1:])
    return jnp.einsum("ij,kjl,ml->kim", rows, a, columns, precision=lax.Precision.HIGHEST)


def _sum_over_cells(mass: Flat, blocks, cells: _Cells) -> Float[Array, "K rows columns"]:
    """For every block, the sum of the masses whose rectangle of blocks holds it."""
    rows, columns = cells.block_shape
    edges = jnp.zeros(cells.joints * (rows + 1) * (columns + 1), jnp.float32)
    for corner, sign in zip(blocks, (1.0, -1.0, -1.0, 1.0)):
        edges = edges.at[corner].add(sign * mass, mode="promise_in_bounds")
    return _prefix_sums(edges.reshape(cells.joints, rows + 1, columns + 1))[:, :-1, :-1]


def _reaches(open_blocks: Bool[Array, "K rows columns"], blocks) -> Bool[Array, " n"]:
    """The cells whose rectangle holds an open block."""
    counts = jnp.pad(_prefix_sums(open_blocks.astype(jnp.float32)), ((0, 0), (1, 0), (1, 0)))
    a, b, c, d = (counts.reshape(-1)[corner] for corner in blocks)
    return a - b - c + d > 0.5


def _vote(votes, maps, mask: Bool[Array, " n"], cells: _Cells):
    """Casts the votes of the cells in `mask`, so many cells a round."""
    down, across = cells.strides
    size = max(_ROUND // (down * across), 1)
    chosen, count = _indices(mask, size, cells)
    extent = tuple(jnp.asarray(side) for side in cells.extent)
    first_row = jnp.asarray(cells.joint * cells.map_rows + 1)
    # Cells come last: the longest axis is the one that XLA vectorises.
    u = (np.arange(across, dtype=np.float32) / across)[None, :, None]
    v = (np.arange(down, dtype=np.float32) / down)[:, None, None]

    def sample(corners):
        a, b, c, d = (corner[None, None, :] for corner in corners)
        return (a * (1.0 - v) + c * v) * (1.0 - u) + (b * (1.0 - v) + d * v) * u

    def cast(state):
        start, votes = state
        n = lax.dynamic_slice(chosen, (start,), (size,))
        shifts = (0, 1, cells.columns, cells.columns + 1)
        corners = [[m[n + s] for s in shifts] for m in maps]
        here = start + jnp.arange(size, dtype=jnp.int32) < count
        rows, columns = jnp.where(here, extent[0][n], 0), extent[1][n]
        # Else XLA gathers anew for every sample of the cell.
        corners, rows, columns, row = lax.optimization_barrier(
            (corners, rows, columns, first_row[n])
        )
        x, y, logit = (sample(c) for c in corners)
        inside = np.arange(down, dtype=np.int32)[:, None, None] < rows[None, None, :]
        inside &= np.arange(across, dtype=np.int32)[None, :, None] < columns[None, None, :]
        weight = jnp.where(inside, jax.nn.sigmoid(logit), 0.0)
        return start + size, _splat(votes, weight, x, y, row[None, None, :], cells)

    return lax.while_loop(lambda state: state[0] < count, cast, (jnp.int32(0), votes))[1]


def _indices(mask: Bool[Array, " n"], size: int, cells: _Cells):
    """The indices where the mask holds, in order, with room for a last round, and their number."""
    table = mask.reshape(-1, cells.columns).astype(jnp.float32)
    # Exact: a row's count is small, and rows are added up as integers.
    within = table @ np.triu(np.ones((cells.columns, cells.columns), np.float32))
    within = within.astype(jnp.int32)
    before = jnp.cumsum(within[:, -1]) - within[:, -1]
    rank = (within + before[:, None]).reshape(-1)
    slots = cells.count + size
    order = jnp.arange(cells.count, dtype=jnp.int32)
    chosen = jnp.zeros(slots, jnp.int32)
    chosen = chosen.at[jnp.where(mask, rank - 1, slots)].set(order, mode="drop")
    return chosen, rank[-1]


def _splat(votes, weight, x, y, row, cells: _Cells):
    """Adds bilinear votes; `row` is where the map's pixel x = 0 lies in the stack of all maps."""
    x = jnp.clip(x, -1.0, cells.width)
    y = jnp.clip(y, -1.0, cells.height)
    left, upper = jnp.floor(x), jnp.floor(y)
    right_share, lower_share = x - left, y - upper
    columns = jnp.stack([1.0 - right_share, right_share], axis=-1)
    rows = jnp.stack([1.0 - lower_share, lower_share], axis=-1)
    return lax.scatter_add(
        votes,
        jnp.stack([left.astype(jnp.int32) + row, upper.astype(jnp.int32) + 1], axis=-1),
        (weight[..., None] * columns)[..., :, None] * rows[..., None, :],
        lax.ScatterDimensionNumbers(
            update_window_dims=(3, 4),
            inserted_window_dims=(),
            scatter_dims_to_operand_dims=(0, 1),
        ),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def _column_maxima(votes, cells: _Cells) -> Float[Array, "K columns y"]:
    """The greatest vote of every column of blocks at every y; outside the crop there are none."""
    across, (rows, columns) = cells.strides[1], cells.block_shape
    votes = votes.reshape(cells.joints, cells.map_rows, cells.map_columns)
    in_x = np.arange(columns * across) < cells.width
    in_y = np.arange(rows * cells.strides[0]) < cells.height
    # A chain of strided slices is three times as fast as a reduction on CPUs; each is taken from
    # the whole map, as XLA would copy a common part.
    slices = [
        jnp.where(in_x[None, i::across, None], votes[:, 1 + i : -2 : across, 1:-2], 0.0)
        for i in range(across)
    ]
    return jnp.where(in_y[None, None], functools.reduce(jnp.maximum, slices), 0.0)


def _block_maxima(votes, cells: _Cells) -> Float[Array, "K rows columns"]:
    """The greatest vote of every block."""
    down = cells.strides[0]
    maxima = _column_maxima(votes, cells)
    maxima = functools.reduce(jnp.maximum, [maxima[:, :, i::down] for i in range(down)])
    return jnp.moveaxis(maxima, 1, 2)


def _find(votes, cells: _Cells) -> Peaks:
    """The maxima of finished maps. Rows first: the lowest y among equals, then the lowest x."""
    y = jnp.argmax(jnp.max(_column_maxima(votes, cells), axis=1), axis=1).astype(jnp.int32)
    votes = votes.reshape(cells.joints, cells.map_rows, cells.map_columns)
    joint = np.arange(cells.joints)
    x = jnp.argmax(votes[joint, 1 : cells.width + 1, y + 1], axis=1).astype(jnp.int32)
    return Peaks(jnp.stack([x, y], axis=-1), votes[joint, x + 1, y + 1])
