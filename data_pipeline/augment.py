"""How training examples vary: a frozen class and a row at the end of this file for each way.

Geometry moves the window that is looked through, before the image is sampled, once:
`(window, person, rng) -> window`. Pixels change what was sampled: `(crop, scene, rng) -> crop`.

The random numbers of a training hang on who draws them in which order. So a new way of varying
comes after the others, or draws nothing where its field is at the default.
"""

# ruff: noqa: D102  # what a transform does is said by its class

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from data_pipeline.config import DetectorAugmentation, PoseAugmentation
from data_pipeline.copy_paste import Donors, outline_mask, put_before
from data_pipeline.images import Picture, clear_outside
from data_pipeline.schema import Outline
from g_rmi.geometry import Affine, box_to_crop, pose_box
from g_rmi.skeleton import Skeleton

_LOWER_BODY = ("hip", "knee", "ankle", "heel", "toe", "foot")
_WELL_LABELLED = 8  # Crops around joints, not around the annotated box, need this many of them.
_HALF_BODY_MARGIN = 1.5  # A half-body crop is this much larger than the box around its joints.
_PASTED = 3  # Most people pasted into one image.

Rng = np.random.Generator


class Person(NamedTuple):
    """Whom a crop is made of, in image pixels."""

    box: Float[np.ndarray, "4"]
    keypoints: Float32[np.ndarray, "K 2"]
    visible: Bool[np.ndarray, " K"]
    skeleton: Skeleton


