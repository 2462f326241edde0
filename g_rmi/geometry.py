"""Host-side geometry in numpy: boxes, the crop of a person, the canvas of a picture, affine maps.

No jax here: data-loading workers import this module. Frames as in `g_rmi.types`.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

MAX_COORDINATE = 1e9  # What is larger is no pixel but the result of a division by zero.
MAX_BOX = 1e6  # No box to look into reaches that far.
MAX_SCORE = 1e6  # Nor is one that sure; percents are.

Affine = Float[np.ndarray, "2 3"]  # A maps the point (x, y) to A @ (x, y, 1)


def pose_box(
    box: Real[np.ndarray, "... 4"], *, aspect: float, scale: float = 1.0
) -> Float[np.ndarray, "... 4"]:
    """Extends a box to a fixed aspect around its centre, then enlarges it (paper, section 3.2.1).

    The side that is too short for the aspect (height / width of the crop, 353 / 257 in the paper)
    grows; nothing is ever squashed or cut. The scale is 1.25 at evaluation, U(1.0, 1.5) in
    training. A box without width and height becomes one pixel high.
    """
    box = np.asarray(box, np.float64)
    centre = (box[..., :2] + box[..., 2:]) / 2
    width, height = np.moveaxis(np.abs(box[..., 2:] - box[..., :2]), -1, 0)
    height = scale * np.maximum(np.maximum(height, width * aspect), 1.0)
    half = np.stack([height / aspect, height], axis=-1) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def box_to_crop(
    box: Real[np.ndarray, "4"], *, height: int, width: int, angle: float = 0.0, flip: bool = False
) -> Affine:
    """Affine map from image points to crop pixels, align-corners.

    The corners of the box, whose sides must not be 0, land on the centres of the crop's corner
    pixels. `angle` (radians) turns the crop window around the box's centre, the content of the crop
    clockwise on the screen; `flip` mirrors the crop left-right after that.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    scale = np.diag([(width - 1) / (x1 - x0), (height - 1) / (y1 - y0)])
    cos, sin = np.cos(angle), np.sin(angle)
    linear = scale @ np.array([[cos, -sin], [sin, cos]])
    if flip:
        linear = np.diag([-1.0, 1.0]) @ linear
    offset = np.array([(width - 1) / 2, (height - 1) / 2]) - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)


def misfit(box: Sequence[float], size: tuple[int, int] | None = None) -> str | None:
    """What is wrong with a box `(x0, y0, x1, y1)` that another program made, if anything is.

    `size` is the width and height of its picture, if they are known.
    """
    if not np.isfinite(box).all():
        return "not finite"
    if np.abs(box).max() >= MAX_BOX:
        return f"a coordinate is larger than {MAX_BOX:g}"
    x0, y0, x1, y1 = box
    if x0 > x1 or y0 > y1:
        return "no box x0 <= x1, y0 <= y1: inside out, its corners are exchanged"
    if size and (x1 < 0 or y1 < 0 or x0 > size[0] or y0 > size[1]):
        return f"beside its picture of {size[0]} x {size[1]}"
    return None


def without_inside(box: Sequence[float]) -> str | None:
    """What is wrong with a box that has no inside."""
    x0, y0, x1, y1 = box
    return None if x0 < x1 and y0 < y1 else "without inside, its width or height is 0"


def are_shares(boxes: Real[np.ndarray, "N 4"]) -> bool:
    """Whether boxes are shares of their pictures, from 0 to 1 or little more, and not pixels."""
    return bool(boxes.size and boxes.max() <= 2 and (boxes % 1).any())


def from_xywh(boxes: Real[np.ndarray, "*N 4"]) -> Float[np.ndarray, "*N 4"]:
    """Boxes `(x0, y0, x1, y1)` of COCO's `(x, y, width, height)`."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def to_xywh(boxes: Real[np.ndarray, "*N 4"]) -> Float[np.ndarray, "*N 4"]:
    """Undoes `from_xywh`."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


class CanvasFit(NamedTuple):
    """How a picture lies on its canvas: resized, in the upper left corner."""

    canvas: tuple[int, int]  # rows and columns
    size: tuple[int, int]  # rows and columns of the picture on it
    affine: Affine  # from image points to canvas pixels


def fit_canvas(
    height: int, width: int, *, canvas: tuple[int, int], squash: bool = False
) -> CanvasFit:
    """Fits a picture to a canvas of its orientation, as large as possible.

    `canvas` is the shorter and longer side; it lies if the picture is at least as wide as high. The
    picture keeps its aspect, unless `squash` lets it fill the canvas.
    """
    short, long = canvas
    rows, columns = (short, long) if width >= height else (long, short)
    # Exact, so that every program that does the same rounds the same way.
    scale = min(Fraction(rows, height), Fraction(columns, width))
    size = min(max(round(scale * height), 1), rows), min(max(round(scale * width), 1), columns)
    size = (rows, columns) if squash else size
    affine = resize_affine(height, width, rows=size[0], columns=size[1])
    return CanvasFit((rows, columns), size, affine)


def resize_affine(height: int, width: int, *, rows: int, columns: int) -> Affine:
    """Affine map that resizes a picture, align-corners.

    The centres of the corner pixels stay the corners. Along a side that is or becomes one pixel
    long, where that says nothing, lengths are in proportion.
    """

    def scale(before: int, after: int) -> float:
        return (after - 1) / (before - 1) if min(before, after) > 1 else after / before

    return np.array([[scale(width, columns), 0.0, 0.0], [0.0, scale(height, rows), 0.0]])


def invert_affine(affine: Affine) -> Affine:
    """The map back: `apply_affine(invert_affine(A), apply_affine(A, p)) == p`."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def compose_affine(second: Affine, first: Affine) -> Affine:
    """One map for both: `apply_affine(compose_affine(B, A), p)` is B of A of p."""
    return np.concatenate([second[:, :2] @ first[:, :2], apply_affine(second, first[:, 2:].T).T], 1)


def apply_affine(affine: Affine, points: Real[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
    """Maps points `(x, y)`, any leading axes."""
    return np.asarray(points) @ affine[:, :2].T + affine[:, 2]
