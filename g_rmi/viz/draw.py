"""Drawing people, boxes and maps: a uint8 RGB picture in, a new one out.

Left and right limbs are blue and orange, in a shade for each person; the box and the middle of the
body have a colour of the person's own.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Integer, Shaped

from g_rmi.skeleton import COCO, Skeleton, side_of
from g_rmi.viz.canvas import Canvas, Colour, Picture, check

# Hue in degrees and chroma in OKLCh, where equal lightness looks equally light.
_SIDES = {"left": (252.0, 0.16), "right": (48.0, 0.18), "middle": (148.0, 0.17)}
_APART = 137.5  # The middle's hue turns by that from person to person: neighbours differ most.
# A person's shade: three lightnesses by five turns of the hue.
_LIGHTNESS = (0.74, 0.85, 0.64)
_TURN = (0.0, 22.0, -16.0, -28.0, 10.0)
_OUTLINE: Colour = (0, 0, 0, 165)
_PLATE: Colour = (14, 14, 18, 205)
_INK: Colour = (16, 16, 20, 255)
_PAPER: Colour = (245, 245, 245, 255)
_OPACITY = 0.92
_FURTHEST = 20_000.0


def draw_people(
    image: np.ndarray,
    keypoints: Float[np.ndarray, "N K 2"],
    keypoint_scores: Float[np.ndarray, "N K"],
    scores: Float[np.ndarray, " N"] | None = None,
    boxes: Float[np.ndarray, "N 4"] | None = None,
    *,
    ids: Integer[np.ndarray, " N"] | None = None,
    visibility: Integer[np.ndarray, "N K"] | None = None,
    skeleton: Skeleton = COCO,
    classes: Sequence[str] | Shaped[np.ndarray, " N"] | None = None,
    min_score: float = 0.3,
) -> Picture:
    """Draws people as sticks and discs; the best score lies on top.

    Args:
      image: uint8 RGB [H, W, 3], else a ValueError, here and below; left as it is.
      keypoints: In the image's pixels; may lie outside it.
      keypoint_scores: Joints below `min_score` are not drawn, nor are limbs that end in one.
      scores: Pose scores to write beside the people.
      boxes: `(x0, y0, x1, y1)` to draw.
      ids: Of people who are followed, -1 of others: gives their colours, and is written, too.
      visibility: COCO's v: 0 is not drawn, 1 (occluded) is hollow; see `likelier`.
      skeleton: Keypoint set.
      classes: Whose name is each one's, if it has several: only those joints are drawn, and the
        name is written, too.
      min_score: Smallest joint score to draw.
    """
    canvas = Canvas(image)
    shown = (keypoint_scores >= min_score) & (np.abs(keypoints) < _FURTHEST).all(-1)
    for n, name in enumerate(() if classes is None else classes):
        own = np.zeros(len(skeleton), bool)
        own[skeleton.blocks[name]] = True
        shown[n] &= own
    hollow = np.zeros_like(shown)
    if visibility is not None:
        shown, hollow = shown & (visibility > 0), visibility == 1
    # What is drawn first is covered by the rest.
    order = np.argsort(np.zeros(len(keypoints)) if scores is None else scores, kind="stable")
    numbers = range(len(keypoints)) if ids is None else ids.tolist()
    for n in order.tolist():
        if boxes is not None:
            _box(canvas, boxes[n], numbers[n])
        _person(canvas, keypoints[n], shown[n], hollow[n], numbers[n], skeleton)
    for n in order.tolist():
        words = [] if classes is None else [str(classes[n])]
        words += [f"#{ids[n]}"] if ids is not None and ids[n] >= 0 else []
        text = " ".join(words + ([] if scores is None else [f"{scores[n]:.2f}"]))
        if boxes is not None:
            _label(canvas, text, boxes[n : n + 1, :2])
        else:
            _label(canvas, text, keypoints[n][shown[n]], lines_above=1)
    return canvas.flatten(_OPACITY)


def likelier(visibility: Float[np.ndarray, "*N K"] | None) -> Integer[np.ndarray, "*N K"] | None:
    """COCO's v of joints that one sees with some probability: 2 from a half on, else 1."""
    return None if visibility is None else np.where(visibility < 0.5, 1, 2)


