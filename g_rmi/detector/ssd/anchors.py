"""The anchors of SSD's maps (Liu et al. 2016, section 2.2, as in Huang et al. 2017)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g_rmi.detector.ssd.config import SSDConfig
from g_rmi.ops.anchors import default_boxes
from g_rmi.types import Grid

# Width / height of each cell's anchors, the last square and between two maps in size.
_RATIOS = (1.0, 2.0, 3.0, 1 / 2, 1 / 3, 1.0)


def anchor_sides(config: SSDConfig) -> list[Float[np.ndarray, "S 2"]]:
    """Height and width of a cell's anchors in canvas pixels, for each map.

        h = s / sqrt(ratio)    w = s sqrt(ratio)

    Scales s are evenly spaced from `min_scale` to `max_scale` of the canvas's shorter side; the
    last anchor of a cell has the geometric mean of its map's scale and the next. The first map,
    with the most cells, has three: a square of half its scale, and the ratios 2 and 1 / 2.
    """
    count = 1 + len(config.added_channels)
    scales = [*np.linspace(config.min_scale, config.max_scale, count), 1.0]
    sides = []
    for i, (scale, larger) in enumerate(zip(scales, scales[1:])):
        if i == 0:
            pairs = [(scale / 2, 1.0), (scale, 2.0), (scale, 1 / 2)]
        else:
            pairs = [(scale, ratio) for ratio in _RATIOS[:-1]]
            pairs.append((math.sqrt(scale * larger), _RATIOS[-1]))
        rows = [(s / math.sqrt(ratio), s * math.sqrt(ratio)) for s, ratio in pairs]
        sides.append(config.canvas[0] * np.array(rows))
    return sides


def picture_anchors(
    config: SSDConfig, grids: Sequence[Grid], size: Int[Array, "B 2"]
) -> tuple[Float[Array, "B A 4"], Bool[Array, "B A"]]:
    """The anchors of each picture in canvas pixels, and which are of cells on it.

    `grids` are the rows and columns of the maps, `size` those of the pictures. Anchors go by map,
    row, column and shape, the last fastest.
    """

    def of_picture(size):
        tables = [
            default_boxes(size, **grid._asdict(), stride=config.output_stride << i, sides=sides)
            for i, (grid, sides) in enumerate(zip(grids, anchor_sides(config), strict=True))
        ]
        boxes, inside = zip(*tables)
        return jnp.concatenate(boxes), jnp.concatenate(inside)

    return jax.vmap(of_picture)(size)
