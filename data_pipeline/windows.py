"""What training examples show of an image, and how that varies: a frozen class for each way.

A person's crop shows a window, `(window, person, rng) -> window`; the detector a view of an image,
`(view, boxes of the labelled people, rng) -> view`. Both are sampled once, after all is drawn.
`data_pipeline.augment` has what changes pixels.

The random numbers of a training hang on who draws them in which order. So a new way of varying
comes after the others, or draws nothing where its field is at the default.
"""

# ruff: noqa: D102  # what a transform does is said by its class

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from data_pipeline.config import Augmentation, PoseAugmentation
from g_rmi.geometry import Affine, apply_affine, box_to_crop, fit_canvas, pose_box, resize_affine
from g_rmi.skeleton import Skeleton

_LOWER_BODY = ("hip", "knee", "ankle", "heel", "toe", "foot")
_WELL_LABELLED = 8  # Crops around joints, not around the annotated box, need this many of them.
_HALF_BODY_MARGIN = 1.5  # A half-body crop is this much larger than the box around its joints.
_CENTRE = (0.25, 0.75)  # Where the images of a mosaic meet, as shares of the canvas's sides.

Rng = np.random.Generator
Transforms = list[Callable[[Any, Any, Rng], Any]]  # in the order in which they draw
Boxes = Float[np.ndarray, "M 4"]


@dataclasses.dataclass(frozen=True)
class Sometimes:
    """What is done with a probability; else everything stays."""

    probability: float

    def __call__(self, given: Any, about: Any, rng: Rng) -> Any:
        return self.apply(given, about, rng) if rng.random() < self.probability else given

    def apply(self, given: Any, about: Any, rng: Rng, /) -> Any:
        raise NotImplementedError


class Flip(Sometimes):
    """Left and right exchanged, in a window or a view."""

    def apply(self, given: Any, about: Any, rng: Rng) -> Any:
        return given._replace(flip=True)


class Person(NamedTuple):
    """Whom a crop is made of, in image pixels."""

    box: Float[np.ndarray, "4"]
    keypoints: Float32[np.ndarray, "K 2"]
    visible: Bool[np.ndarray, " K"]
    skeleton: Skeleton


class Window(NamedTuple):
    """What a crop shows of an image: a box of the crop's aspect, in image pixels."""

    x: float  # of its centre
    y: float
    width: float
    height: float
    aspect: float  # height / width of the crop
    angle: float | None = None  # see `g_rmi.geometry.box_to_crop`; None: nobody has chosen one
    flip: bool = False
    whole: bool = True  # around the whole person

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


class HalfBody(Sometimes):
    """A crop around the upper or lower body; around all of a person of few joints."""

    def apply(self, window: Window, person: Person, rng: Rng) -> Window:
        names, visible, box = person.skeleton.names, person.visible, person.box
        lower = np.array([any(part in name for part in _LOWER_BODY) for name in names])
        half = visible & (lower if rng.random() < 0.5 else ~lower)
        if visible.sum() >= _WELL_LABELLED and half.sum() >= 3:
            low, high = person.keypoints[half].min(axis=0), person.keypoints[half].max(axis=0)
            centre, half_size = (low + high) / 2, _HALF_BODY_MARGIN * (high - low) / 2
            box = np.concatenate([centre - half_size, centre + half_size]).astype(np.float64)
        return Window.around(box, window.aspect)._replace(whole=False)


