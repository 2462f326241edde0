"""Articulated 3-D figures: body proportions, plausible postures, and the joints they lead to.

Body frame, in metres, origin between the hips: x to the figure's left, y up, z forward. A figure
that faces the camera therefore has its left on the picture's right.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "3"]
Rotation = Float[np.ndarray, "3 3"]
Spread = tuple[int, int]
SIDES = (("left", 1.0), ("right", -1.0))


@dataclasses.dataclass(frozen=True)
class Build:
    """Lengths of one body in metres, from anthropometric shares of the standing height."""

    height: float
    head: float  # scale of the head; 1 is an adult's, 23 cm from chin to crown
    girth: float  # scale of all radii
    shoulder: float  # half the distance between the shoulder joints
    hip: float
    torso: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float


@dataclasses.dataclass(frozen=True)
class Figure:
    """Points (metres) and local frames (columns: left, up, forward) by name."""

    points: Mapping[str, Vector]
    frames: Mapping[str, Rotation]
    posture: str

    def rotate(self, rotation: Rotation) -> "Figure":
        """The figure turned around the middle of its hips."""
        return Figure(
            {name: rotation @ point for name, point in self.points.items()},
            {name: rotation @ frame for name, frame in self.frames.items()},
            self.posture,
        )


def turn(axis: int, degrees: float) -> Rotation:
    """Rotation about x (0), y (1) or z (2) by the right-hand rule."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[i, i] = rotation[j, j] = cos
    rotation[i, j], rotation[j, i] = -sin, sin
    return rotation


def sample_build(rng: np.random.Generator) -> Build:
    """An adult, or for one in seven a child with a larger head and shorter legs."""
    if rng.random() < 0.14:
        height = rng.uniform(0.9, 1.45)
        youth = (1.6 - height) / 0.7
    else:
        height, youth = float(np.clip(rng.normal(1.71, 0.09), 1.48, 1.98)), 0.0
    vary = rng.normal(1.0, 0.04, 8)
    return Build(
        height=height,
        head=(1.0 - 0.12 * youth) * vary[0],
        girth=height / 1.71 * (1 + 0.12 * youth) * float(np.exp(rng.normal(0.02, 0.12))),
        shoulder=0.108 * height * vary[1],
        hip=0.064 * height * vary[2],
        torso=0.288 * height * vary[3] * (1 + 0.06 * youth),
        upper_arm=0.172 * height * vary[4],
        forearm=0.146 * height * vary[5],
        thigh=0.245 * height * vary[6] * (1 - 0.1 * youth),
        shin=0.246 * height * vary[7] * (1 - 0.1 * youth),
    )


# Hand targets of the left arm, from the shoulder, in arm lengths (left, up, forward): mean, spread.
_HANDS = {
    "hang": ((0.12, -0.95, 0.08), (0.10, 0.04, 0.12)),
    "pocket": ((0.06, -0.74, 0.06), (0.05, 0.06, 0.10)),
    "hold": ((-0.15, -0.42, 0.45), (0.15, 0.15, 0.15)),
    "chest": ((-0.38, -0.30, 0.28), (0.10, 0.10, 0.06)),
    "face": ((-0.16, 0.14, 0.28), (0.10, 0.14, 0.10)),
    "up": ((0.20, 0.75, 0.20), (0.25, 0.20, 0.25)),
    "out": ((0.75, -0.25, 0.10), (0.20, 0.35, 0.25)),
    "reach": ((-0.05, -0.25, 0.82), (0.25, 0.30, 0.15)),
    "back": ((-0.10, -0.62, -0.28), (0.12, 0.08, 0.08)),
    "swing": ((0.10, -0.55, 0.35), (0.12, 0.15, 0.35)),
    "down": ((-0.05, -0.85, 0.35), (0.15, 0.15, 0.20)),
    "any": ((0.25, -0.2, 0.30), (0.40, 0.45, 0.40)),
}


@dataclasses.dataclass(frozen=True)
class _Posture:
    """Angles in degrees as (mean, spread); thighs from the vertical, not from the pelvis."""

    weight: float
    lean: Spread
    spine: Spread
    thighs: tuple[Spread, Spread]
    knees: tuple[Spread, Spread]
    abduction: Spread
    arms: str
    tilt: int = 3  # spread of the sideways lean of the whole body


