"""How Hough voting finds a joint, as a picture: disk, offsets, votes and the fused map."""

import cv2
import numpy as np
from jaxtyping import Float

from g_rmi.viz.canvas import Canvas, Picture
from g_rmi.viz.draw import contact_sheet, draw_heatmap

_VOTE, _TARGET, _FOUND = (80, 170, 255, 255), (255, 255, 255, 255), (60, 255, 120, 255)


def draw_votes(
    image: np.ndarray,
    heatmap: Float[np.ndarray, "h w"],
    offset: Float[np.ndarray, "h w 2"],
    *,
    min_share: float = 0.3,
    arrows: int = 150,
) -> Picture:
    """Lines from positions that believe in the joint to where they say it is, F_k(x) long.

    Args:
      image: uint8 RGB crop [H, W, 3] at any resolution; its corner pixels lie on the maps' corners.
      heatmap: h_k.
      offset: F_k as `(x, y)`, in pixels of the map.
      min_share: Positions with less than this share of the largest h_k are left out.
      arrows: About how many lines are drawn, from a regular grid of positions.

    Returns:
      A new picture; a white dot ends each line.
    """
    canvas = Canvas(image)
    strong = heatmap >= min_share * max(float(heatmap.max(initial=0)), np.finfo(np.float32).tiny)
    step = max(1, round(np.sqrt(strong.sum() / arrows)))
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


def _enlarge(crop: np.ndarray, height: int) -> Picture:
    """A crop at another height, corner pixel on corner pixel."""
    zoom = (height - 1) / (crop.shape[0] - 1)
    size = (round(zoom * (crop.shape[1] - 1)) + 1, height)
    affine = np.array([[zoom, 0.0, 0.0], [0.0, zoom, 0.0]])
    options = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(crop, affine, size, **options)


def explain_joint(
    crop: np.ndarray,
    heatmap: Float[np.ndarray, "h w"],
    offset: Float[np.ndarray, "h w 2"],
    fused: Float[np.ndarray, "h w"],
    *,
    joint: str,
    height: int = 480,
) -> Picture:
    """The steps of the paper's section 3.2.3 for one joint, side by side.

    Args:
      crop: uint8 RGB [H, W, 3].
      heatmap: h_k, the probability of lying within R of the joint.
      offset: F_k as `(x, y)` in crop pixels.
      fused: f_k, where the votes met.
      joint: Its name.
      height: Of each panel in pixels.

    Returns:
      Four panels: the crop with the maximum of f_k, h_k, F_k and f_k.
    """
    row, column = np.unravel_index(np.argmax(fused), fused.shape)
    large = _enlarge(crop, height)
    canvas = Canvas(large)
    radius = 0.025 * canvas.reference
    found = (height - 1) / (crop.shape[0] - 1) * np.array([column, row])
    canvas.disc(found, radius, _FOUND, ring=0.25 * radius)
    panels = {
        f"{joint}, score {fused[row, column]:.2f}": canvas.flatten(),
        "heatmap h: within R of it?": draw_heatmap(large, heatmap),
        "offsets F: where, seen from here?": draw_votes(large, heatmap, offset),
        "votes f: where they meet": draw_heatmap(large, fused),
    }
    titles = list(panels)
    return contact_sheet(list(panels.values()), columns=4, cell=large.shape[:2], titles=titles)
