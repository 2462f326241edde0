"""How people are found bottom-up, as a picture: candidates, costs, partition (DeeperCut)."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer

from g_rmi.skeleton import Skeleton
from g_rmi.viz.canvas import Canvas, Colour, Picture
from g_rmi.viz.draw import contact_sheet, draw_people

_JOIN: Colour = (80, 170, 255, 255)
_PART: Colour = (255, 96, 64, 255)
_DOT: Colour = (255, 255, 255, 255)
_LEFT: Colour = (150, 150, 150, 255)
_CERTAIN = 5.0  # Costs from here on have the widest line: P = .993.


def explain_partition(
    image: np.ndarray,
    points: Float[np.ndarray, "N 2"],
    scores: Float[np.ndarray, " N"],
    pairwise: Float[np.ndarray, "N N"],
    labels: Integer[np.ndarray, " N"],
    keypoints: Float[np.ndarray, "P K 2"],
    keypoint_scores: Float[np.ndarray, "P K"],
    *,
    skeleton: Skeleton,
    height: int = 480,
) -> Picture:
    """The steps from a picture's candidates to its people, side by side.

    Args:
      image: uint8 RGB [H, W, 3].
      points: Candidates that are there, `(x, y)` in its pixels.
      scores: Probability of each, the size of its dot.
      pairwise: What it costs that two are one person's.
      labels: Whose each is; -1 for nobody's.
      keypoints: The people of the partition, best first.
      keypoint_scores: Of their joints, 0 where a person has none.
      skeleton: Keypoint set.
      height: Of the panels, in pixels.

    Returns:
      The candidates; what each two candidates of the person who has most of them cost, blue where
      joining pays, red where it does not, the wider the surer; the people, and in grey what was
      left out.
    """
    zoom = height / image.shape[0]
    width = round(zoom * image.shape[1])
    large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    points, keypoints = (zoom * (x + 0.5) - 0.5 for x in (points, keypoints))
    left = labels < 0
    found = draw_people(large, keypoints, keypoint_scores, skeleton=skeleton, min_score=1e-6)
    panels = {
        f"{len(points)} candidates": _dots(large, points, scores, ~left, left),
        "what it costs that two are one person's": _costs(large, points, pairwise, labels),
        f"{len(keypoints)} people, {left.sum()} candidates left out": _dots(
            found, points, scores, np.zeros_like(left), left
        ),
    }
    options = {"columns": len(panels), "cell": large.shape[:2], "titles": list(panels)}
    return contact_sheet(list(panels.values()), **options)


def _dots(
    image: Picture,
    points: Float[np.ndarray, "N 2"],
    scores: Float[np.ndarray, " N"],
    bright: Bool[np.ndarray, " N"],
    grey: Bool[np.ndarray, " N"],
) -> Picture:
    canvas = Canvas(image)
    for which, colour in ((grey, _LEFT), (bright, _DOT)):
        for point, score in zip(points[which], scores[which]):
            radius = canvas.reference * (0.003 + 0.007 * float(score))
            canvas.disc(point, radius, colour, ring=0.3 * radius)
    return canvas.flatten(0.9)


def _costs(
    image: Picture,
    points: Float[np.ndarray, "N 2"],
    pairwise: Float[np.ndarray, "N N"],
    labels: Integer[np.ndarray, " N"],
) -> Picture:
    canvas = Canvas(image)
    people, counts = np.unique(labels[labels >= 0], return_counts=True)
    if len(people):
        (own,) = np.nonzero(labels == people[counts.argmax()])
        costs = np.nan_to_num(pairwise)
        pairs = [(i, j) for i in own for j in own if i < j and costs[i, j]]
        for i, j in sorted(pairs, key=lambda pair: -costs[pair]):  # what joins lies on top
            certain = min(abs(float(costs[i, j])) / _CERTAIN, 1.0)
            colour = _JOIN if costs[i, j] < 0 else _PART
            canvas.line(points[i], points[j], colour, canvas.reference * 0.004 * certain)
        for i in own:
            canvas.disc(points[i], 0.006 * canvas.reference, _DOT)
    return canvas.flatten(0.9)
