"""Resizing and cropping on the align-corners grid (see `g_rmi.types`)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

# Grids that accelerators sample together.
_TOGETHER = 32


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
    return sample_grid(image, *grids(boxes, height=height, width=width))


def grids(
    boxes: Real[ArrayLike, "N 4"], *, height: int, width: int
) -> tuple[Float[Array, "N height"], Float[Array, "N width"]]:
    """Where the rows and columns of the crops of `crop_boxes` lie in the image.

    Args:
      boxes: `(x0, y0, x1, y1)` in image pixels.
      height: Rows of a crop.
      width: Columns of a crop.

    Returns:
      y of each row and x of each column; a single one lies in the middle of its box.
    """
    x0, y0, x1, y1 = jnp.asarray(boxes, jnp.float32).T
    return _between(y0, y1, height), _between(x0, x1, width)


def _between(start, stop, count):
    """`count` positions from each start to its stop."""
    share = np.arange(count) / (count - 1) if count > 1 else np.array([0.5])
    share = share.astype(np.float32)[None, :]
    return start[:, None] * (1 - share) + stop[:, None] * share


def sample_grid(
    image: Real[ArrayLike, "H W C"], rows: Real[ArrayLike, "N h"], columns: Real[ArrayLike, "N w"]
) -> Float[Array, "N h w C"]:
    """Bilinear samples where the rows and columns of grids cross; the image is zero outside.

    Args:
      image: Image or features, any type.
      rows: y of each grid's rows, in pixels of the image.
      columns: x of each grid's columns. A non-finite row or column is all zeros.

    Returns:
      The samples, float32, in the image's own range.
    """
    image = jnp.asarray(image)
    rows, columns = (jnp.asarray(x, jnp.float32) for x in (rows, columns))
    if 0 in image.shape[:2]:
        shape = (*rows.shape, columns.shape[1], image.shape[2])
        return jnp.zeros(shape, jnp.float32)
    # The gradients below are for features; of an image of integers the boxes alone have one.
    floating = jnp.issubdtype(image.dtype, jnp.floating)
    return (_sample_features if floating else _sample_grids)(image, (rows, columns))


def sample_points(
    image: Real[ArrayLike, "H W C"], points: Real[ArrayLike, "*n 2"]
) -> Float[Array, "*n C"]:
    """Bilinear samples at points; the image is zero outside.

    Args:
      image: Image or map, any type.
      points: `(x, y)` in pixels of the image; any leading axes. A non-finite point is zero.

    Returns:
      The samples, float32, in the image's own range.
    """
    image, points = jnp.asarray(image), jnp.asarray(points, jnp.float32)
    height, width, channels = image.shape
    if 0 in (height, width):
        return jnp.zeros((*points.shape[:-1], channels), jnp.float32)
    x, y = points.reshape(-1, 2).T
    samples = _blend(image, _shares(y, x, height, width))
    return samples.reshape(*points.shape[:-1], channels)


def _sample_grids(image, grids):
    if len(grids[0]) == 1:
        return _sample(image, [positions[0] for positions in grids])[None]
    # One grid at a time stays in the cache of a CPU; accelerators would rather start a few large
    # programs than many small ones.
    return lax.platform_dependent(image, grids, cpu=_one_by_one, default=_together)


def _one_by_one(image, grids):
    return lax.map(partial(_sample, image), grids)


def _together(image, grids):
    return lax.map(partial(_sample, image), grids, batch_size=_TOGETHER)


def _sample(image, grid):
    shares = _grid_shares(image, grid)
    return _blend(image, shares).reshape(*map(len, grid), image.shape[2])


def _one_by_one_backward(image, grids, grad):
    # All grids add to one image; automatically each would fill one of its own.
    height, width, channels = image.shape

    def add(total, item):
        grid, grad = item
        to_grid = jax.vjp(partial(_sample, image), grid)[1](grad)[0]
        grad = grad.reshape(-1, channels)
        for index, share in _grid_shares(image, grid):
            total = total.at[index].add(share * grad, mode="promise_in_bounds")
        return total, to_grid

    total = jnp.zeros((height * width, channels), jnp.float32)
    total, to_grids = lax.scan(add, total, (grids, grad))
    return total.reshape(image.shape).astype(image.dtype), to_grids


def _backward(inputs, grad):
    def together(image, grids, grad):
        return jax.vjp(_together, image, grids)[1](grad)

    return lax.platform_dependent(*inputs, grad, cpu=_one_by_one_backward, default=together)


_sample_features = jax.custom_vjp(_sample_grids)
_sample_features.defvjp(lambda *inputs: (_sample_grids(*inputs), inputs), _backward)


def _blend(image, shares):
    """The sum of some pixels of an image, each times its share."""
    height, width, channels = image.shape
    pixels, samples = image.reshape(height * width, channels), jnp.zeros((), jnp.float32)
    for index, share in shares:
        taken = pixels.at[index].get(mode="promise_in_bounds")
        samples += share * taken.astype(jnp.float32)
    return samples


def _grid_shares(image, grid):
    return _shares(grid[0][:, None], grid[1][None], *image.shape[:2])


def _shares(y, x, height, width):
    """The four pixels around each point, row by row, and what they count."""
    columns = list(_taps(x, width))
    for i, row_share in _taps(y, height):
        for j, column_share in columns:
            yield (i * width + j).reshape(-1), (row_share * column_share).reshape(-1, 1)


def _taps(position, size):
    """The two pixels next to each position of one axis, and their shares; zero outside."""
    low = jnp.clip(jnp.floor(position), -1.0, size)
    low = jnp.where(jnp.isnan(low), -1.0, low)

    def tap(pixel):
        inside = (pixel >= 0) & (pixel < size) & jnp.isfinite(position)
        share = jnp.where(inside, jnp.maximum(1.0 - jnp.abs(position - pixel), 0.0), 0.0)
        return jnp.clip(pixel, 0.0, size - 1.0).astype(jnp.int32), share

    return tap(low), tap(low + 1.0)
