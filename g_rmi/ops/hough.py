"""Hough voting: disk heatmaps and offsets to localised activation maps, with either kernel."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real


def hough_vote(
    heatmap: Real[ArrayLike, "H W K"],
    offset: Real[ArrayLike, "H W K 2"],
    *,
    radius: Real[ArrayLike, ""],
) -> Float[Array, "H W K"]:
    """Adds up where every position says its joint is (paper, eq. 1).

        f_k(x) = sum_j 1 / (pi R^2) B(x_j + F_k(x_j) - x) h_k(x_j)

    B is the bilinear kernel: a vote is shared by the four pixels around its target. Shares that
    fall outside the map are dropped, and so is a vote with a non-finite offset. Differentiable.

    Args:
      heatmap: h_k, the probability that x lies within R of joint k.
      offset: F_k as `(x, y)`, in pixels of this map.
      radius: R in pixels of this map.

    Returns:
      f_k; a perfect disk that lies inside the map gives about 1 at its joint.
    """
    heatmap = jnp.asarray(heatmap, jnp.float32)
    offset = jnp.asarray(offset, jnp.float32)
    radius = jnp.asarray(radius, jnp.float32)
    height, width, _ = heatmap.shape

    def vote(maps):
        weight, dx, dy = maps
        x = jnp.arange(width, dtype=jnp.float32)[None, :] + dx
        y = jnp.arange(height, dtype=jnp.float32)[:, None] + dy
        return _splat(weight, x, y)

    maps = (heatmap, offset[..., 0], offset[..., 1])
    # Joint by joint: one map at a time stays in the cache.
    votes = lax.map(vote, tuple(jnp.moveaxis(m, -1, 0) for m in maps))
    return jnp.moveaxis(votes, 0, -1) / (jnp.pi * radius**2)


def gaussian_vote(
    weights: Real[ArrayLike, " N"],
    targets: Real[ArrayLike, "N 2"],
    *,
    rows: Real[ArrayLike, " h"],
    columns: Real[ArrayLike, " w"],
    sigma: Real[ArrayLike, ""],
) -> Float[Array, "h w"]:
    """The sum of `hough_vote` for one joint with a Gaussian in place of the bilinear kernel.

        g(x) = sum_j w_j exp(-|t_j - x|^2 / (2 sigma^2))

    The kernel is a product of one along x and one along y, so the sum over all votes at all points
    of a grid is one matrix product. Differentiable.

    Args:
      weights: w_j, finite.
      targets: t_j = x_j + F(x_j) as `(x, y)`, finite, in pixels; they may lie anywhere.
      rows: Where the grid's rows are, in pixels.
      columns: Likewise.
      sigma: The kernel's standard deviation in pixels.

    Returns:
      g on the grid.
    """
    weights, targets, rows, columns, sigma = (
        jnp.asarray(x, jnp.float32) for x in (weights, targets, rows, columns, sigma)
    )

    def along(target, grid):
        return jnp.exp(-0.5 * jnp.square((target[:, None] - grid[None, :]) / sigma))

    down = weights[:, None] * along(targets[:, 1], rows)
    return jnp.matmul(down.T, along(targets[:, 0], columns), precision="highest")


def mean_shift(
    start: Real[ArrayLike, "2"],
    weights: Real[ArrayLike, " N"],
    targets: Real[ArrayLike, "N 2"],
    *,
    sigma: Real[ArrayLike, ""],
    steps: int,
) -> tuple[Float[Array, "2"], Float[Array, ""]]:
    """Climbs from a point to a maximum of `gaussian_vote` (Comaniciu and Meer 2002).

    Every step goes to the mean of the targets, weighted as they vote for the point: never down.

    Args:
      start: `(x, y)`.
      weights: As in `gaussian_vote`, 0 or more.
      targets: Likewise.
      sigma: Likewise.
      steps: How many.

    Returns:
      The point reached, and g there. Where no vote is felt, the point stays.
    """
    start, weights, targets, sigma = (
        jnp.asarray(x, jnp.float32) for x in (start, weights, targets, sigma)
    )

    def votes(point):
        square = jnp.sum(jnp.square((targets - point[None]) / sigma), axis=-1)
        return weights * jnp.exp(-0.5 * square)

    def step(_, point):
        felt = votes(point)
        total = jnp.sum(felt)
        mean = jnp.sum(felt[:, None] * targets, axis=0) / jnp.where(total > 0, total, 1.0)
        return jnp.where(total > 0, mean, point)

    point = lax.fori_loop(0, steps, step, start)
    return point, jnp.sum(votes(point))


def _splat(weight, x, y):
    """Adds each weight to the four pixels around (x, y) of a map of the weights' own shape."""
    height, width = weight.shape
    # One pixel of margin before and two after the map catch every share that falls outside;
    # targets further out are moved there.
    x, left, right = _shares(x, width)
    y, upper, lower = _shares(y, height)
    rows = weight[..., None, None] * jnp.stack([upper, lower], axis=-1)[..., :, None]
    window = rows * jnp.stack([left, right], axis=-1)[..., None, :]
    votes = lax.scatter_add(
        jnp.zeros((height + 3, width + 3), jnp.float32),
        jnp.stack([y, x], axis=-1) + 1,
        window,
        lax.ScatterDimensionNumbers(
            update_window_dims=(2, 3),
            inserted_window_dims=(),
            scatter_dims_to_operand_dims=(0, 1),
        ),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    return votes[1 : height + 1, 1 : width + 1]


def _shares(position, size):
    """The pixel below a position, from -1 to size, and the bilinear shares of it and the next."""
    position = jnp.where(jnp.isfinite(position), jnp.clip(position, -1.0, size), -1.0)
    low = jnp.floor(position)
    share = position - lax.stop_gradient(low)
    return low.astype(jnp.int32), 1.0 - share, share
