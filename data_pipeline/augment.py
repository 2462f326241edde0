"""How the pixels of training examples vary: a frozen class for each way.

`(crop, scene, rng) -> crop`, after the image is sampled; `data_pipeline.windows` has what moves,
turns and mirrors, and says what holds for the random numbers of both.
"""

# ruff: noqa: D102  # what a transform does is said by its class

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8

from data_pipeline.config import DetectorAugmentation, PartsAugmentation, PoseAugmentation
from data_pipeline.copy_paste import Donors, outline_mask, put_before
from data_pipeline.images import Picture, clear_outside
from data_pipeline.schema import Outline
from data_pipeline.windows import Rng, Sometimes, Transforms
from g_rmi.geometry import Affine

_PASTED = 3  # Most people pasted into one image.


class CropScene(NamedTuple):
    """Where the crop of a person comes from."""

    affine: Affine  # from image points to crop pixels
    size: tuple[int, int]  # width and height of the image
    outline: Outline  # of the person; may be empty
    other: Callable[[Rng], Picture]  # makes the crop of somebody of the same data set


class Regions(NamedTuple):
    """Boxes with an inside, in a view or on a canvas."""

    box: Float[np.ndarray, "M 4"]
    person: Bool[np.ndarray, " M"]  # labelled; else it is a region to ignore
    whole: Bool[np.ndarray, " M"]  # to be ignored because people in the image are not labelled
    classes: Int32[np.ndarray, " M"] | None = None  # where there are several


@dataclasses.dataclass
class ImageScene:
    """What is seen in an image for the detector; transforms may change it."""

    regions: Regions


_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
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


class NewBackground(Sometimes):
    """A person with an outline, cut out and put before somebody else's crop."""

    def apply(self, crop: Picture, scene: CropScene, rng: Rng) -> Picture:
        if not scene.outline:
            return crop
        height, width = crop.shape[:2]
        mask = outline_mask(scene.outline, scene.affine, height=height, width=width)
        return put_before(crop, mask, scene.other(rng))


@dataclasses.dataclass(frozen=True)
class PasteBeside(Sometimes):
    """Somebody cut out of another image, beside or before the person."""

    donors: Donors

    def apply(self, crop: Picture, scene: CropScene, rng: Rng) -> Picture:
        return self.donors.put_into(crop, rng) if len(self.donors) else crop


@dataclasses.dataclass(frozen=True)
class PastePeople(Sometimes):
    """Some people cut out of other images, anywhere; whom they hide becomes a region to ignore."""

    donors: Donors
    min_visible: float

    def apply(self, crop: Picture, scene: ImageScene, rng: Rng) -> Picture:
        for _ in range(rng.integers(1, _PASTED + 1)):
            box, mask, number = self.donors.put_onto(crop, rng)
            there = scene.regions
            hidden = covered_shares(mask, there.box) > 1 - self.min_visible
            scene.regions = Regions(
                box=np.concatenate([there.box, box[None].astype(np.float32)]),
                person=np.append(there.person & ~hidden, True),
                whole=np.append(there.whole, False),
                classes=_with(there.classes, number),
            )
        return crop


def _with(classes: np.ndarray | None, number: int | None) -> np.ndarray | None:
    """The classes of regions and of one more, where there are several."""
    return None if classes is None or number is None else np.append(classes, np.int32(number))


class Occlude(Sometimes):
    """A rectangle of noise or of another part of the crop."""

    def apply(self, crop: Picture, scene: Any, rng: Rng) -> Picture:
        part = _rectangle(crop, 0.1, 0.4, rng)
        h, w = crop[part].shape[:2]
        if rng.random() < 0.5:
            crop[part] = rng.integers(0, 256, (h, w, 3), np.uint8)
        else:
            v, u = rng.integers(0, (crop.shape[0] - h + 1, crop.shape[1] - w + 1))
            crop[part] = crop[v : v + h, u : u + w].copy()
        return crop


class Mix(Sometimes):
    """Somebody else's crop, shining through by up to 40 % or covering a rectangle.

    Unlike `Occlude`, it can show people where there are none to be found.
    """

    def apply(self, crop: Picture, scene: CropScene, rng: Rng) -> Picture:
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


def crop_pixels(config: PoseAugmentation, donors: Donors) -> Transforms:
    """What changes a person's crop."""
    pasting = [NewBackground(config.copy_paste), PasteBeside(config.copy_paste, donors)]
    return [
        *([Colour(config.colour_jitter), blacken_outside] if config.colour_jitter else []),
        *(pasting if config.copy_paste else []),
        Occlude(config.random_erasing),
        Mix(config.mixup),
    ]


def picture_pixels(config: PartsAugmentation) -> Transforms:
    """What changes a picture for bottom-up training."""
    return [Colour(config.colour_jitter)] if config.colour_jitter else []


def image_pixels(config: DetectorAugmentation, donors: Donors) -> Transforms:
    """What changes an image for the detector."""
    pasting = PastePeople(config.copy_paste, donors, config.min_visible)
    return [
        *([pasting] if config.copy_paste else []),
        *([Colour(config.colour_jitter)] if config.colour_jitter else []),
    ]
