"""Anchors: the boxes that the region proposal network starts from."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


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
