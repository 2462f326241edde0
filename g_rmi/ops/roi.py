"""Features of regions of interest."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real


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
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio = {sampling_ratio}: must be at least 1")
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    features = jnp.asarray(features, jnp.float32)
    corners = jnp.asarray(boxes, jnp.float32) * spatial_scale - 0.5
    rows = _positions(corners[:, 1], corners[:, 3], height * sampling_ratio)
    columns = _positions(corners[:, 0], corners[:, 2], width * sampling_ratio)
    down, across = (_taps(rows, features.shape[0]), _taps(columns, features.shape[1]))
    samples = jnp.zeros((*rows.shape, columns.shape[1], features.shape[-1]), jnp.float32)
    for i, v in down:
        for j, u in across:
            taken = features.at[i[:, :, None], j[:, None, :]].get(mode="clip")
            samples += (v[:, :, None] * u[:, None, :])[..., None] * taken
    cells = samples.reshape(len(rows), height, sampling_ratio, width, sampling_ratio, -1)
    return cells.mean((2, 4))


def _positions(start, stop, count):
    """The middles of `count` equal parts from start to stop."""
    share = ((np.arange(count) + 0.5) / max(count, 1)).astype(np.float32)[None, :]
    return start[:, None] * (1 - share) + stop[:, None] * share


def _taps(position, size):
    """The two pixels next to each position of one axis, and their shares."""
    inside = (position >= -1.0) & (position <= size)
    position = jnp.clip(jnp.where(inside, position, 0.0), 0.0, size - 1.0)
    low = jnp.floor(position)
    share = position - low
    index = low.astype(jnp.int32)
    return (index, jnp.where(inside, 1.0 - share, 0.0)), (index + 1, jnp.where(inside, share, 0.0))