_POSTURES = {
    "stand": _Posture(0.33, (1, 4), (2, 5), ((3, 5), (1, 5)), ((5, 5), (5, 5)),
        (4, 4), "hang hang hang pocket hold hold hold chest face back reach up out"),
    "walk": _Posture(0.12, (4, 4), (3, 4), ((22, 8), (-14, 6)), ((12, 8), (22, 12)),
        (2, 3), "swing swing hang hold hold"),
    "run": _Posture(0.07, (13, 7), (5, 6), ((48, 16), (-16, 12)), ((70, 22), (58, 28)),
        (2, 4), "swing swing hold any", tilt=7),
    "athletic": _Posture(0.14, (24, 13), (10, 9), ((48, 18), (38, 20)), ((58, 22), (52, 24)),
        (17, 8), "out hold hold any swing reach swing down", tilt=9),
    "lunge": _Posture(0.05, (12, 12), (5, 8), ((62, 15), (-22, 12)), ((70, 18), (28, 16)),
        (8, 7), "out any hold reach hold swing", tilt=9),
    "sit": _Posture(0.15, (-3, 9), (10, 8), ((84, 10), (84, 10)), ((82, 16), (80, 20)),
        (9, 8), "hold hold hold down face chest reach"),
    "ride": _Posture(0.04, (26, 12), (14, 8), ((70, 12), (42, 12)), ((82, 14), (55, 14)),
        (6, 5), "reach reach down"),
    "squat": _Posture(0.03, (22, 10), (16, 8), ((108, 14), (102, 18)), ((122, 14), (118, 16)),
        (14, 9), "hold down reach any"),
    "kneel": _Posture(0.02, (8, 10), (8, 8), ((78, 12), (2, 10)), ((88, 12), (88, 12)),
        (8, 6), "hold down any"),
    "bend": _Posture(0.04, (58, 18), (18, 9), ((12, 10), (6, 10)), ((22, 14), (22, 14)),
        (8, 6), "reach down hold"),
    "leap": _Posture(0.03, (5, 18), (0, 12), ((55, 35), (10, 35)), ((65, 35), (55, 35)),
        (18, 12), "up out any", tilt=16),
    "lie": _Posture(0.02, (0, 6), (4, 8), ((18, 20), (10, 15)), ((25, 22), (20, 20)),
        (8, 6), "hang any up chest hold"),
}  # fmt: skip
_WEIGHTS = np.array([p.weight for p in _POSTURES.values()])


def _reach(
    shoulder: Vector, hand: Vector, hint: Vector, upper: float, lower: float
) -> tuple[Vector, Vector]:
    """Elbow and wrist of a two-bone arm that stretches towards `hand`, elbow towards `hint`."""
    span = hand - shoulder
    distance = np.linalg.norm(span)
    direction = span / max(distance, 1e-6)
    distance = np.clip(distance, 1.05 * abs(upper - lower) + 0.25 * lower, 0.998 * (upper + lower))
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    across = hint - direction * (hint @ direction)
    across /= max(np.linalg.norm(across), 1e-6)
    out = np.sqrt(max(upper**2 - along**2, 0.0))
    return shoulder + direction * along + across * out, shoulder + direction * distance


def _arms(
    rng: np.random.Generator, points: dict[str, Vector], frames: dict, build: Build, modes: str
) -> None:
    choices = modes.split()
    both = rng.choice(choices)
    symmetric = rng.random() < 0.5
    chest, bones = frames["chest"], (build.upper_arm, build.forearm)
    for side, sign in SIDES:
        mode = both if symmetric else rng.choice(choices)
        offset = rng.normal(*_HANDS[mode]) * sum(bones)
        hint = np.array([0.55, -0.5, -0.6]) + rng.normal(0, 0.25, 3)
        if mode == "pocket":
            hint = np.array([0.8, 0.0, -0.6]) + rng.normal(0, 0.2, 3)
        mirror = np.array([sign, 1.0, 1.0])
        shoulder = points[f"{side}_shoulder"]
        hand = shoulder + chest @ (mirror * offset)
        elbow, wrist = _reach(shoulder, hand, chest @ (mirror * hint), *bones)
        along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
        palm = along + chest @ (mirror * rng.normal((-0.2, 0.0, 0.2), 0.25))
        points[f"{side}_elbow"], points[f"{side}_wrist"] = elbow, wrist
        points[f"{side}_hand"] = wrist + palm / np.linalg.norm(palm) * 0.055 * build.height
        frames[f"{side}_arm"] = chest


