"""Things that belong to nobody: seats, carried objects, furniture and poles in front."""

import numpy as np

from data_pipeline.synthetic.body import Brush, cloth, cloth_colour, skin_colour
from data_pipeline.synthetic.render import OBJECT, OVERSAMPLE, Canvas, Material, Number, Sweep

_CARRIED = ("bag", "backpack", "stick", "racket", "ball", "board", "phone", "box")
_DOWN = np.array([0.0, 1.0, 0.0])  # camera frame


def accompany(rng: np.random.Generator, brush: Brush) -> None:
    """Gives a figure a seat or something to carry."""
    material = brush.canvas.add(cloth(rng, OBJECT, cloth_colour(rng), plain=0.7))
    if brush.figure.posture == "sit":
        if rng.random() < 0.8:
            _seat(rng, brush, material)
    elif rng.random() < 0.3:
        _carry(rng, brush, material, str(rng.choice(_CARRIED)))


def _seat(rng: np.random.Generator, brush: Brush, material: int) -> None:
    frame, pelvis = brush.figure.frames["pelvis"], brush.figure.points["pelvis"]
    base = pelvis + frame @ np.array([0, -0.15, 0.1])
    wide = rng.uniform(0.22, 0.6)
    brush.part(base, base, (1, 1), material, frame="pelvis", axes=(wide, 0.05, 0.28))
    if rng.random() < 0.6:
        back = pelvis + frame @ np.array([0, 0.1, -0.2])
        top = back + frame @ np.array([0, 0.35, -0.03])
        brush.part(back, top, (1, 1), material, frame="pelvis", axes=(0.9 * wide, 0.06, 0.05))
    for x in (-0.8 * wide, 0.8 * wide):
        leg = base + frame @ np.array([x, 0, 0.15])
        brush.part(leg, leg + _DOWN * 0.38, (0.025, 0.02), material, frame="pelvis")


def _carry(rng: np.random.Generator, brush: Brush, material: int, kind: str) -> None:
    points, chest = brush.figure.points, brush.figure.frames["chest"]
    hand = points[str(rng.choice(["left_hand", "right_hand"]))]
    both = (points["left_hand"] + points["right_hand"]) / 2

    def blob(at: np.ndarray, axes: tuple[Number, Number, Number], to: np.ndarray | None = None):
        end = at if to is None else to
        brush.part(at, end, (1, 1), material, frame="chest", axes=axes)

    if kind == "bag":
        size = rng.uniform(0.10, 0.2)
        at = hand + _DOWN * (size + 0.16)
        blob(at, (size, 0.9 * size, 0.6 * size))
        brush.part(hand, at, (0.012, 0.012), material, frame="chest")
    elif kind == "backpack":
        at = points["thorax"] + chest @ np.array([0, 0.02, -0.2])
        blob(at, (0.17, 0.12, 0.12), at - chest[:, 1] * 0.2)
    elif kind in ("stick", "racket"):
        direction = chest @ rng.normal((0, 0.3, 0.4), 0.5)
        direction /= np.linalg.norm(direction)
        end = hand + direction * (rng.uniform(0.5, 1.1) if kind == "stick" else 0.45)
        brush.part(hand - 0.1 * direction, end, (0.015, 0.022), material, frame="chest")
        if kind == "racket":
            blob(end, (0.13, 0.16, 0.02))
    elif kind == "ball":
        size = rng.uniform(0.05, 0.15)
        at = hand + chest @ rng.normal((0, 0, 0.2), 0.12)
        blob(at, (size, size, size))
    elif kind == "board":
        blob(hand + _DOWN * 0.1, (0.04, rng.uniform(0.3, 0.9), 0.22))
    elif kind == "phone":
        blob(hand, (0.04, 0.08, 0.015))
    else:
        size = rng.uniform(0.10, 0.22)
        blob(both + chest @ np.array([0, 0, 0.1]), (size, 0.7 * size, 0.6 * size))


def obstruct(rng: np.random.Generator, canvas: Canvas, depth: float, row: float) -> None:
    """Puts something in front of whoever is farther than `depth` metres.

    `row` is the sample row of the ground at that depth, for things that stand on it.
    """
    height, width = canvas.depth.shape
    material = canvas.add(cloth(rng, OBJECT, cloth_colour(rng), plain=0.55))
    x, kind = rng.uniform(0, width), rng.random()
    level = rng.uniform(0.6, 1.0)
    texel = rng.uniform(0.6, 3.0) * OVERSAMPLE
    if kind < 0.35:  # table, counter, wall, car
        w = np.exp(rng.uniform(np.log(0.1), np.log(0.9))) * width
        h = rng.uniform(0.08, 0.3) * height
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
        corners[:2, 0] *= rng.uniform(0.6, 1.05)
        corners += np.array([x, min(row, height * 1.02) - h / 2])
        canvas.polygon(corners, depth, material, texel_size=texel, level=level)
        top = corners[[0, 1, 1, 0]]
        top[2:] += [[-0.1 * w, -0.1 * h], [0.1 * w, -0.1 * h]]
        canvas.polygon(top, depth, material, texel_size=texel, level=1.15 * level)
    elif kind < 0.6:  # pole, trunk, rail
        thick = np.exp(rng.uniform(np.log(1.5), np.log(14))) * OVERSAMPLE / 2
        tilt = rng.normal(0, 0.06) * height
        start, end = (x, -20.0, depth), (x + tilt, min(row, height + 20.0), depth)
        if rng.random() < 0.35:
            y = rng.uniform(0.35, 1.0) * height
            start, end = (-20.0, y, depth), (width + 20.0, y + tilt, depth)
        canvas.sweep(Sweep(start, end, (thick, thick), 1.0, material, span=(0, 4)))
    elif kind < 0.8:  # leaves, flowers, clutter on a shelf
        size = rng.uniform(0.03, 0.14) * height
        centre = np.array([x, rng.uniform(0.4, 1.1) * height])
        for _ in range(rng.integers(5, 16)):
            at, r = rng.normal(centre, size), size * rng.uniform(0.15, 0.5)
            ends = (at[0], at[1], depth), (*(at + rng.normal(0, r, 2)), depth)
            canvas.sweep(Sweep(*ends, (r, 0.6 * r), 1.0, material))
    else:  # somebody's arm-like stick at the border, a ball, a screen
        at = np.array([x, rng.uniform(0.5, 1.05) * height])
        rgb = skin_colour(rng) if rng.random() < 0.4 else cloth_colour(rng)
        stick = canvas.add(Material(OBJECT, rgb, rgb))
        r = rng.uniform(0.012, 0.05) * width
        end = at + rng.normal(0, 5 * r, 2)
        canvas.sweep(Sweep((*at, depth), (*end, depth), (r, 0.7 * r), 1.0, stick))
