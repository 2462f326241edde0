"""Boxes `(x0, y0, x1, y1)`: how much they overlap, their deltas to others, where they are cut."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

# Deltas can enlarge an anchor this many times at most, so that exp never overflows.
MAX_ENLARGEMENT = 1000.0 / 16.0
# Sides shorter than this count as this long in a delta.
_MIN_SIDE = 1e-6


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
    intersection = _intersection(a, b)
    return _ratio(intersection, _area(a)[:, None] + _area(b)[None, :] - intersection)


def intersection_over_area(
    boxes: Real[ArrayLike, "N 4"], regions: Real[ArrayLike, "M 4"]
) -> Float[Array, "N M"]:
    """The share of each box that lies inside each region.

    Args:
      boxes: Boxes, any unit.
      regions: Boxes in the same frame.

    Returns:
      The share of the area of `boxes[n]` that is inside `regions[m]`, in [0, 1]; 0 for a box
      without area and for a NaN.
    """
    boxes, regions = (jnp.asarray(x, jnp.float32) for x in (boxes, regions))
    return _ratio(_intersection(boxes, regions), _area(boxes)[:, None])


def encode_boxes(
    boxes: Real[ArrayLike, "N 4"],
    anchors: Real[ArrayLike, "N 4"],
    *,
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
) -> Float[Array, "N 4"]:
    """Deltas of boxes relative to anchors (Faster R-CNN, eq. 2), times the scales.

        t_x = (x - x_a) / w_a    t_y = (y - y_a) / h_a    t_w = log(w / w_a)    t_h = log(h / h_a)

    Args:
      boxes: The boxes; (x, y) is the centre, w and h are the sides.
      anchors: What each is relative to, in the same frame.
      scales: Factors of t_x, t_y, t_w, t_h.

    Returns:
      The deltas (t_x, t_y, t_w, t_h); finite for boxes and anchors without area, too.
    """
    boxes, anchors = (jnp.asarray(x, jnp.float32) for x in (boxes, anchors))
    centre, side = _centre_and_side(boxes)
    anchor_centre, anchor_side = _centre_and_side(anchors)
    side, anchor_side = (jnp.maximum(x, _MIN_SIDE) for x in (side, anchor_side))
    deltas = [(centre - anchor_centre) / anchor_side, jnp.log(side / anchor_side)]
    return jnp.concatenate(deltas, axis=-1) * jnp.asarray(scales, jnp.float32)[None]


def decode_boxes(
    deltas: Real[ArrayLike, "N 4"],
    anchors: Real[ArrayLike, "N 4"],
    *,
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
) -> Float[Array, "N 4"]:
    """The boxes that deltas lead to: the inverse of `encode_boxes`.

    Args:
      deltas: (t_x, t_y, t_w, t_h), times the scales. Sides grow to 62.5 times the anchor's at most.
      anchors: What each is relative to.
      scales: Factors of t_x, t_y, t_w, t_h.

    Returns:
      Boxes in the frame of the anchors.
    """
    deltas, anchors = (jnp.asarray(x, jnp.float32) for x in (deltas, anchors))
    deltas = deltas / jnp.asarray(scales, jnp.float32)[None]
    anchor_centre, anchor_side = _centre_and_side(anchors)
    centre = anchor_centre + deltas[:, :2] * anchor_side
    half = jnp.exp(jnp.minimum(deltas[:, 2:], math.log(MAX_ENLARGEMENT))) * anchor_side / 2.0
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def clip_boxes(boxes: Real[ArrayLike, "N 4"], size: Real[ArrayLike, "2"]) -> Float[Array, "N 4"]:
    """Cuts boxes to the picture, [0, columns] x [0, rows].

    Args:
      boxes: Boxes in pixels.
      size: Rows and columns of the picture.

    Returns:
      The boxes; what lies outside becomes a box without area on the border.
    """
    boxes, size = (jnp.asarray(x, jnp.float32) for x in (boxes, size))
    return jnp.clip(boxes, 0.0, jnp.tile(size[::-1], 2)[None])


def extend_boxes(
    boxes: Real[ArrayLike, "N 4"], *, aspect: float, scale: float
) -> Float[Array, "N 4"]:
    """`g_rmi.geometry.pose_box` on the device: a fixed aspect, then larger, same centre.

    Args:
      boxes: `(x0, y0, x1, y1)`, any unit.
      aspect: Height / width of the result; the side that is too short grows.
      scale: Enlargement after that.

    Returns:
      The boxes; one without width and height becomes one unit high.
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    centre, side = _centre_and_side(boxes)
    width, height = jnp.abs(side).T
    height = scale * jnp.maximum(jnp.maximum(height, width * aspect), 1.0)
    half = jnp.stack([height / aspect, height], axis=-1) / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def _area(boxes):
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def _intersection(a, b):
    """Area that `a[n]` and `b[m]` share."""
    upper_left = jnp.maximum(a[:, None, :2], b[None, :, :2])
    lower_right = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    return _area(jnp.concatenate([upper_left, lower_right], axis=-1))


def _ratio(part, whole):
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1.0), 0.0)


def _centre_and_side(boxes):
    return (boxes[..., :2] + boxes[..., 2:]) / 2.0, boxes[..., 2:] - boxes[..., :2]
