"""Resizing and cropping on the align-corners grid (see `g_rmi.types`)."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real


def resize_align_corners(
    x: Real[ArrayLike, "h w C"], *, height: int, width: int
) -> Float[Array, "height width C"]:
    """Bilinear resize that maps the centres of the corner pixels onto each other.

    Output pixel i of n samples input position `i (m - 1) / (n - 1)` of m; a single output pixel
    samples the middle. Sizes `m = 8 k + 1` from `k + 1` make every weight a multiple of 1/8, hence
    constants, linear functions and mirror images exact. The resize is two matrix products, so a
    NaN or infinity spreads along its row and column.

    Args:
      x: Map or image.
      height: Rows of the result.
      width: Columns of the result.

    Returns:
      The resized map, float32.
    """
    x = jnp.asarray(x, jnp.float32)
    rows = _resize_weights(x.shape[0], height)
    columns = _resize_weights(x.shape[1], width)
    # Accelerators would round the products to bfloat16 or TF32, some tenths of a pixel of offset.
    exact = lax.Precision.HIGHEST
    x = jnp.einsum("ih,hwc->iwc", rows, x, precision=exact)
    return jnp.einsum("jw,iwc->ijc", columns, x, precision=exact)


def _resize_weights(size: int, resized: int) -> Float[np.ndarray, "resized size"]:
    """Interpolation matrix of one axis, symmetric under mirroring both axes to the last bit."""
    steps = 2 * max(resized - 1, 1)
    position = 2 * np.arange(resized) * (size - 1) if resized > 1 else np.array([size - 1])
    low, rest = np.divmod(position, steps)
    weights = np.zeros((resized, size + 1))
    weights[np.arange(resized), low] = (steps - rest) / steps
    weights[np.arange(resized), low + 1] = rest / steps
    return weights[:, :size].astype(np.float32)


def crop_boxes(
    image: Real[ArrayLike, "H W C"], boxes: Real[ArrayLike, "N 4"], *, height: int, width: int
) -> Float[Array, "N height width C"]:
    """Cuts boxes out of an image and resizes them, align-corners and bilinear.

    Crop pixel (j, i) is the image point `(x0 + j (x1 - x0) / (W - 1), y0 + i (y1 - y0) / (H - 1))`
    for a crop of H x W pixels; a crop one pixel wide or high samples the box's middle. The image is
    zero outside, so crops fade out over the last half pixel as with `cv2.warpAffine`.

    Args:
      image: Image, uint8 or float.
      boxes: `(x0, y0, x1, y1)` in image pixels. A box with a non-finite corner gives zeros.
      height: Rows of a crop.
      width: Columns of a crop.

    Returns:
      The crops, float32, in the image's own range.
    """
    image = jnp.asarray(image)
    boxes = jnp.asarray(boxes, jnp.float32)

    def crop(box):
        x = _sample_axis(image, box[1], box[3], height, axis=0)
        return _sample_axis(x, box[0], box[2], width, axis=1)

    # One crop at a time: the rows of a whole image per crop are the largest thing held.
    return lax.map(crop, boxes)


def _sample_axis(x, start, stop, count, *, axis):
    """Linear interpolation of one axis at `count` positions from start to stop; zero outside."""
    size = x.shape[axis]
    share = np.arange(count) / (count - 1) if count > 1 else np.array([0.5])
    share = share.astype(np.float32)
    position = start * (1 - share) + stop * share
    low = jnp.clip(jnp.floor(position), -1.0, size)
    low = jnp.where(jnp.isnan(low), -1.0, low)

    def tap(index):
        inside = (index >= 0) & (index < size) & jnp.isfinite(position)
        weight = jnp.where(inside, jnp.maximum(1.0 - jnp.abs(position - index), 0.0), 0.0)
        weight = jnp.expand_dims(weight, [i for i in range(x.ndim) if i != axis])
        taken = jnp.take(x, index.astype(jnp.int32), axis=axis, mode="clip")
        return weight * taken.astype(jnp.float32)

    return tap(low) + tap(low + 1.0)
