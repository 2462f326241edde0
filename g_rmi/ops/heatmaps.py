"""Keypoints to heatmaps, of disks with offset fields or of Gaussians, around joints and limbs."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Real


def disk_targets(
    keypoints: Real[ArrayLike, "K 2"],
    visible: Bool[ArrayLike, " K"],
    *,
    height: int,
    width: int,
    radius: Real[ArrayLike, ""],
) -> tuple[Float[Array, "H W K"], Float[Array, "H W K 2"], Bool[Array, "H W K"]]:
    """What the pose network should answer (paper, section 3.2.2).

        h_k(x) = 1 where ||x - l_k|| <= R, else 0        F_k(x) = l_k - x

    A keypoint outside the map still paints the part of its disk that lies inside.

    Args:
      keypoints: l_k as `(x, y)`, in pixels of the map.
      visible: Joints that have a disk. One with a non-finite position has none either.
      height: Rows H of the map.
      width: Columns W of the map.
      radius: R, in pixels of the map; the rim belongs to the disk.

    Returns:
      The heatmap; the offset `(x, y)`, filled everywhere for visible joints and 0 for the others;
      and the disk as a mask.
    """
    radius = jnp.asarray(radius, jnp.float32)
    dx, dy, visible = _from_pixels(keypoints, visible, height, width)
    inside = (dx**2 + dy**2 <= radius**2) & visible[None, None, :]
    offset = jnp.stack(jnp.broadcast_arrays(dx, dy), axis=-1)
    offset = jnp.where(visible[None, None, :, None], offset, 0.0)
    return inside.astype(jnp.float32), offset, inside


def gaussian_targets(
    keypoints: Real[ArrayLike, "K 2"],
    visible: Bool[ArrayLike, " K"],
    *,
    height: int,
    width: int,
    sigma: Real[ArrayLike, ""],
) -> Float[Array, "H W K"]:
    """Gaussian heatmaps, as most pose networks predict them (Tompson et al., 2014).

        h_k(x) = exp(-||x - l_k||^2 / (2 sigma^2))

    Everywhere, not cut off: a keypoint outside the map still shines into it.

    Args:
      keypoints: l_k as `(x, y)`, in pixels of the map.
      visible: Joints that have a heatmap; that of the others, and of one with a non-finite
        position, is 0.
      height: Rows H of the map.
      width: Columns W of the map.
      sigma: Standard deviation in pixels of the map.

    Returns:
      The heatmaps.
    """
    dx, dy, visible = _from_pixels(keypoints, visible, height, width)
    # Scaled before they are squared: far joints must not overflow.
    dx, dy = (d / jnp.asarray(sigma, jnp.float32) for d in (dx, dy))
    return jnp.where(visible[None, None], jnp.exp(-(dx**2 + dy**2) / 2), 0.0)


def limb_targets(
    keypoints: Real[ArrayLike, "K 2"],
    visible: Bool[ArrayLike, " K"],
    *,
    limbs: Sequence[tuple[int, int]],
    height: int,
    width: int,
    along: float,
    across: float,
) -> Float[Array, "H W L"]:
    """Gaussian maps of limbs, long where the limb is (Belagiannis & Zisserman, 2017).

        m_l(x) = exp(-(u^2 / along^2 + v^2 / across^2) / (2 s^2))

    with (u, v) the vector from the middle of limb l to x, along the limb and across it, and s the
    limb's length. Everywhere, not cut off.

    Args:
      keypoints: As `(x, y)`, in pixels of the map.
      visible: Joints that have a place. A limb of which an end has none, or has a non-finite
        position, or whose ends are in one place, has a map of zeros.
      limbs: The two joints of each limb; their order does not matter.
      height: Rows H of the map.
      width: Columns W of the map.
      along: Standard deviation along the limb, as a share of its length.
      across: Standard deviation across it, likewise.

    Returns:
      The maps.
    """
    keypoints = jnp.asarray(keypoints, jnp.float32)
    ends = np.array(limbs, np.int32).reshape(-1, 2)
    a, b = keypoints[ends[:, 0]], keypoints[ends[:, 1]]
    known = jnp.asarray(visible) & jnp.isfinite(keypoints).all(axis=-1)
    seen = known[ends].all(axis=-1) & (a != b).any(axis=-1)
    # A limb without a place gets one, so that no gradient through it is nan.
    a, b = (jnp.where(seen[:, None], end, jnp.float32([[i, 0]])) for i, end in enumerate((a, b)))
    length = jnp.hypot(*(b - a).T)
    seen = seen & jnp.isfinite(length)
    safe = jnp.where(seen, length, 1.0)
    dx, dy, _ = _from_pixels(a / 2 + b / 2, seen, height, width)
    # In lengths of the limb, before anything is squared: far joints must not overflow.
    dx, dy = (-d / safe[None, None] for d in (dx, dy))
    x, y = ((b - a) / safe[:, None]).T[:, None, None]
    u, v = dx * x + dy * y, dy * x - dx * y
    value = jnp.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
    return jnp.where(seen[None, None], value, 0.0)


def _from_pixels(keypoints, visible, height, width):
    """How far each joint lies from each pixel along x and y, and which joints have a place."""
    keypoints = jnp.asarray(keypoints, jnp.float32)
    x = jnp.arange(width, dtype=jnp.float32)[None, :, None]
    y = jnp.arange(height, dtype=jnp.float32)[:, None, None]
    # Coordinates apart: who needs the disk alone never builds the field.
    dx, dy = keypoints[None, None, :, 0] - x, keypoints[None, None, :, 1] - y
    return dx, dy, jnp.asarray(visible) & jnp.isfinite(keypoints).all(axis=-1)
