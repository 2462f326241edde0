"""Pictures onto the detector's canvas, and its boxes back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from g_rmi.geometry import fit_canvas

# Sides of the buffers that pictures travel in: few, for few compilations.
_SIDES = tuple(640 << k for k in range(7))
LARGEST = _SIDES[-1]

# Zeros beside and below a picture in its buffer, at least: a block of the coarsest mipmap.
MARGIN = 8


class Letterbox(NamedTuple):
    """Pictures on their way to the device, and how each lies on the detector's canvas.

    Attributes:
      image: RGB buffers: the picture in the upper left corner, zeros beside and below it, at
        least `MARGIN` of them.
      size: Rows and columns of the picture.
      canvas_size: Rows and columns of the picture on the canvas.
      scale: Image pixels per canvas pixel, x and y; the first pixels lie on each other.
    """

    image: UInt8[Array, "B H W 3"]
    size: Int[Array, "B 2"]
    canvas_size: Int[Array, "B 2"]
    scale: Float[Array, "B 2"]


def pack(
    images: Sequence[np.ndarray], *, canvas: tuple[int, int], squash: bool = False, count: int
) -> Letterbox:
    """Puts uint8 RGB pictures of one orientation and size class into `count` buffers.

    Those past the last picture hold a black pixel. `canvas` is the detector's shorter and longer
    side, `squash` as in `g_rmi.geometry.fit_canvas`.
    """
    side = max(_side(image.shape) for image in images)
    buffer = np.zeros((count, side, side, 3), np.uint8)
    sizes, canvas_sizes = np.ones((count, 2), np.int32), np.ones((count, 2), np.int32)
    scales = np.ones((count, 2), np.float32)
    for i, image in enumerate(images):
        height, width = sizes[i] = image.shape[:2]
        buffer[i, :height, :width] = image
        fit = fit_canvas(height, width, canvas=canvas, squash=squash)
        canvas_sizes[i], scales[i] = fit.size, 1 / np.diag(fit.affine[:, :2])
    on_host: Any = (buffer, sizes, canvas_sizes, scales)
    return Letterbox(*on_host)


def fit_on_device(
    image: UInt8[Array, "B H W 3"],
    size: Int[Array, "B 2"],
    *,
    canvas: tuple[int, int],
    squash: bool = False,
) -> Letterbox:
    """`g_rmi.geometry.fit_canvas` for pictures, in the corner of buffers, of sizes on the device.

    `canvas` is rows and columns of the detector's.
    """
    sides = jnp.array(canvas, jnp.int32)
    # The canvas is to the picture as `sides` to `size`, along its rows or along its columns.
    by_rows = sides[0] * size[:, 1] <= sides[1] * size[:, 0]
    after = jnp.where(by_rows, sides[0], sides[1])[:, None]
    before = jnp.where(by_rows, size[:, 0], size[:, 1])[:, None]
    whole, rest = jnp.divmod(after * size, before)
    # Halves to even.
    up = (2 * rest > before) | ((2 * rest == before) & (whole % 2 == 1))
    fitted = jnp.maximum(whole + up.astype(jnp.int32), 1)
    fitted = jnp.broadcast_to(sides[None], size.shape) if squash else fitted
    usual = jnp.minimum(size, fitted) > 1
    scale = jnp.where(usual, _ratio(size - 1, fitted - 1), _ratio(size, fitted))[:, ::-1]
    return Letterbox(image, size, fitted, scale)


def _ratio(a: Int[Array, "B 2"], b: Int[Array, "B 2"]) -> Float[Array, "B 2"]:
    return a.astype(jnp.float32) / jnp.maximum(b, 1).astype(jnp.float32)


def canvas_to_image(
    boxes: Float[Array, "B N 4"], scale: Float[Array, "B 2"]
) -> Float[Array, "B N 4"]:
    """Boxes on canvases to image pixels; `scale` is image pixels per canvas pixel, x and y."""
    # Pixel centres are scaled; boxes begin half a pixel before them, in both frames.
    to_image = jnp.tile(scale, 2)[:, None]
    return to_image * boxes + (1 - to_image) / 2


def shape_class(shape: Sequence[int]) -> tuple[bool, int]:
    """What shapes must share to go through one compiled program: orientation and size class."""
    return shape[1] >= shape[0], _side(shape)


def alike(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Numbers of the pictures, by orientation and size class."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(shape_class(image.shape), []).append(i)
    return list(groups.values())


def _side(shape: Sequence[int]) -> int:
    """Side of the buffer for a picture."""
    longest = max(shape[:2])
    return next(side for side in _SIDES if side >= longest) + MARGIN
