"""Clothes and flesh: turns a figure into swept ellipsoids with materials."""

import dataclasses

import numpy as np
from jaxtyping import Float

from data_pipeline.synthetic.pose import FACE, SIDES, Build, Figure
from data_pipeline.synthetic.render import Canvas, Colour, Material, Number, Sweep, textures

# Below this many samples per metre a face is a few pixels wide and its features are left out.
FACE_SCALE = 60.0

_SKIN = (
    (238, 200, 172), (224, 178, 148), (202, 150, 116), (166, 114, 82), (118, 78, 54), (78, 52, 38),
)  # fmt: skip
_HAIR = (
    (24, 20, 18), (52, 36, 26), (92, 62, 38), (150, 112, 66), (202, 170, 112), (128, 56, 30),
    (150, 148, 146),
)  # fmt: skip
_CLOTH = (
    (245, 245, 245), (20, 20, 24), (38, 44, 70), (52, 78, 130), (150, 30, 36), (96, 96, 100),
    (60, 84, 58), (196, 178, 146), (210, 70, 50), (232, 196, 70), (70, 130, 180), (120, 70, 110),
    (90, 62, 44), (170, 200, 220), (230, 150, 170), (40, 120, 100),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class View:
    """Where a figure stands in the picture."""

    x: float  # sample column of the middle of its hips
    y: float  # sample row of the same
    scale: float  # samples per metre there
    depth: float  # metres from the camera; orders the people
    distance: float  # metres that set the strength of the perspective within the body

    def scale_at(self, z: float) -> float:
        """Samples per metre, z metres behind the hips."""
        return self.scale * self.distance / max(self.distance + z, 0.3 * self.distance)

    def project(self, point: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
        """Camera-frame metres around the hips to (x, y, depth)."""
        scale, (x, y, z) = self.scale_at(point[2]), point
        return float(self.x + scale * x), float(self.y + scale * y), float(self.depth + z)


def colour(rng: np.random.Generator, palette: tuple, spread: float = 14.0) -> Colour:
    """A colour near one of the palette's."""
    base = np.array(palette[rng.integers(len(palette))])
    return tuple(np.clip(base * rng.uniform(0.8, 1.15) + rng.normal(0, spread, 3), 6, 250))


def cloth_colour(rng: np.random.Generator) -> Colour:
    """A colour clothes come in, now and then any at all."""
    if rng.random() < 0.2:
        return tuple(rng.uniform(10, 245, 3))
    return colour(rng, _CLOTH)


def skin_colour(rng: np.random.Generator) -> Colour:
    """A skin colour."""
    return colour(rng, _SKIN, 5.0)


def cloth(rng: np.random.Generator, owner: int, base: Colour, *, plain: float) -> Material:
    """A material with the given main colour: plain with this probability, else patterned."""
    _, _, tiles = textures()
    if rng.random() < plain:
        lighter = tuple(min(c * 1.25 + 8, 255) for c in base)
        return Material(owner, base, lighter, 0, rng.uniform(0.25, 0.6))
    other = cloth_colour(rng)
    return Material(owner, base, other, int(rng.integers(1, tiles)), rng.uniform(0.15, 0.5))


@dataclasses.dataclass(frozen=True)
class Wardrobe:
    """Material indices of one person and the cut of the clothes (shares of a limb's length)."""

    skin: int
    hair: int
    top: int
    sleeve: int
    bottom: int
    shoe: int
    hat: int
    sleeve_cut: float
    leg_cut: float
    skirt: float
    coat: float
    slack: float
    hair_length: float
    has_hat: bool
    beard: bool
    glasses: bool
    bald: bool


def dress(rng: np.random.Generator, canvas: Canvas, owner: int, style: Colour | None) -> Wardrobe:
    """Draws a person's clothes, hair and skin; `style` is the top's main colour, for teams."""
    bank, _, tiles = textures()
    skin_rgb = skin_colour(rng)
    skin = Material(owner, skin_rgb, tuple(c * 0.93 for c in skin_rgb), 0, 0.06)
    base = style or cloth_colour(rng)
    plain = cloth(rng, owner, base, plain=0.55)
    top = plain
    if rng.random() < 0.45:
        tile = int(rng.integers(tiles, len(bank)))
        top = Material(owner, base, cloth_colour(rng), tile, plain.folds)
    bare = rng.random() < 0.05
    hair_rgb = colour(rng, _HAIR, 6.0)
    hair = Material(owner, hair_rgb, tuple(min(1.3 * c + 8, 255) for c in hair_rgb), 2, 0.4)
    trousers = cloth(rng, owner, cloth_colour(rng), plain=0.8)
    kind = rng.random()
    shorts, skirt = kind < 0.27, 0.27 <= kind < 0.38
    add = canvas.add
    index = {
        "skin": add(skin),
        "hair": add(hair),
        "top": add(skin if bare else top),
        "sleeve": add(skin if bare else plain),
        "bottom": add(plain if skirt and rng.random() < 0.5 else trousers),
        "shoe": add(cloth(rng, owner, colour(rng, _CLOTH[:8]), plain=0.8)),
        "hat": add(cloth(rng, owner, cloth_colour(rng), plain=0.8)),
    }
    sleeves = rng.random()
    sleeve_cut = 0.0 if sleeves < 0.1 else rng.uniform(0.25, 0.6) if sleeves < 0.55 else 2.0
    short = rng.uniform(0.35, 1.05) if shorts else 0.0
    return Wardrobe(
        **index,
        sleeve_cut=sleeve_cut,
        leg_cut=short if shorts or skirt else rng.choice([1.95, 1.95, 1.7]),
        skirt=rng.uniform(0.45, 1.6) if skirt else 0.0,
        coat=rng.uniform(0.2, 0.8) if rng.random() < 0.08 else 0.0,
        slack=rng.uniform(1.02, 1.22),
        hair_length=rng.uniform(0.5, 1.6) if rng.random() < 0.38 else 0.0,
        has_hat=rng.random() < 0.2,
        beard=rng.random() < 0.12,
        glasses=rng.random() < 0.12,
        bald=rng.random() < 0.05,
    )


@dataclasses.dataclass(frozen=True)
class Brush:
    """Draws sweeps between points of a camera-frame figure."""

    canvas: Canvas
    figure: Figure
    view: View

    def part(
        self,
        start: str | np.ndarray,
        end: str | np.ndarray,
        radii: tuple[Number, Number],
        material: int,
        *,
        frame: str,
        axes: tuple[Number, Number, Number] | None = None,
        **options,
    ) -> None:
        """A sweep between two points of the figure (names or camera-frame metres)."""
        points = self.figure.points
        a, b = (points[p] if isinstance(p, str) else p for p in (start, end))
        local = self.figure.frames[frame]
        first, last = self.view.scale_at(a[2]), self.view.scale_at(b[2])
        scale = (first + last) / 2
        self.canvas.sweep(
            Sweep(
                start=self.view.project(a),
                end=self.view.project(b),
                radii=(radii[0] * first / scale, radii[1] * last / scale),
                scale=scale,
                material=material,
                axes=None if axes is None else local * np.asarray(axes),
                lateral=local[:, 0],
                front=local[:, 2],
                **options,
            )
        )


@dataclasses.dataclass(frozen=True)
class Sculptor(Brush):
    """Draws one person, part by part."""

    build: Build
    wear: Wardrobe

    def draw(self) -> None:
        """The whole person."""
        for side, _ in SIDES:
            self.arm(side)
        self.head()
        for side, _ in SIDES:
            self.leg(side)
        self.torso()

    def torso(self) -> None:
        """Hips, belly, chest and shoulders; a skirt or coat where the wardrobe has one."""
        p, f, w, g = self.figure.points, self.figure.frames, self.wear, self.build.girth
        top, slack = w.top, w.slack
        self.part("left_hip", "right_hip", (0.098 * g, 0.098 * g), w.bottom, frame="pelvis")
        axes = (0.150 * g * slack, 0.09 * g, 0.112 * g * slack)
        low = p["pelvis"] + f["pelvis"][:, 1] * (0.02 if slack < 1.1 else -0.04)
        self.part(low, "waist", (1.02, 0.94), top, frame="pelvis", axes=axes, span=(0.02, 0.4))
        high = p["thorax"] + f["chest"][:, 1] * 0.21 * self.build.torso
        axes = (0.92 * self.build.shoulder * slack**0.5, 0.085 * g, 0.118 * g * slack)
        self.part("waist", high, (0.90, 1.0), top, frame="chest", axes=axes, span=(0.4, 0.86))
        shoulders = p["left_shoulder"], p["right_shoulder"]
        left, right = (shoulder - f["chest"][:, 1] * 0.012 for shoulder in shoulders)
        bar, slope = (0.064 * g, 0.064 * g), (0.062 * g, 0.052 * g)
        self.part(left, right, bar, top, frame="chest", span=(0.9, 0.92))
        for shoulder in shoulders:
            self.part("neck", shoulder, slope, top, frame="chest", span=(0.96, 0.9))
        for length, material in ((w.skirt, w.bottom), (w.coat, w.sleeve)):
            if length:
                self._skirt(length, material)

    def _skirt(self, length: float, material: int) -> None:
        p, g = self.figure.points, self.build.girth
        knees = (p["left_knee"] + p["right_knee"]) / 2
        ankles = (p["left_ankle"] + p["right_ankle"]) / 2
        hem = p["pelvis"] + (knees - p["pelvis"]) * min(length, 1.0)
        spread = np.linalg.norm(p["left_knee"] - p["right_knee"]) * min(length, 1.0) / 2
        wide = float(np.clip((0.10 + spread) / 0.16, 1.0, 1.9))
        axes = (0.165 * g, 0.05, 0.125 * g)
        self.part("pelvis", hem, (1.0, wide), material, frame="pelvis", axes=axes)
        if length > 1.0:
            end = knees + (ankles - knees) * (length - 1.0)
            self.part(hem, end, (wide, wide * 1.1), material, frame="pelvis", axes=axes)

    def leg(self, side: str) -> None:
        """Thigh, shin and foot, in trousers down to the wardrobe's cut."""
        p, w, g = self.figure.points, self.wear, self.build.girth
        loose = 0.004 + 0.05 * max(w.slack - 1.05, 0.0)
        thigh = (0.088 * g + loose, 0.056 * g + loose)
        self.part(
            f"{side}_hip", f"{side}_knee", thigh, w.bottom, frame=f"{side}_thigh",
            beyond=w.skin, cut=w.leg_cut, step=loose, span=(0, 0.9),
        )  # fmt: skip
        cut = max(w.leg_cut - 1.0, 0.0)
        covered = loose if cut else 0.0
        self.part(
            f"{side}_knee", f"{side}_ankle", (0.054 * g + covered, 0.036 * g + covered),
            w.bottom if cut else w.skin, frame=f"{side}_shin", bulge=0.008 * g,
            beyond=w.skin if cut else -1, cut=cut or 2.0, step=loose, span=(0.9, 1.8),
        )  # fmt: skip
        heel, toe, ankle = (p[f"{side}_{name}"] for name in ("heel", "toe", "ankle"))
        size = 0.035 * self.build.height / 1.71
        self.part(heel, toe, (size, 0.82 * size), w.shoe, frame=f"{side}_foot")
        self.part(ankle, (heel + toe) / 2, (1.25 * size, size), w.shoe, frame=f"{side}_foot")

    def arm(self, side: str) -> None:
        """Upper arm, forearm and hand, in a sleeve down to the wardrobe's cut."""
        p, w, g = self.figure.points, self.wear, self.build.girth
        loose = 0.003 + 0.04 * max(w.slack - 1.0, 0.0)
        names = ("shoulder", "elbow", "wrist", "hand")
        shoulder, elbow, wrist, hand = (p[f"{side}_{name}"] for name in names)
        frame, cut = f"{side}_arm", w.sleeve_cut
        bare = cut == 0.0
        covered = loose * (not bare)
        self.part(
            shoulder, elbow, (0.057 * g + covered, 0.040 * g + covered),
            w.skin if bare else w.sleeve, frame=frame, bulge=0.004 * g,
            beyond=w.skin if 0 < cut < 1 else -1, cut=cut or 2.0, step=loose, span=(0, 0.6),
        )  # fmt: skip
        long = cut > 1
        self.part(
            elbow, wrist, (0.041 * g + loose * long, 0.027 * g + loose * long),
            w.sleeve if long else w.skin, frame=frame, bulge=0.004 * g, span=(0.6, 1.1),
        )  # fmt: skip
        self.part(wrist, hand, (0.028 * g, 0.040 * g), w.skin, frame=frame)
        if self.view.scale > FACE_SCALE:
            along = hand - wrist
            self.part(hand, hand + 0.7 * along, (0.034 * g, 0.020 * g), w.skin, frame=frame)
            lean = self.figure.frames[frame][:, 2] * 0.035 * g
            self.part(wrist + 0.3 * along, hand + lean, (0.018, 0.014), w.skin, frame=frame)

    def _at(self, x: Number, y: Number, z: Number) -> np.ndarray:
        """A point of the head, from its centre, in an adult's metres."""
        offset = np.array([x, y, z]) * self.build.head
        return self.figure.points["head"] + self.figure.frames["head"] @ offset

    def _blob(self, at: tuple, axes: tuple, material: int, to: tuple | None = None, **kw) -> None:
        start = self._at(*at)
        end = start if to is None else self._at(*to)
        size = self.build.head
        self.part(start, end, (size, size), material, frame="head", axes=axes, **kw)

    def head(self) -> None:
        """Neck, skull, jaw, hair or hat, and the face where it is large enough to see."""
        w, g = self.wear, self.build.girth
        neck = (0.058 * g, 0.052 * g)
        self.part("neck", "skull_base", neck, w.skin, frame="neck")
        self.part("skull_base", self._at(0, -0.02, -0.01), neck, w.skin, frame="neck")
        self._blob((0, 0.022, -0.004), (0.075, 0.093, 0.096), w.skin)
        self._blob((0, -0.045, 0.028), (0.059, 0.072, 0.066), w.skin)
        if w.beard:
            self._blob((0, -0.070, 0.024), (0.060, 0.052, 0.068), w.hair)
        for _, sign in SIDES:
            self._blob((0.075 * sign, -0.016, -0.008), (0.010, 0.031, 0.018), w.skin)
        self._hair()
        if self.view.scale > FACE_SCALE:
            self._face()

    def _hair(self) -> None:
        w = self.wear
        if not w.bald:
            self._blob((0, 0.038, -0.020), (0.083, 0.094, 0.097), w.hair)
        if w.hair_length:
            drop = -0.02 - 0.16 * w.hair_length
            self._blob((0, 0.0, -0.050), (0.086, 0.07, 0.062), w.hair, (0, drop, -0.055))
        if w.has_hat:
            self._blob((0, 0.062, -0.006), (0.089, 0.082, 0.103), w.hat)
            brim = (0.086, 0.010, 0.075) if w.slack < 1.15 else (0.135, 0.012, 0.15)
            self._blob((0, 0.052, 0.075 if w.slack < 1.15 else 0.0), brim, w.hat)

    def _face(self) -> None:
        canvas, w = self.canvas, self.wear
        skin = canvas.materials[w.skin]

        def paint(rgb: Colour) -> int:
            return canvas.add(Material(skin.owner, rgb, rgb))

        red = paint(tuple(np.clip(np.array(skin.low) * (0.82, 0.55, 0.55), 0, 255)))
        dark = paint((26, 20, 18))
        white = paint((225, 222, 218))
        brow = paint(tuple(0.7 * c for c in canvas.materials[w.hair].low))
        nose = FACE["nose"]
        self._blob((0, -0.002, 0.088), (0.010, 0.012, 0.012), w.skin, (0, -0.028, 0.099))
        self._blob((0, nose[1] + 0.002, 0.096), (0.018, 0.013, 0.015), w.skin)
        self._blob((-0.018, -0.072, 0.080), (0.010, 0.007, 0.013), red, (0.018, -0.072, 0.080))
        for name in ("left_eye", "right_eye"):
            x, y, z = FACE[name]
            self._blob((x, y, z - 0.005), (0.016, 0.009, 0.010), white)
            self._blob((x, y, z - 0.001), (0.0075, 0.0085, 0.010), dark)
            inner = np.sign(x) * 0.014, y + 0.026, z + 0.003
            outer = np.sign(x) * 0.050, y + 0.024, z - 0.012
            self._blob(inner, (0.008, 0.006, 0.008), brow, outer)
            if w.glasses:
                self._blob((x, y - 0.003, z + 0.004), (0.024, 0.018, 0.010), dark)
