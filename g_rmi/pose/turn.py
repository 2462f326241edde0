"""The turn test: what the network sees in crops turned to either side.

Not in the paper. A network that was trained with turned crops (`PoseAugmentation.rotation`) errs a
little differently at every angle; as with mirrored crops, the mean errs less.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from g_rmi.geometry import Affine, apply_affine, box_to_crop, invert_affine, resize_affine
from g_rmi.ops.image import sample_points
from g_rmi.pose.model import PoseMaps

# About as far as crops are turned in training; 15 and 45 degrees gain less.
_ANGLE = math.radians(30)


def turns(height: int, width: int) -> tuple[Affine, Affine]:
    """Maps from the pixels of a crop to those of its turned views, clockwise and counterclockwise.

    Args:
      height: Rows of the crop and of the views.
      width: Columns.
    """
    whole = np.array([0, 0, width - 1, height - 1])
    clockwise, counterclockwise = (
        box_to_crop(whole, height=height, width=width, angle=angle) for angle in (_ANGLE, -_ANGLE)
    )
    return clockwise, counterclockwise


def merge(maps: PoseMaps, *, height: int, width: int) -> PoseMaps:
    """Turns the maps of the views back and averages them, each where it saw something.

    Args:
      maps: [3 B ...], of the crops as they are, then of their `turns`.
      height: Crop rows.
      width: Crop columns.

    Returns:
      Maps of the crops as they are.
    """
    heatmap, *logits = jnp.split(maps.heatmap, 3)
    offset, *vectors = jnp.split(maps.offset, 3)
    rows, columns = heatmap.shape[1:3]
    whole = jnp.ones((rows, columns, 1))
    seen = whole
    to_crop = resize_affine(rows, columns, rows=height, columns=width)
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    pixels = apply_affine(to_crop, cells)
    for i, turn in enumerate(turns(height, width)):
        points = apply_affine(invert_affine(to_crop), apply_affine(turn, pixels))
        back = jax.vmap(partial(sample_points, points=points))
        # The inverse of a rotation is its transpose.
        rotation = turn[:, :2].astype(np.float32)
        turned = jnp.einsum("...v,vc->...c", vectors[i], rotation, precision="highest")
        heatmap += back(logits[i])
        offset += back(turned.reshape(*turned.shape[:3], -1)).reshape(offset.shape)
        seen += sample_points(whole, points)
    return PoseMaps(heatmap / seen[None], offset / seen[None, ..., None], None)