class Window(NamedTuple):
    """What a crop shows of an image: a box of the crop's aspect, turned and mirrored.

    Attributes:
      x, y: Centre of the box, in image pixels.
      width, height: Its sides.
      aspect: Height / width of the crop.
      angle: Radians, see `g_rmi.geometry.box_to_crop`; None as long as nobody has chosen one.
      flip: Mirrored.
      whole: It is around the whole person.
    """

    x: float
    y: float
    width: float
    height: float
    aspect: float
    angle: float | None = None
    flip: bool = False
    whole: bool = True

    @classmethod
    def around(cls, box: Float[np.ndarray, "4"], aspect: float) -> "Window":
        """The box, extended to the aspect."""
        return cls.of(pose_box(box, aspect=aspect), aspect)

    @classmethod
    def of(cls, box: Float[np.ndarray, "4"], aspect: float) -> "Window":
        """A box that has the aspect."""
        x0, y0, x1, y1 = box.tolist()
        return cls((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, aspect)

    def affine(self, *, height: int, width: int) -> Affine:
        """Map from image points to the pixels of a crop of so many rows and columns."""
        right, below = self.width / 2, self.height / 2
        box = np.array([self.x - right, self.y - below, self.x + right, self.y + below])
        angle = self.angle or 0.0
        return box_to_crop(box, height=height, width=width, angle=angle, flip=self.flip)


Geometry = Callable[[Window, Person, Rng], Window]


@dataclasses.dataclass(frozen=True)
class HalfBody:
    """A crop around the upper or lower body of a well-labelled person."""

    probability: float

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        if rng.random() >= self.probability:
            return window
        return Window.around(half_body_box(person, rng), window.aspect)._replace(whole=False)


@dataclasses.dataclass(frozen=True)
class AnyRotation:
    """A whole, well-labelled person turned by any angle, the box drawn anew around the joints."""

    probability: float

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        drawn = window.whole and rng.random() < self.probability
        if not drawn or person.visible.sum() < _WELL_LABELLED:
            return window
        angle = rng.uniform(-math.pi, math.pi)
        box = turned_box(person.box, person.keypoints[person.visible], angle)
        return Window.around(box, window.aspect)._replace(angle=angle)


@dataclasses.dataclass(frozen=True)
class Enlarge:
    """A larger or smaller box around the same centre."""

    scale: tuple[float, float]

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        low, high = self.scale
        scale = low + (high - low) * rng.random()
        return window._replace(width=scale * window.width, height=scale * window.height)


@dataclasses.dataclass(frozen=True)
class Shift:
    """Another centre, away by up to a share of the box's sides."""

    most: float

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        x = window.x + self.most * (2 * rng.random() - 1) * window.width
        y = window.y + self.most * (2 * rng.random() - 1) * window.height
        return window._replace(x=x, y=y)


@dataclasses.dataclass(frozen=True)
class Rotate:
    """Up to some degrees to either side, unless an angle has been chosen."""

    degrees: float
    probability: float

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        turns, angle = rng.random() < self.probability, self.degrees * (2 * rng.random() - 1)
        if window.angle is not None or not turns:
            return window
        return window._replace(angle=math.radians(angle))


@dataclasses.dataclass(frozen=True)
class Flip:
    """Left and right exchanged."""

    probability: float

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        return window._replace(flip=rng.random() < self.probability)


def half_body_box(person: Person, rng: Rng) -> Float[np.ndarray, "4"]:
    """A box around the joints of one half of the body; their own for people with few joints."""
    names, visible = person.skeleton.names, person.visible
    lower = np.array([any(part in name for part in _LOWER_BODY) for name in names])
    half = visible & (lower if rng.random() < 0.5 else ~lower)
    if visible.sum() < _WELL_LABELLED or half.sum() < 3:
        return person.box
    low, high = person.keypoints[half].min(axis=0), person.keypoints[half].max(axis=0)
    centre, half_size = (low + high) / 2, _HALF_BODY_MARGIN * (high - low) / 2
    return np.concatenate([centre - half_size, centre + half_size]).astype(np.float64)


def turned_box(
    box: Float[np.ndarray, "4"], points: Float32[np.ndarray, "J 2"], angle: float
) -> Float[np.ndarray, "4"]:
    """The box of a person who is turned, for `box_to_crop` with the same angle.

    Args:
      box: Of the person as they are; what it leaves around the joints, on average, stays.
      points: Annotated joints.
      angle: Radians, clockwise on the screen.
    """
    box, points = np.asarray(box, np.float64), np.asarray(points, np.float64)
    room = max(0.0, float(np.sum(box[2:] - box[:2]) - np.sum(np.ptp(points, axis=0))) / 4)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    there = points @ turn.T
    low, high = there.min(axis=0) - room, there.max(axis=0) + room
    centre = turn.T @ ((low + high) / 2)
    return np.concatenate([centre - (high - low) / 2, centre + (high - low) / 2])


class CropScene(NamedTuple):
    """Where the crop of a person comes from.

    Attributes:
      affine: Map from image points to crop pixels.
      size: Width and height of the image.
      outline: Of the person; may be empty.
      other: Makes the crop of somebody of the same data set.
    """

    affine: Affine
    size: tuple[int, int]
    outline: Outline
    other: Callable[[Rng], Picture]


class Regions(NamedTuple):
    """Boxes in a window or on a canvas.

    Attributes:
      box: `(x0, y0, x1, y1)` with an inside.
      person: A labelled person; else a region to ignore.
      whole: A region to ignore because people in the image are not labelled.
    """

    box: Float[np.ndarray, "M 4"]
    person: Bool[np.ndarray, " M"]
    whole: Bool[np.ndarray, " M"]


@dataclasses.dataclass
class ImageScene:
    """What is seen in an image for the detector; transforms may change it."""

    regions: Regions


Pixels = Callable[[Picture, Any, Rng], Picture]


_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


@dataclasses.dataclass(frozen=True)
class Colour:
    """Brightness, contrast, saturation and hue, changed by one random affine map of RGB.

    At strength 1 brightness and contrast vary by +-40 %, saturation by +-70 % and hue by +-36
    degrees.
    """

    strength: float

    def __call__(self, crop: Picture, scene: Any, rng: Rng) -> Picture:
        brightness, contrast, saturation, hue = self.strength * rng.uniform(-1, 1, 4)
        gain = 1 + 0.4 * contrast
        turn = np.deg2rad(36 * hue)
        chroma = 1 + 0.7 * saturation
        cos, sin = chroma * np.cos(turn), chroma * np.sin(turn)
        matrix = _FROM_YIQ @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _TO_YIQ
        offset = np.full((3, 1), 127.5 * (1 - gain) + 255 * 0.4 * brightness / 2)
        return cv2.transform(crop, np.concatenate([gain * matrix, offset], axis=1))


def blacken_outside(crop: Picture, scene: CropScene, rng: Rng) -> Picture:
    """What lies outside the image is black again, whatever its colours have become."""
    return clear_outside(crop, scene.affine, size=scene.size)


@dataclasses.dataclass(frozen=True)
class NewBackground:
    """A person with an outline, cut out and put before somebody else's crop."""

    probability: float

    def __call__(self, crop: Picture, scene: CropScene, rng: Rng) -> Picture:
        if rng.random() >= self.probability or not scene.outline:
            return crop
        height, width = crop.shape[:2]
        mask = outline_mask(scene.outline, scene.affine, height=height, width=width)
        return put_before(crop, mask, scene.other(rng))


@dataclasses.dataclass(frozen=True)
class PasteBeside:
    """Somebody cut out of another image, beside or before the person."""

    probability: float
    donors: Donors

    def __call__(self, crop: Picture, scene: CropScene, rng: Rng) -> Picture:
        if rng.random() >= self.probability or not len(self.donors):
            return crop
        return self.donors.put_into(crop, rng)


@dataclasses.dataclass(frozen=True)
class PastePeople:
    """Some people cut out of other images, anywhere; whom they hide becomes a region to ignore."""

    probability: float
    donors: Donors
    min_visible: float

    def __call__(self, crop: Picture, scene: ImageScene, rng: Rng) -> Picture:
        if rng.random() >= self.probability:
            return crop
        for _ in range(rng.integers(1, _PASTED + 1)):
            box, mask = self.donors.put_onto(crop, rng)
            there = scene.regions
            hidden = covered_shares(mask, there.box) > 1 - self.min_visible
            scene.regions = Regions(
                box=np.concatenate([there.box, box[None].astype(np.float32)]),
                person=np.append(there.person & ~hidden, True),
                whole=np.append(there.whole, False),
            )
        return crop


@dataclasses.dataclass(frozen=True)
class Occlude:
    """A rectangle of noise or of another part of the crop."""

    probability: float

    def __call__(self, crop: Picture, scene: Any, rng: Rng) -> Picture:
        if rng.random() >= self.probability:
            return crop
        part = _rectangle(crop, 0.1, 0.4, rng)
        h, w = crop[part].shape[:2]
        if rng.random() < 0.5:
            patch = rng.integers(0, 256, (h, w, 3), np.uint8)
        else:
            v, u = rng.integers(0, (crop.shape[0] - h + 1, crop.shape[1] - w + 1))
            patch = crop[v : v + h, u : u + w].copy()
        crop[part] = patch
        return crop


@dataclasses.dataclass(frozen=True)
class Mix:
    """Somebody else's crop, shining through by up to 40 % or covering a rectangle.

    Unlike `Occlude`, it can show people where there are none to be found.
    """

    probability: float

    def __call__(self, crop: Picture, scene: CropScene, rng: Rng) -> Picture:
        if rng.random() >= self.probability:
            return crop
        other = scene.other(rng)
        if rng.random() < 0.5:
            share = rng.uniform(0, 0.4)
            return cv2.addWeighted(crop, 1 - share, other, share, 0)
        part = _rectangle(crop, 0.2, 0.6, rng)
        crop[part] = other[part]
        return crop


def covered_shares(
    mask: UInt8[np.ndarray, "H W"], boxes: Float[np.ndarray, "M 4"]
) -> Float[np.ndarray, " M"]:
    """How much of each box a mask (0 to 255) covers."""
    total = cv2.integral(mask)
    x0, y0, x1, y1 = np.rint(boxes).astype(int).clip(0, np.tile(mask.shape[::-1], 2)).T
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return inside / 255 / np.maximum((x1 - x0) * (y1 - y0), 1)


def _rectangle(image: Picture, least: float, most: float, rng: Rng) -> tuple[slice, slice]:
    """A random part of an image, its sides `least` to `most` of the image's."""
    height, width = image.shape[:2]
    h, w = (rng.uniform(least, most, 2) * (height, width)).astype(int) + 1
    y, x = rng.integers(0, (height - h + 1, width - w + 1))
    return slice(y, y + h), slice(x, x + w)


def crop_geometry(config: PoseAugmentation) -> list[Geometry]:
    """What moves the window of a person's crop, in this order."""
    return [
        HalfBody(config.half_body),
        *([AnyRotation(config.turned)] if config.turned else []),
        Enlarge(config.scale),
        Shift(config.shift),
        Rotate(config.rotation, config.rotation_probability),
        Flip(config.flip),
    ]


def crop_pixels(config: PoseAugmentation, donors: Donors) -> list[Pixels]:
    """What changes a person's crop, in this order."""
    pasting = [NewBackground(config.copy_paste), PasteBeside(config.copy_paste, donors)]
    return [
        *([Colour(config.colour), blacken_outside] if config.colour else []),
        *(pasting if config.copy_paste else []),
        Occlude(config.occlusion),
        Mix(config.mixing),
    ]


def image_pixels(config: DetectorAugmentation, donors: Donors) -> list[Pixels]:
    """What changes an image for the detector, in this order."""
    pasting = PastePeople(config.copy_paste, donors, config.min_visible)
    return [
        *([pasting] if config.copy_paste else []),
        *([Colour(config.colour)] if config.colour else []),
    ]