class AnyRotation(Sometimes):
    """A whole, well-labelled person turned by any angle, the box drawn anew around the joints."""

    def __call__(self, window: Window, person: Person, rng: Rng) -> Window:
        return super().__call__(window, person, rng) if window.whole else window

    def apply(self, window: Window, person: Person, rng: Rng) -> Window:
        if person.visible.sum() < _WELL_LABELLED:
            return window
        angle = rng.uniform(-math.pi, math.pi)
        box = turned_box(person.box, person.keypoints[person.visible], angle)
        return Window.around(box, window.aspect)._replace(angle=angle)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What changes a size by a factor from a range."""

    scale: tuple[float, float]


class Enlarge(Scaling):
    """A larger or smaller box around the same centre."""

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


def turned_box(
    box: Float[np.ndarray, "4"], points: Float32[np.ndarray, "J 2"], angle: float
) -> Float[np.ndarray, "4"]:
    """The box of a person who is turned, for `box_to_crop` with the same angle.

    What the given box leaves around the annotated joints, on average, stays.
    """
    box, points = np.asarray(box, np.float64), np.asarray(points, np.float64)
    room = max(0.0, float(np.sum(box[2:] - box[:2]) - np.sum(np.ptp(points, axis=0))) / 4)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    there = points @ turn.T
    low, high = there.min(axis=0) - room, there.max(axis=0) + room
    centre = turn.T @ ((low + high) / 2)
    return np.concatenate([centre - (high - low) / 2, centre + (high - low) / 2])


class View(NamedTuple):
    """What the detector is shown of an image: resized, mirrored, cut. Sides are (rows, columns)."""

    image: tuple[int, int]  # sides of the image
    room: tuple[int, int]  # there is room for so much
    size: tuple[int, int]  # sides of the whole image, resized
    flip: bool = False
    corner: tuple[float, float] = (0.0, 0.0)  # the point (x, y) where the cut begins

    @classmethod
    def fit(cls, image: tuple[int, int], room: tuple[int, int], *, squash: bool = False) -> "View":
        """The whole image, as large as there is room of its orientation (`fit_canvas`)."""
        canvas = min(room), max(room)
        return cls(image, room, fit_canvas(*image, canvas=canvas, squash=squash).size)

    @property
    def shown(self) -> tuple[int, int]:
        """Sides of what is seen, all of it inside the image."""
        return min(self.size[0], self.room[0]), min(self.size[1], self.room[1])

    @property
    def affine(self) -> Affine:
        """Map from image points to the pixels of the view."""
        rows, columns = self.size
        affine = resize_affine(*self.image, rows=rows, columns=columns)
        if self.flip:
            affine[0] = -affine[0, 0], 0, columns - 1
        affine[:, 2] -= self.corner
        return affine


def log_uniform(low: float, high: float, rng: Rng) -> float:
    """A number between two, its logarithm uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


class Resize(Scaling):
    """Larger or smaller than it fits."""

    def __call__(self, view: View, boxes: Boxes, rng: Rng) -> View:
        scale, (rows, columns) = log_uniform(*self.scale, rng), view.size
        return view._replace(size=(max(round(scale * rows), 1), max(round(scale * columns), 1)))


class Fill(Scaling):
    """As large as it fills all the room, or larger."""

    def __call__(self, view: View, boxes: Boxes, rng: Rng) -> View:
        (height, width), (rows, columns) = view.image, view.room
        low, high = (max(scale, 1.0) for scale in self.scale)
        scale = log_uniform(low, high, rng) * max(rows / height, columns / width)
        return view._replace(
            size=(max(round(scale * height), rows), max(round(scale * width), columns))
        )


@dataclasses.dataclass(frozen=True)
class Cut:
    """What is too large for the room is cut, so that the whole of a random person is seen.

    Nothing else is seen than a part of a person who is larger than the room; where nobody is
    labelled, the cut lies anywhere.
    """

    def __call__(self, view: View, boxes: Boxes, rng: Rng) -> View:
        if view.shown == view.size:
            return view
        size, span = np.array(view.size[::-1]), np.array(view.shown[::-1])
        low, high = np.zeros(2), size
        if len(boxes):
            low, high = np.sort(apply_affine(view.affine, rng.choice(boxes).reshape(2, 2)), axis=0)
        first, last = np.sort([low, high - span], axis=0).clip(0, size - span)
        x, y = rng.uniform(first, last).tolist()
        return view._replace(corner=(x, y))


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """Four images on one canvas, which meet at a random point, instead of one."""

    probability: float

    def __call__(self, canvas: tuple[int, int], rng: Rng) -> list[tuple[slice, slice]]:
        """The rows and columns of a canvas that each image gets."""
        rows, columns = canvas
        if rng.random() >= self.probability:
            return [(slice(0, rows), slice(0, columns))]
        y, x = (math.ceil(side * rng.uniform(*_CENTRE)) for side in (rows - 1, columns - 1))
        across = slice(0, x), slice(x, columns)
        return [(down, part) for down in (slice(0, y), slice(y, rows)) for part in across]


def crop_geometry(config: PoseAugmentation) -> Transforms:
    """What moves the window of a person's crop."""
    return [
        HalfBody(config.half_body),
        *([AnyRotation(config.any_rotation)] if config.any_rotation else []),
        Enlarge(config.scale),
        Shift(config.shift),
        Rotate(config.rotation, config.rotation_probability),
        Flip(config.flip),
    ]


def image_geometry(config: Augmentation, *, tile: bool = False) -> Transforms:
    """What moves the view of a whole image, which may be a tile of a mosaic."""
    return [(Fill if tile else Resize)(config.scale), Flip(config.flip), Cut()]
