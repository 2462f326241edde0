"""Network maps to keypoints and scores (paper, section 3.2.3)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from g_rmi.ops.hough import hough_vote
from g_rmi.ops.image import resize_align_corners
from g_rmi.types import Poses

Method = Literal["hough", "argmax", "argmax_offset"]


def decode(
    heatmap_logits: Float[Array, "h w K"],
    offset: Float[Array, "h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    method: Method = "hough",
    refine: bool = False,
) -> Poses:
    """Keypoints and scores of one crop.

        l_k = argmax_x f_k(x)      s = 1/K sum_k max_x f_k(x)

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows; the maps are up-sampled to the crop first.
      width: Crop columns.
      radius: R in crop pixels.
      method: "hough" is the paper's. For comparison, "argmax" takes f_k to be the heatmap itself,
        and "argmax_offset" adds the offset found at its maximum.
      refine: Move each keypoint to the sub-pixel peak, at most half a pixel away.

    Returns:
      The pose, in crop pixels. Equal peaks go by the lowest row, then column.

    Raises:
      ValueError: `refine` together with "argmax_offset", which is not on the pixel grid anyway.
    """
    if refine and method == "argmax_offset":
        raise ValueError('refine = True: method = "argmax_offset" has no peak to refine')
    size = {"height": height, "width": width}
    if method == "hough":
        maps = vote_maps(heatmap_logits, offset, **size, radius=radius)
    else:
        maps = jax.nn.sigmoid(resize_align_corners(heatmap_logits, **size))
    peak = _peak(maps)
    scores = jnp.max(maps, axis=(0, 1))
    keypoints = peak.astype(jnp.float32)
    if refine:
        keypoints += _subpixel(maps, peak)
    if method == "argmax_offset":
        keypoints += _at(_resize_offset(offset, **size), peak)
    return Poses(keypoints, scores, jnp.mean(scores))


def decode_batch(
    heatmap_logits: Float[Array, "B h w K"],
    offset: Float[Array, "B h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    method: Method = "hough",
    refine: bool = False,
) -> Poses:
    """`decode` for a batch of crops, with the same options."""

    def decode_one(heatmap_logits, offset):
        return decode(
            heatmap_logits,
            offset,
            height=height,
            width=width,
            radius=radius,
            method=method,
            refine=refine,
        )

    return jax.vmap(decode_one)(heatmap_logits, offset)


def vote_maps(
    heatmap_logits: Float[Array, "h w K"],
    offset: Float[Array, "h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
) -> Float[Array, "height width K"]:
    """The fused maps f_k at the crop's resolution, for drawing and as the meaning of `decode`.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.

    Returns:
      f_k.
    """
    heatmap = jax.nn.sigmoid(resize_align_corners(heatmap_logits, height=height, width=width))
    full = _resize_offset(offset, height=height, width=width)
    return hough_vote(heatmap, full, radius=radius)


def _resize_offset(offset, *, height, width):
    joints = offset.shape[2]
    flat = offset.reshape(*offset.shape[:2], 2 * joints)
    return resize_align_corners(flat, height=height, width=width).reshape(height, width, joints, 2)


def _peak(maps):
    """Position (x, y) of each map's maximum, the lowest index among equals."""
    height, width, joints = maps.shape
    index = jnp.argmax(maps.reshape(height * width, joints), axis=0).astype(jnp.int32)
    return jnp.stack([index % width, index // width], axis=-1)


def _at(maps, points):
    """Values maps[y, x, k] at one point per joint."""
    return maps[points[:, 1], points[:, 0], jnp.arange(len(points))]


def _subpixel(maps, peak):
    """Vertex of the parabola through the peak and its neighbours, along x and along y."""
    height, width, _ = maps.shape
    steps = jnp.array([[-1, 0], [0, 0], [1, 0]], jnp.int32)
    shifts = []
    for axis, size in enumerate((width, height)):
        step = steps if axis == 0 else steps[:, ::-1]
        left, centre, right = (_at(maps, jnp.clip(peak + s, 0, _last(maps))) for s in step[:, None])
        bend = 2.0 * centre - left - right
        inner = (peak[:, axis] > 0) & (peak[:, axis] < size - 1) & (bend > 0)
        shift = jnp.where(inner, 0.5 * (right - left) / jnp.where(inner, bend, 1.0), 0.0)
        shifts.append(jnp.clip(shift, -0.5, 0.5))
    return jnp.stack(shifts, axis=-1)


def _last(maps):
    """The last pixel (x, y) of a map."""
    height, width, _ = maps.shape
    return jnp.array([[width - 1, height - 1]], jnp.int32)
