"""Anchors: the boxes that detectors start from."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int


def anchor_boxes(
    *,
    height: int,
    width: int,
    stride: int,
    base: float,
    scales: Sequence[float],
    ratios: Sequence[float],
) -> Float[Array, "A 4"]:
    """Boxes of every scale and ratio around every feature cell (Faster R-CNN, section 3.1.1).

        centre (stride j, stride i)    h = scale base sqrt(ratio)    w = scale base / sqrt(ratio)

    Args:
      height: Rows of the feature map.
      width: Columns of the feature map.
      stride: Pixels between neighbouring cells.
      base: Side of the square anchor of scale 1, in pixels.
      scales: Sides relative to the base.
      ratios: Height / width.

    Returns:
      The anchors in pixels, by row, column, ratio and scale, the last fastest; they may reach
      beyond the picture.
    """
    sides = float(base) * np.asarray(scales, np.float64)[None, :]
    root = np.sqrt(np.asarray(ratios, np.float64))[:, None]
    half = np.stack([sides / root, sides * root], axis=-1).reshape(-1, 2) / 2
    shape = np.concatenate([-half, half], axis=-1).astype(np.float32)
    x = stride * jnp.arange(width, dtype=jnp.float32)
    y = stride * jnp.arange(height, dtype=jnp.float32)
    centre = jnp.stack(jnp.meshgrid(x, y, indexing="xy"), axis=-1).reshape(-1, 1, 2)
    return (jnp.tile(centre, 2) + shape[None]).reshape(-1, 4)


def default_boxes(
    size: Int[ArrayLike, "2"],
    *,
    height: int,
    width: int,
    stride: int,
    sides: Float[np.ndarray, "S 2"],
) -> tuple[Float[Array, "A 4"], Bool[Array, " A"]]:
    """Boxes around the cells of a map that a picture's sides are divided into (SSD, section 2.2).

    A picture has n = ceil(size / stride) cells along each axis, the centre of cell (i, j) is
    `((j + 1/2) width / n, (i + 1/2) height / n)` of the picture: even the one cell of the coarsest
    map lies in its middle, what lies beside the picture changes nothing, and its mirror image has
    the mirrored boxes.

    Args:
      size: Rows and columns of the picture, in pixels.
      height: Rows of the map, with those beside the picture.
      width: Columns of the map.
      stride: Pixels between neighbouring cells.
      sides: Height and width of each cell's boxes, in pixels.

    Returns:
      The boxes in pixels, by row, column and sides, the last fastest; they may reach beyond the
      picture. And which are of its own cells.
    """
    size = jnp.asarray(size, jnp.int32)
    cells = (size - 1) // stride + 1
    step = size.astype(jnp.float32) / jnp.maximum(cells, 1).astype(jnp.float32)
    rows, columns = (jnp.arange(side, dtype=jnp.int32) for side in (height, width))
    i, j = jnp.meshgrid(rows, columns, indexing="ij")
    cell = jnp.stack([j, i], axis=-1).reshape(-1, 1, 2)
    centre = (cell.astype(jnp.float32) + 0.5) * step[None, None, ::-1]
    half = np.asarray(sides, np.float32)[None, :, ::-1] / 2
    boxes = jnp.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4)
    inside = (cell < cells[None, None, ::-1]).all(-1)
    return boxes, jnp.repeat(inside[:, 0], len(sides))
