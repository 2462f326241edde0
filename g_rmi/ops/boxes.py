"""Boxes `(x0, y0, x1, y1)`."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real


def iou(a: Real[ArrayLike, "N 4"], b: Real[ArrayLike, "M 4"]) -> Float[Array, "N M"]:
    """Intersection over union of every pair.

    Sides are `x1 - x0`, without the "+ 1" of pixel-counting conventions. A box with `x1 < x0` or
    `y1 < y0` is empty; a pair without area, or with a NaN, has IoU 0.

    Args:
      a: Boxes, any unit.
      b: Boxes in the same frame.

    Returns:
      The IoU of `a[n]` and `b[m]`, in [0, 1].
    """
    a, b = (jnp.asarray(boxes, jnp.float32) for boxes in (a, b))

    def area(boxes):
        return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)

    overlap = jnp.concatenate(
        [
            jnp.maximum(a[:, None, :2], b[None, :, :2]),
            jnp.minimum(a[:, None, 2:], b[None, :, 2:]),
        ],
        axis=-1,
    )
    intersection = area(overlap)
    union = area(a)[:, None] + area(b)[None, :] - intersection
    some = union > 0
    return jnp.where(some, intersection / jnp.where(some, union, 1.0), 0.0)