def draw_boxes(
    image: np.ndarray,
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"] | None = None,
) -> Picture:
    """Draws boxes `(x0, y0, x1, y1)`, scores at their corners; the best score lies on top."""
    no_joints = np.zeros((len(boxes), 0, 2))
    return draw_people(image, no_joints, no_joints[..., 0], scores, boxes)


def _box(canvas: Canvas, box: np.ndarray, number: int) -> None:
    if (np.abs(box) < _FURTHEST).all():
        width = max(1.0, 0.003 * canvas.reference)
        canvas.box(box, _OUTLINE, 1.8 * width)
        canvas.box(box, _colour("middle", number), width)


def _label(canvas: Canvas, text: str, points: np.ndarray, *, lines_above: int = 0) -> None:
    """Writes a text, if there is any, at the upper left of some points."""
    if text and len(points) and np.isfinite(points).all():
        x, y = points.min(axis=0).tolist()
        size = max(6.0, 0.02 * canvas.reference)
        y -= lines_above * size
        canvas.label(text, x, y, size, ink=_PAPER, plate=_PLATE)


def _person(
    canvas: Canvas,
    joints: np.ndarray,
    shown: np.ndarray,
    hollow: np.ndarray,
    number: int,
    skeleton: Skeleton,
) -> None:
    if not shown.any():
        return
    extent = float(np.ptp(joints[shown], axis=0).max())
    low, high = 0.0045 * canvas.reference, 0.011 * canvas.reference
    width = max(1.1, float(np.clip(0.022 * extent, low, high)))
    edge = max(0.6, 0.22 * width)
    limbs = [limb for limb in skeleton.limbs if shown[list(limb)].all()]
    for a, b in limbs:
        canvas.line(joints[a], joints[b], _OUTLINE, width + 2 * edge)
    for a, b in limbs:
        canvas.line(joints[a], joints[b], _colour(_limb_side(skeleton, a, b), number), width)
    for k in np.flatnonzero(shown):
        # Discs shrink where joints crowd, as on a small face.
        distances = np.linalg.norm(joints[shown] - joints[k], axis=-1)
        near = min(distances[distances > 0], default=np.inf)
        radius = float(np.clip(0.4 * near, 0.7 * width, 1.05 * width))
        colour = _colour(_side(skeleton.names[k]), number, lighter=0.08)
        canvas.disc(joints[k], radius + edge, _OUTLINE)
        if hollow[k]:
            canvas.disc(joints[k], radius, (20, 20, 20, 255))
            canvas.disc(joints[k], radius, colour, ring=max(0.8, 0.45 * radius))
        else:
            canvas.disc(joints[k], radius, colour)


def _side(name: str) -> str:
    return side_of(name) or "middle"


def _limb_side(skeleton: Skeleton, a: int, b: int) -> str:
    """The side of a limb that has only one; a limb from side to side is a middle one."""
    sides = {_side(skeleton.names[a]), _side(skeleton.names[b])} - {"middle"}
    return sides.pop() if len(sides) == 1 else "middle"


def _colour(side: str, number: int, *, lighter: float = 0.0) -> Colour:
    """The person's shade of a side, from OKLCh to sRGB."""
    hue, chroma = _SIDES[side]
    lightness = min(_LIGHTNESS[number % len(_LIGHTNESS)] + lighter, 0.97)
    turn = _APART * number if side == "middle" else _TURN[number % len(_TURN)]
    angle = np.deg2rad(hue + turn)
    oklab = np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])
    lms = np.dot(_OKLAB_TO_LMS, oklab) ** 3
    linear = np.clip(np.dot(_LMS_TO_RGB, lms), 0, 1)
    rgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    red, green, blue = np.round(255 * rgb).astype(int).tolist()
    return red, green, blue, 255


