"""How a joint is found, as a picture: the network's maps and what is made of them."""

import itertools
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, Real

from g_rmi.viz.canvas import Canvas, Picture
from g_rmi.viz.draw import contact_sheet, draw_heatmap

_STRONG = 0.3  # Positions with less than this share of the largest h_k are left out.
_ARROWS = 150  # About how many are drawn, from a regular grid of positions.
_ZOOM = 3  # Of maps, in which a joint is small.
_VOTE, _TARGET, _FOUND = (80, 170, 255, 255), (255, 255, 255, 255), (60, 255, 120, 255)


def draw_votes(
    image: np.ndarray, heatmap: Float[np.ndarray, "h w"], offset: Float[np.ndarray, "h w 2"]
) -> Picture:
    """Lines from positions that believe in the joint, by h_k, to where F_k says it is: white dots.

    F_k is `(x, y)` in pixels of the map. The crop, uint8 RGB [H, W, 3], has any resolution; its
    corner pixels lie on the maps' corners.
    """
    canvas = Canvas(image)
    strong = heatmap >= _STRONG * max(float(heatmap.max(initial=0)), np.finfo(np.float32).tiny)
    step = max(1, round(np.sqrt(strong.sum() / _ARROWS)))
    grid = np.zeros_like(strong)
    grid[::step, ::step] = True
    width = max(0.35, 0.0025 * canvas.reference)
    zoom = (np.array(image.shape[1::-1]) - 1) / (np.array(heatmap.shape[::-1]) - 1)
    starts = np.argwhere(strong & grid)[:, ::-1].astype(np.float64)
    ends = zoom * (starts + offset[strong & grid])
    starts *= zoom
    usable = np.isfinite(ends).all(-1) & (np.abs(ends) < 10 * max(image.shape)).all(-1)
    for start, end in zip(starts[usable], ends[usable]):
        canvas.line(start, end, _VOTE, width)
    for end in ends[usable]:
        canvas.disc(end, 0.9 * width, _TARGET)
    return canvas.flatten(0.8)


def draw_pairs(
    image: np.ndarray, heatmap: Float[np.ndarray, "h w"], vectors: Float[np.ndarray, "h w K 2"]
) -> Picture:
    """Lines from the position that believes most in a joint to where it says all the others are.

    Pixels as for `draw_votes`.
    """
    canvas = Canvas(image)
    zoom = (np.array(image.shape[1::-1]) - 1) / (np.array(heatmap.shape[::-1]) - 1)
    row, column = np.unravel_index(np.nanargmax(heatmap), heatmap.shape)
    start = np.array([column, row], np.float64)
    ends = zoom * (start + vectors[row, column])
    usable = np.isfinite(ends).all(-1) & (np.abs(ends) < 10 * max(image.shape)).all(-1)
    width = max(0.5, 0.004 * canvas.reference)
    for end in ends[usable]:
        canvas.line(zoom * start, end, _VOTE, width)
    for end in ends[usable]:
        canvas.disc(end, 2 * width, _TARGET)
    return canvas.flatten(0.8)


def _enlarge(crop: np.ndarray, height: int) -> Picture:
    """A crop at another height, corner pixel on corner pixel."""
    zoom = (height - 1) / (crop.shape[0] - 1)
    size = (round(zoom * (crop.shape[1] - 1)) + 1, height)
    affine = np.array([[zoom, 0.0, 0.0], [0.0, zoom, 0.0]])
    options = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(crop, affine, size, **options)


def explain_joint(
    crop: np.ndarray,
    maps: Mapping[str, Float[np.ndarray, "h w ..."]],
    *,
    joint: str,
    found: Real[np.ndarray, "2"],
    score: float,
    height: int = 480,
) -> Picture:
    """The steps to one joint side by side, as in the paper's section 3.2.3.

    Panels of a height in pixels: the crop, uint8 RGB [H, W, 3], with the joint where it was found,
    `(x, y)` in crop pixels, and its score; then each map, at the crop's resolution: [H, W] as
    colours, or vectors `(x, y)` in crop pixels as lines, which begin where the map before them is
    strong: one for each position, [H, W, 2], or one to each joint, [H, W, K, 2]. All but those last
    show what the first has a frame around, a third of the crop's sides.
    """
    large, close = _enlarge(crop, height), _enlarge(crop, _ZOOM * (height - 1) + 1)
    rows, columns = large.shape[:2]
    place = (height - 1) / (crop.shape[0] - 1) * found
    last = np.array(close.shape[1::-1]) - (columns, rows)
    centre = _ZOOM * place - np.array([columns - 1, rows - 1]) / 2
    x, y = np.clip(centre, 0, last).round().astype(int).tolist()
    window = slice(y, y + rows), slice(x, x + columns)

    canvas = Canvas(large)
    radius = 0.025 * canvas.reference
    low, high = np.array([x, y]) / _ZOOM, np.array([x + columns - 1, y + rows - 1]) / _ZOOM
    ring = np.array([low, (high[0], low[1]), high, (low[0], high[1]), low])
    for start, end in itertools.pairwise(ring):
        canvas.line(start, end, _TARGET, max(0.5, 0.15 * radius))
    canvas.disc(place, radius, _FOUND, ring=0.25 * radius)
    panels = {f"{joint}, score {score:.2f}": canvas.flatten()}
    strength = np.ones(crop.shape[:2], np.float32)
    for title, values in maps.items():
        if values.ndim > 3:
            panels[title] = draw_pairs(large, strength, values)
        elif values.ndim > 2:
            panels[title] = draw_votes(close, strength, values)[window]
        else:
            strength = np.maximum(values, 0)
            panels[title] = draw_heatmap(close, strength)[window]
    options = {"columns": len(panels), "cell": large.shape[:2], "titles": list(panels)}
    return contact_sheet(list(panels.values()), **options)
