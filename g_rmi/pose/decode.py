"""Network maps to keypoints and scores (paper, section 3.2.3)."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from g_rmi.ops.hough import hough_vote
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.peaks import Peaks, bounded_peaks, has_cells
from g_rmi.types import Poses

Method = Literal["hough", "argmax", "argmax_offset"]

# Pixels on each side of a peak that the sub-pixel refinement looks at.
_REACH = 2


def decode(
    heatmap_logits: Float[ArrayLike, "h w K"],
    offset: Float[ArrayLike, "h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    method: Method = "hough",
    refine: bool = False,
) -> Poses:
    """Keypoints and scores of one crop.

        l_k = argmax_x f_k(x)      s = 1/K sum_k max_x f_k(x)

    On CPUs the maxima of f_k are found by branch and bound (`g_rmi.pose.peaks`), elsewhere by
    voting from every position; they are the same.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows; the maps are up-sampled to the crop first.
      width: Crop columns.
      radius: R in crop pixels.
      method: "hough" is the paper's. For comparison, "argmax" takes f_k to be the heatmap itself,
        and "argmax_offset" adds the offset found at its maximum.
      refine: Move each keypoint to the centroid of f_k on the 5 x 5 pixels around the maximum, at
        most half a pixel away. A bilinear vote balances around its target, so votes that agree are
        located exactly.

    Returns:
      The pose, in crop pixels. Equal peaks go by the lowest row, then column. A joint whose maps
      are not finite has a nan score, and so has its pose.

    Raises:
      ValueError: An unknown method, or `refine` together with "argmax_offset", which is off the
        pixel grid anyway.
    """
    if method not in ("hough", "argmax", "argmax_offset"):
        raise ValueError(f"method = {method!r}: must be hough, argmax or argmax_offset")
    if refine and method == "argmax_offset":
        raise ValueError('refine = True: method = "argmax_offset" has no peak to refine')
    logits, offset, finite = _finite(heatmap_logits, offset)
    reach = _REACH if refine else 0
    if method == "hough":
        peaks = _vote_peaks(logits, offset, height, width, radius, reach)
    else:
        heatmap = jax.nn.sigmoid(resize_align_corners(logits, height=height, width=width))
        peaks = _peaks(jnp.moveaxis(heatmap, -1, 0), reach)
    keypoints = peaks.points.astype(jnp.float32)
    if refine:
        keypoints += _centroid(peaks.patches)
    if method == "argmax_offset":
        x, y = peaks.points.T
        keypoints += _resize_offset(offset, height, width)[y, x, jnp.arange(len(x))]
    scores = jnp.where(finite, peaks.patches[:, reach, reach], jnp.nan)
    return Poses(keypoints, scores, jnp.sum(scores) / max(len(scores), 1))


def decode_batch(
    heatmap_logits: Float[ArrayLike, "B h w K"],
    offset: Float[ArrayLike, "B h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    method: Method = "hough",
    refine: bool = False,
) -> Poses:
    """`decode` for a batch of crops.

    On CPUs the crops go one after the other, as the work depends on each crop's maps; elsewhere
    side by side. `jax.vmap(decode)` does the same.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.
      method: As in `decode`.
      refine: As in `decode`.

    Returns:
      The poses, each in the pixels of its crop.
    """
    options = {
        "height": height, "width": width, "radius": radius, "method": method, "refine": refine
    }  # fmt: skip
    return jax.vmap(partial(decode, **options))(heatmap_logits, offset)


def vote_maps(
    heatmap_logits: Float[ArrayLike, "h w K"],
    offset: Float[ArrayLike, "h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
) -> Float[Array, "height width K"]:
    """The whole vote maps f_k at the crop's resolution: what `decode` takes the maxima of.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.

    Returns:
      f_k.
    """
    logits, offset = (jnp.asarray(m, jnp.float32) for m in (heatmap_logits, offset))
    maps = _vote_maps_by_joint(logits, offset, height, width, radius)
    return jnp.moveaxis(maps, 0, -1)


def _vote_maps_by_joint(logits, offset, height, width, radius) -> Float[Array, "K height width"]:
    """Joint by joint, so that only one joint's up-sampled maps exist at a time."""

    def vote(maps):
        logits, offset = maps
        heatmap = jax.nn.sigmoid(
            resize_align_corners(logits[..., None], height=height, width=width)
        )
        full = resize_align_corners(offset, height=height, width=width)
        return hough_vote(heatmap, full[:, :, None], radius=radius)[..., 0]

    return lax.map(vote, (jnp.moveaxis(logits, 2, 0), jnp.moveaxis(offset, 2, 0)))


def _vote_peaks(logits, offset, height, width, radius, reach) -> Peaks:
    def full(logits, offset):
        return _peaks(_vote_maps_by_joint(logits, offset, height, width, radius), reach)

    if not has_cells(logits.shape, height=height, width=width):
        return full(logits, offset)

    # One crop after the other, else every crop would wait for the one with the most votes.
    @sequential_vmap
    def bounded(logits, offset):
        size = {"height": height, "width": width}
        return bounded_peaks(logits, offset, **size, radius=radius, reach=reach)

    return lax.platform_dependent(logits, offset, cpu=bounded, default=full)


def _finite(logits, offset) -> tuple[Array, Array, Bool[Array, " K"]]:
    """Float32 maps with the joints that hold a nan or infinity zeroed, and which do not."""
    logits, offset = jnp.asarray(logits, jnp.float32), jnp.asarray(offset, jnp.float32)
    finite = jnp.isfinite(logits).all((0, 1)) & jnp.isfinite(offset).all((0, 1, 3))
    logits = jnp.where(finite[None, None], logits, 0.0)
    return logits, jnp.where(finite[None, None, :, None], offset, 0.0), finite


def _resize_offset(offset, height, width) -> Float[Array, "height width K 2"]:
    joints = offset.shape[2]
    flat = offset.reshape(*offset.shape[:2], 2 * joints)
    return resize_align_corners(flat, height=height, width=width).reshape(height, width, joints, 2)


def _peaks(maps: Float[Array, "K height width"], reach: int) -> Peaks:
    """Maxima of whole maps, the lowest index among equals."""
    joints, height, width = maps.shape
    index = jnp.argmax(maps.reshape(joints, height * width), axis=1).astype(jnp.int32)
    x, y = index % width, index // width
    side = 2 * reach + 1

    def patch(image, y, x):
        return lax.dynamic_slice(jnp.pad(image, reach), (y, x), (side, side))

    return Peaks(jnp.stack([x, y], axis=-1), jax.vmap(patch)(maps, y, x))


def _centroid(patches: Float[Array, "K side side"]) -> Float[Array, "K 2"]:
    """Centroid (x, y) of each patch relative to its middle, at most half a pixel away."""
    steps = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
    mass = jnp.sum(patches, axis=(1, 2))
    x = jnp.sum(patches * steps[None, None, :], axis=(1, 2))
    y = jnp.sum(patches * steps[None, :, None], axis=(1, 2))
    moment = jnp.stack([x, y], axis=-1)
    return jnp.clip(moment / jnp.maximum(mass, 1e-30)[:, None], -0.5, 0.5)