_OKLAB_TO_LMS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_LMS_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def draw_heatmap(
    image: np.ndarray,
    heatmap: Float[np.ndarray, "h w"],
    *,
    maximum: float | None = None,
) -> Picture:
    """Lays a map over a picture in perceptually even colours; where it is zero nothing changes.

    The map has any resolution; its corner cells lie on the image's corner pixels. `maximum` gets
    the brightest colour: the map's own by default.
    """
    check(image)
    height, width = image.shape[:2]
    rows = np.linspace(0, heatmap.shape[0] - 1, height, dtype=np.float32)
    columns = np.linspace(0, heatmap.shape[1] - 1, width, dtype=np.float32)
    grid = np.meshgrid(columns, rows)
    values = np.nan_to_num(heatmap.astype(np.float32), posinf=0, neginf=0)
    values = cv2.remap(values, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    top = float(values.max()) if maximum is None else maximum
    share = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    bgr = cv2.applyColorMap(np.round(255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = 0.8 * share[..., None] ** 0.75
    return np.round(image * (1 - alpha) + bgr[..., ::-1] * alpha).astype(np.uint8)


def contact_sheet(
    images: Sequence[np.ndarray],
    *,
    columns: int = 4,
    cell: tuple[int, int] = (256, 256),
    titles: Sequence[str] | None = None,
) -> Picture:
    """Pictures of any sizes in a grid, row by row, each fitted into its cell, never squashed.

    A cell has height and width in pixels, and a title, if there are any, below it.

    Raises:
      ValueError: A picture is not uint8 RGB, or the titles are not as many.
    """
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} pictures")
    height, width = cell
    gap = max(2, min(cell) // 64)
    size = float(np.clip(0.04 * min(cell), 7, 20))
    line = 0 if titles is None else round(2 * size)
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    shape = (rows * (height + line + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, _PAPER[0], np.uint8)
    for i, image in enumerate(images):
        check(image)
        top = gap + (i // columns) * (height + line + gap)
        left = gap + (i % columns) * (width + gap)
        scale = min(height / image.shape[0], width / image.shape[1])
        h, w = (max(1, round(side * scale)) for side in image.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        y, x = top + height - h, left + (width - w) // 2
        sheet[y : y + h, x : x + w] = cv2.resize(image, (w, h), interpolation=method)
        if titles is not None:
            strip = slice(top + height, top + height + line), slice(left, left + width)
            canvas = Canvas(sheet[strip])
            canvas.label(titles[i], float(x - left), float(line), size, ink=_INK, plate=_PAPER)
            sheet[strip] = canvas.flatten()
    return sheet


def compare(
    image: np.ndarray,
    truth: Float[np.ndarray, "M K 2"],
    visibility: Integer[np.ndarray, "M K"],
    keypoints: Float[np.ndarray, "N K 2"],
    keypoint_scores: Float[np.ndarray, "N K"],
    scores: Float[np.ndarray, " N"] | None = None,
    *,
    found_visibility: Integer[np.ndarray, "N K"] | None = None,
    skeleton: Skeleton = COCO,
    min_score: float = 0.2,
) -> Picture:
    """Labels, with COCO's v, on the left, predictions on the right, as `draw_people` draws them."""
    ones = np.ones(visibility.shape)
    left = draw_people(image, truth, ones, visibility=visibility, skeleton=skeleton)
    right = draw_people(
        image,
        keypoints,
        keypoint_scores,
        scores,
        visibility=found_visibility,
        skeleton=skeleton,
        min_score=min_score,
    )
    return _pair(left, right)


def compare_boxes(
    image: np.ndarray,
    truth: Float[np.ndarray, "M 4"],
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"] | None = None,
) -> Picture:
    """Annotated boxes on the left, found ones with their scores on the right."""
    return _pair(draw_boxes(image, truth), draw_boxes(image, boxes, scores))


def _pair(truth: np.ndarray, found: np.ndarray) -> Picture:
    cell = truth.shape[:2]
    return contact_sheet([truth, found], columns=2, cell=cell, titles=["truth", "found"])
