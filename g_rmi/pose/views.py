"""Test-time views: what the network sees in crops that are mirrored, or turned to either side.

A view is an affine map V from the pixels of a crop to those of its view. The maps of the view say
about the crop's pixel x what they say about V(x), with vectors led back by V's linear part; if V
mirrors, left joints are right ones. Views err a little differently, their mean errs less.

Turned views are not in the paper; they are for networks that were trained with turned crops
(`PoseAugmentation.rotation`).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from g_rmi.geometry import (
    Affine,
    apply_affine,
    box_to_crop,
    compose_affine,
    invert_affine,
    resize_affine,
)
from g_rmi.ops.image import sample_points
from g_rmi.pose.fields import Field, mirror
from g_rmi.types import Grid

# About as far as crops are turned in training; 15 and 45 degrees gain less.
_ANGLE = math.radians(30)
STRAIGHT: Affine = np.eye(2, 3)


def turns(grid: Grid) -> tuple[Affine, ...]:
    """Maps from the pixels of a crop to those of its turned views, clockwise, counterclockwise."""
    whole = np.array([0, 0, grid.width - 1, grid.height - 1])
    return tuple(box_to_crop(whole, **grid._asdict(), angle=angle) for angle in (_ANGLE, -_ANGLE))


def mirrored(view: Affine, *, width: int) -> Affine:
    """The view whose columns are those of another one in reverse."""
    return compose_affine(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]), view)


def merge(
    maps: Mapping[str, Float[Array, "..."]],
    views: Sequence[Affine],
    fields: Sequence[Field],
    *,
    flip: Int[np.ndarray, " K"],
    grid: Grid,
) -> dict[str, Float[Array, "..."]]:
    """The mean of what some views say about the crops, at each place of those that saw it.

    The maps of all views, [V B h w ...], one view after the other, become those of the crops,
    [B h w ...]. `flip` is the joint that each joint becomes in a mirrored image.
    """
    merged = {}
    for field in fields:
        # Of one view there is nothing to split, and a batch of unknown size, as in ONNX, cannot be.
        parts = jnp.split(maps[field.name], len(views)) if len(views) > 1 else [maps[field.name]]
        each = [_bring_back(part, field, view, flip, grid) for part, view in zip(parts, views)]
        total, seen = (sum(rest, first) for first, *rest in zip(*each))
        merged[field.name] = total / seen.reshape(1, *seen.shape, *(1,) * (total.ndim - 3))
    return merged


def _bring_back(maps, field: Field, view: Affine, flip, grid: Grid):
    """One view's maps as maps of the crops, and how far each place lies inside the view, 0 to 1."""
    if np.linalg.det(view[:, :2]) < 0:
        maps, view = mirror(maps, field, flip=flip), mirrored(view, width=grid.width)
    rows, columns = maps.shape[1:3]
    whole = jnp.ones((rows, columns, 1))
    if np.allclose(view, STRAIGHT, rtol=0, atol=1e-9):  # without samples: exact
        return maps, whole[..., 0]
    to_crop = resize_affine(rows, columns, rows=grid.height, columns=grid.width)
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    there = compose_affine(invert_affine(to_crop), compose_affine(view, to_crop))
    points = apply_affine(there, cells).astype(np.float32)
    if field.vector:
        back = np.linalg.inv(view[:, :2]).astype(np.float32)
        maps = jnp.einsum("...v,cv->...c", maps, back, precision="highest")
    flat = maps.reshape(*maps.shape[:3], -1)
    sampled = jax.vmap(partial(sample_points, points=points))(flat).reshape(maps.shape)
    return sampled, sample_points(whole, points)[..., 0]
