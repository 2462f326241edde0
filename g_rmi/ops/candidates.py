"""Where each part may be: local maxima of the score maps, at refined positions."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32, Real


class Candidates(NamedTuple):
    """M places for each of K joints, best first; a fixed number of rows of which some are valid."""

    points: Float[Array, "K M 2"]  # refined, in pixels; 0 where not valid
    cells: Int32[Array, "K M 2"]  # (x, y) of the cell of the map; 0 where not valid
    logits: Float[Array, "K M"]  # of the score; -inf where not valid
    valid: Bool[Array, "K M"]


def find_candidates(
    logits: Real[ArrayLike, "H W K"],
    offset: Real[ArrayLike, "H W K 2"],
    usable: Bool[ArrayLike, "H W"],
    *,
    count: int,
    stride: Real[ArrayLike, ""],
    radius: Real[ArrayLike, ""],
    least: Real[ArrayLike, ""],
) -> Candidates:
    """The best local maxima of each joint, none close to a better one (DeeperCut, section 5).

    A cell is a maximum if none of its eight neighbours scores higher. Maxima are taken from the
    best to the worst, ties by the lowest row, then column; each drops all whose refined position
    `stride * cell + offset` lies within the radius of its own. A cell whose score or offset is nan,
    or whose offset is infinite, does not exist.

    Args:
      logits: Of the scores; infinities are the probabilities 0, never a candidate, and 1.
      offset: From the cell to the joint `(x, y)`, in pixels.
      usable: Cells that may be candidates: those on the picture.
      count: M, the most candidates of a joint.
      stride: Pixels per cell.
      radius: Of the suppression, in pixels of refined positions; the rim belongs to the disk.
      least: Logit from which on a maximum is a candidate.

    Returns:
      The candidates of each joint; `count` rows, however large the map is.
    """
    logits, offset = (jnp.asarray(x, jnp.float32) for x in (logits, offset))
    height, width, joints = logits.shape
    if not height * width * joints * count:
        zeros = partial(jnp.zeros, (joints, count))
        nothing = jnp.full((joints, count), -jnp.inf, jnp.float32)
        cells = jnp.zeros((joints, count, 2), jnp.int32)
        return Candidates(cells.astype(jnp.float32), cells, nothing, zeros(bool))
    exists = jnp.isfinite(offset).all(axis=-1) & ~jnp.isnan(logits)
    logits = jnp.where(exists & jnp.asarray(usable)[:, :, None], logits, -jnp.inf)
    highest = lax.reduce_window(logits, -jnp.inf, lax.max, (3, 3, 1), (1, 1, 1), "SAME")
    maxima = (logits == highest) & (logits >= jnp.asarray(least, jnp.float32))
    left = jnp.where(maxima, logits, -jnp.inf)
    x, y = jnp.arange(width, dtype=jnp.int32), jnp.arange(height, dtype=jnp.int32)
    cells = jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2)
    stride, radius = (jnp.asarray(value, jnp.float32) for value in (stride, radius))

    def best(left, offset) -> Candidates:
        points = stride * cells.astype(jnp.float32) + jnp.where(jnp.isfinite(offset), offset, 0.0)

        def take(left, _):
            index = lax.argmax(left, 0, jnp.int32)
            close = jnp.sum((points - points[index][None]) ** 2, axis=-1) <= radius**2
            return jnp.where(close, -jnp.inf, left).at[index].set(-jnp.inf), (index, left[index])

        _, (index, found) = lax.scan(take, left, length=count)
        valid = found > -jnp.inf
        there = valid[:, None]
        return Candidates(
            jnp.where(there, points[index], 0.0), jnp.where(there, cells[index], 0), found, valid
        )

    by_joint = jnp.moveaxis(left.reshape(-1, joints), 1, 0)
    return jax.vmap(best)(by_joint, jnp.moveaxis(offset.reshape(-1, joints, 2), 1, 0))