def _legs(
    rng: np.random.Generator, points: dict[str, Vector], frames: dict, build: Build, p: _Posture
) -> None:
    order = (0, 1) if rng.random() < 0.5 else (1, 0)
    for (side, sign), leg in zip(SIDES, order, strict=True):
        flexion = rng.normal(*p.thighs[leg])
        knee = np.clip(rng.normal(*p.knees[leg]), 0, 150)
        spread = rng.normal(*p.abduction)
        twist = rng.normal(8, 9)
        thigh = turn(2, sign * spread) @ turn(0, -flexion) @ turn(1, sign * twist)
        shin = thigh @ turn(0, knee)
        foot = shin @ turn(0, rng.normal(4, 9)) @ turn(1, sign * rng.normal(5, 7))
        hip = points[f"{side}_hip"]
        points[f"{side}_knee"] = hip + thigh @ np.array([0, -build.thigh, 0])
        ankle = points[f"{side}_knee"] + shin @ np.array([0, -build.shin, 0])
        points[f"{side}_ankle"] = ankle
        points[f"{side}_heel"] = ankle + foot @ np.array([0, -0.028, -0.02]) * build.height
        points[f"{side}_toe"] = ankle + foot @ np.array([0, -0.034, 0.085]) * build.height
        frames[f"{side}_thigh"], frames[f"{side}_shin"], frames[f"{side}_foot"] = thigh, shin, foot


# Landmarks of an adult head in metres, from its centre (level with the eyes).
FACE = {
    "nose": (0.0, -0.036, 0.106),
    "left_eye": (0.032, 0.002, 0.083),
    "right_eye": (-0.032, 0.002, 0.083),
    "left_ear": (0.076, -0.014, -0.010),
    "right_ear": (-0.076, -0.014, -0.010),
}


def _head(rng: np.random.Generator, points: dict[str, Vector], frames: dict, build: Build) -> None:
    chest = frames["chest"]
    nod, shake, tilt = rng.normal(8, 14), rng.normal(0, 24), rng.normal(0, 7)
    # A leaning figure looks ahead: half of the torso's forward lean is taken back at the neck.
    lean = np.degrees(np.arctan2(chest[2, 1], max(chest[1, 1], 0.2)))
    neck = chest @ turn(0, np.clip(0.5 * nod - 0.3 * lean, -35, 40)) @ turn(2, tilt)
    frame = neck @ turn(1, shake) @ turn(0, np.clip(0.5 * nod - 0.25 * lean, -35, 40))
    base = points["neck"]
    points["skull_base"] = base + neck @ np.array([0, 0.056 * build.height, 0.012])
    centre = points["skull_base"] + frame @ np.array([0, 0.085, 0.025]) * build.head
    points["head"] = centre
    frames["head"], frames["neck"] = frame, neck
    for name, offset in FACE.items():
        points[name] = centre + frame @ np.array(offset) * build.head


def sample_figure(rng: np.random.Generator, build: Build) -> Figure:
    """Draws a posture: COCO's joints and the further points the drawing needs, in the body frame.

    It faces forward, upright; a lying figure is already turned onto its back, front or side.
    """
    name = list(_POSTURES)[rng.choice(len(_POSTURES), p=_WEIGHTS / _WEIGHTS.sum())]
    p = _POSTURES[name]
    root = turn(2, rng.normal(0, p.tilt)) @ turn(0, rng.normal(*p.lean))
    bend = rng.normal(*p.spine)
    side_bend, twist = rng.normal(0, 5), rng.normal(0, 9)
    middle = root @ turn(2, side_bend / 2) @ turn(0, bend / 2) @ turn(1, twist / 2)
    chest = middle @ turn(2, side_bend / 2) @ turn(0, bend / 2) @ turn(1, twist / 2)
    frames = {"pelvis": root, "chest": chest}
    waist = root @ np.array([0, 0.36 * build.torso, 0])
    top = waist + middle @ np.array([0, 0.28 * build.torso, 0])
    neck = top + chest @ np.array([0, 0.42 * build.torso, -0.005])
    points = {"pelvis": np.zeros(3), "waist": waist, "thorax": top, "neck": neck}
    shrug = rng.normal(0, 0.012, 2)
    for (side, sign), lift in zip(SIDES, shrug, strict=True):
        points[f"{side}_hip"] = root @ np.array([sign * build.hip, 0, 0])
        offset = np.array([sign * build.shoulder, 0.36 * build.torso + lift, 0.0])
        points[f"{side}_shoulder"] = top + chest @ offset
    _head(rng, points, frames, build)
    _arms(rng, points, frames, build, p.arms)
    _legs(rng, points, frames, build, p)
    figure = Figure(points, frames, name)
    if name == "lie":
        figure = figure.rotate(turn(0, rng.choice([-90.0, 90.0])) @ turn(1, rng.uniform(-90, 90)))
    return figure
