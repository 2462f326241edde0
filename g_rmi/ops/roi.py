"""Features of regions of interest."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

from g_rmi.ops.image import sample_grid


def roi_align(
    features: Real[ArrayLike, "H W C"],
    boxes: Real[ArrayLike, "N 4"],
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
) -> Float[Array, "N h w C"]:
    """Averages features over the cells of a grid on each box (Mask R-CNN, section 3).

    Half-pixel ("aligned") sampling: a box corner (x, y) lies at `(x, y) * spatial_scale - 0.5` of
    the features, and each cell is the mean of `sampling_ratio`^2 bilinear samples, spread evenly.
    Up to one pixel outside, the features continue as on their border; beyond, they are 0.

    Args:
      features: The features.
      boxes: `(x0, y0, x1, y1)`, in the frame that has its pixels' corners on whole numbers.
      output_size: Rows and columns of a result, or one number for both.
      spatial_scale: Features' pixels per pixel of the boxes' frame.
      sampling_ratio: Samples per cell and axis.

    Returns:
      Features of each box, float32.

    Raises:
      ValueError: `sampling_ratio` is not positive: as many samples as the box is large would need
        a shape that depends on the values.
    """
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    features = jnp.asarray(features)
    rows, columns = _samples(
        boxes, (height, width), features.shape[:2], spatial_scale, sampling_ratio
    )
    samples = sample_grid(features, rows, columns)
    # Slices, since a mean over axes is a pass of its own over all samples on CPUs.
    first = range(sampling_ratio)
    parts = [samples[:, i::sampling_ratio, j::sampling_ratio] for i in first for j in first]
    return sum(parts[1:], parts[0]) / np.float32(sampling_ratio**2)


def position_sensitive_roi(
    maps: Real[ArrayLike, "H W G"],
    boxes: Real[ArrayLike, "N 4"],
    *,
    bins: int,
    spatial_scale: float,
    sampling_ratio: int,
) -> Float[Array, "N bins bins C"]:
    """Averages over each cell of a grid on a box, of maps made for that cell (R-FCN, section 2.2).

    The sampling is `roi_align`'s; where all groups of channels are equal, so are the results.

    Args:
      maps: Channel `(i * bins + j) * C + c` belongs to the cell in row i and column j.
      boxes: `(x0, y0, x1, y1)`, in the frame that has its pixels' corners on whole numbers.
      bins: Rows and columns of the grid.
      spatial_scale: Maps' pixels per pixel of the boxes' frame.
      sampling_ratio: Samples per cell and axis.

    Returns:
      One value per cell and map, float32.

    Raises:
      ValueError: `bins` or `sampling_ratio` is not positive, or the channels are no multiple of
        `bins`^2.
    """
    maps = jnp.asarray(maps)
    height, width, channels = maps.shape
    if bins < 1 or channels % bins**2:
        raise ValueError(f"bins = {bins}: {channels} channels do not make {bins} x {bins} groups")
    size = (height, width)
    rows, columns = _samples(boxes, (bins, bins), size, spatial_scale, sampling_ratio)
    groups = jnp.moveaxis(maps.reshape(*size, bins, bins, -1), (2, 3), (0, 1))
    in_row = jax.vmap(sample_grid, in_axes=(0, None, 1))  # the cells of a row share its samples
    sample = jax.vmap(in_row, in_axes=(0, 1, None))
    each = (-1, bins, sampling_ratio)
    samples = sample(groups, rows.reshape(each), columns.reshape(each))
    return jnp.moveaxis(samples.mean((3, 4)), 2, 0)


def _samples(boxes, cells, size, spatial_scale, sampling_ratio):
    """Rows [N, h * samples] and columns [N, w * samples] of the samples of each box."""
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio = {sampling_ratio}: must be at least 1")
    corners = jnp.asarray(boxes, jnp.float32) * spatial_scale - 0.5
    return (
        _middles(corners[:, 1], corners[:, 3], cells[0] * sampling_ratio, size[0]),
        _middles(corners[:, 0], corners[:, 2], cells[1] * sampling_ratio, size[1]),
    )


def _middles(start, stop, count, size):
    """The middles of `count` equal parts from start to stop, held on the pixels of one axis."""
    share = ((np.arange(count) + 0.5) / max(count, 1)).astype(np.float32)[None, :]
    position = start[:, None] * (1 - share) + stop[:, None] * share
    reached = (position >= -1.0) & (position <= size)
    return jnp.where(reached, jnp.clip(position, 0.0, size - 1.0), jnp.inf)
