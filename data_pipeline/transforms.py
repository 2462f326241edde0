"""From a picture and its people to one training example of the pose network (paper, 3.2.1).

One affine map does everything geometric (enlarging, shifting, turning, mirroring, scaling), so a
picture is sampled once. The examples have `g_rmi.types.PoseBatch`'s fields without the B axis.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from data_pipeline.copy_paste import Strangers, outline_mask, put_before
from data_pipeline.images import Picture, clear_outside, cut_image
from data_pipeline.schema import Dataset
from g_rmi.config import PoseAugmentation
from g_rmi.geometry import Affine, apply_affine, box_to_crop, pose_box
from g_rmi.skeleton import Skeleton

_LOWER_BODY = ("hip", "knee", "ankle", "heel", "toe", "foot")
_WELL_LABELLED = 8  # Crops around joints, not around the annotated box, need this many of them.
_HALF_BODY_MARGIN = 1.5  # A half-body crop is this much larger than the box around its joints.


class PoseExample(NamedTuple):
    """One row of a `PoseBatch`; weights and types as there."""

    record_id: np.int64
    image: UInt8[np.ndarray, "H W 3"]
    keypoints: Float32[np.ndarray, "K 2"]
    visible: Bool[np.ndarray, " K"]
    labelled: Bool[np.ndarray, " K"]
    other_keypoints: Float32[np.ndarray, "P K 2"]
    other_visible: Bool[np.ndarray, "P K"]
    weight: np.float32


class View(NamedTuple):
    """Where a crop looks: the map from image points to crop pixels, and whether it mirrors."""

    affine: Affine
    flip: bool


@dataclasses.dataclass(frozen=True)
class PoseExamples:
    """Makes the training examples of a data set.

    Attributes:
      dataset: Pictures and people.
      height: Crop rows.
      width: Crop columns.
      augmentation: How crops vary.
      max_others: P.
      unlabelled: See `g_rmi.config.PoseDataConfig`.
      strangers: Who may be put into the crops.
    """

    dataset: Dataset
    height: int
    width: int
    augmentation: PoseAugmentation
    max_others: int
    unlabelled: str
    strangers: Strangers = dataclasses.field(default_factory=lambda: Strangers(()))

    def __call__(self, person: int, rng: np.random.Generator) -> PoseExample:
        """Makes an example centred on a row of `dataset.people`.

        Raises:
          ImageError: The picture cannot be read, is broken or of another size than annotated; the
            message names the file.
        """
        dataset, people = self.dataset, self.dataset.people
        view = self._view(person, rng)
        image = self._image(person, view, rng)
        rows = [person, *nearest_others(dataset, person, self.max_others)]
        joints = np.zeros((1 + self.max_others, len(dataset.skeleton), 2), np.float32)
        visible = np.zeros(joints.shape[:2], bool)
        joints[: len(rows)], visible[: len(rows)] = look(
            view, people.keypoints[rows], people.visibility[rows] > 0, dataset.skeleton
        )
        labelled = dataset.labelled
        if view.flip:
            labelled = labelled[dataset.skeleton.flip_index]
        return PoseExample(
            record_id=people.id[person],
            image=image,
            keypoints=joints[0],
            visible=visible[0],
            labelled=labelled & visible[0] if self.unlabelled == "ignore" else labelled,
            other_keypoints=joints[1:],
            other_visible=visible[1:],
            weight=np.float32(1),
        )

    def _view(self, person: int, rng: np.random.Generator) -> View:
        people, config = self.dataset.people, self.augmentation
        box, points = people.box[person], people.keypoints[person]
        visible = people.visibility[person] > 0
        window, angle = self._windows[person], None
        if rng.random() < config.half_body:
            box = half_body_box(box, points, visible, self.dataset.skeleton, rng)
            window = pose_box(box, aspect=self.height / self.width)
        elif config.turned and rng.random() < config.turned and visible.sum() >= _WELL_LABELLED:
            angle = rng.uniform(-math.pi, math.pi)
            box = turned_box(box, points[visible], angle)
            window = pose_box(box, aspect=self.height / self.width)
        return sample_view(window, config, rng, height=self.height, width=self.width, angle=angle)

    def _image(self, person: int, view: View, rng: np.random.Generator) -> Picture:
        images, config = self.dataset.images, self.augmentation
        row = int(self.dataset.people.image[person])
        image = cut_image(self.dataset, row, view.affine, height=self.height, width=self.width)
        if config.colour > 0:
            image = jitter_colour(image, config.colour, rng)
            size = (int(images.width[row]), int(images.height[row]))
            image = clear_outside(image, view.affine, size=size)
        if config.copy_paste > 0:
            image = self._copy_paste(image, person, view, rng)
        if rng.random() < config.occlusion:
            image = occlude(image, rng)
        if rng.random() < config.mixing:
            image = mix(image, self._stranger(rng), rng)
        return image

    def _copy_paste(
        self, image: Picture, person: int, view: View, rng: np.random.Generator
    ) -> Picture:
        """Puts the person before somebody else's crop, and then a stranger beside the person."""
        outline = self.dataset.outlines.get(int(self.dataset.people.id[person]))
        if rng.random() < self.augmentation.copy_paste and outline:
            mask = outline_mask(outline, view.affine, height=self.height, width=self.width)
            image = put_before(image, mask, self._stranger(rng))
        if rng.random() < self.augmentation.copy_paste and len(self.strangers):
            image = self.strangers.put_into(image, rng)
        return image

    def _stranger(self, rng: np.random.Generator) -> Picture:
        """A crop around somebody of the data set."""
        person = int(rng.choice(self._strangers))
        view = self._view(person, rng)
        row = int(self.dataset.people.image[person])
        return cut_image(self.dataset, row, view.affine, height=self.height, width=self.width)

    @functools.cached_property
    def _strangers(self) -> Int[np.ndarray, " R"]:
        return np.flatnonzero(self.dataset.people.has_inside)

    @functools.cached_property
    def _windows(self) -> Float[np.ndarray, "N 4"]:
        """The boxes of all people, extended to the crop's aspect."""
        return pose_box(self.dataset.people.box, aspect=self.height / self.width)


def sample_view(
    window: Float[np.ndarray, "4"],
    config: PoseAugmentation,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    angle: float | None = None,
) -> View:
    """Draws a crop around a box of the crop's aspect: scale, shift, flip, and rotation if open."""
    draw_scale, across, down, draw_turn, turn, draw_flip = rng.random(6).tolist()
    low, high = config.scale
    scale = low + (high - low) * draw_scale
    x0, y0, x1, y1 = window.tolist()
    box_width, box_height = scale * (x1 - x0), scale * (y1 - y0)
    x = (x0 + x1) / 2 + config.shift * (2 * across - 1) * box_width
    y = (y0 + y1) / 2 + config.shift * (2 * down - 1) * box_height
    box = (x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2)
    if angle is None:
        turns = draw_turn < config.rotation_probability
        angle = math.radians(config.rotation * (2 * turn - 1)) if turns else 0.0
    flip = draw_flip < config.flip
    affine = box_to_crop(np.array(box), height=height, width=width, angle=angle, flip=flip)
    return View(affine, flip)


def look(
    view: View,
    keypoints: Float32[np.ndarray, "*n K 2"],
    visible: Bool[np.ndarray, "*n K"],
    skeleton: Skeleton,
) -> tuple[Float32[np.ndarray, "*n K 2"], Bool[np.ndarray, "*n K"]]:
    """Joints in crop pixels; a mirrored left wrist becomes a right one. Zeros where not visible."""
    points = apply_affine(view.affine, keypoints) * visible[..., None]
    if view.flip:
        points, visible = points[..., skeleton.flip_index, :], visible[..., skeleton.flip_index]
    return points.astype(np.float32), visible


def half_body_box(
    box: Float[np.ndarray, "4"],
    keypoints: Float32[np.ndarray, "K 2"],
    visible: Bool[np.ndarray, " K"],
    skeleton: Skeleton,
    rng: np.random.Generator,
) -> Float[np.ndarray, "4"]:
    """A box around the joints of one half of the body, or `box` for a person with few joints."""
    lower = np.array([any(part in name for part in _LOWER_BODY) for name in skeleton.names])
    half = visible & (lower if rng.random() < 0.5 else ~lower)
    if visible.sum() < _WELL_LABELLED or half.sum() < 3:
        return box
    low, high = keypoints[half].min(axis=0), keypoints[half].max(axis=0)
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


def nearest_others(dataset: Dataset, person: int, count: int) -> Int[np.ndarray, " R"]:
    """Rows of the other people in the picture that have joints, by distance of box centres."""
    people = dataset.people
    group = dataset.people_of(int(people.image[person]))
    usable = people.has_joints[group].copy()
    usable[person - group.start] = False
    rows = np.flatnonzero(usable)
    if len(rows) > 1:
        twice = people.box[group, :2] + people.box[group, 2:]
        away = np.square(twice[rows] - twice[person - group.start]).sum(axis=1)
        rows = rows[np.argsort(away, kind="stable")]
    return group.start + rows[:count]


_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def jitter_colour(image: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Brightness, contrast, saturation and hue as one random affine map of RGB.

    At strength 1 brightness and contrast vary by +-40 %, saturation by +-70 % and hue by +-36
    degrees.
    """
    brightness, contrast, saturation, hue = strength * rng.uniform(-1, 1, 4)
    gain = 1 + 0.4 * contrast
    turn = np.deg2rad(36 * hue)
    chroma = 1 + 0.7 * saturation
    cos, sin = chroma * np.cos(turn), chroma * np.sin(turn)
    matrix = _FROM_YIQ @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _TO_YIQ
    offset = np.full((3, 1), 127.5 * (1 - gain) + 255 * 0.4 * brightness / 2)
    return cv2.transform(image, np.concatenate([gain * matrix, offset], axis=1))


def occlude(image: Picture, rng: np.random.Generator) -> Picture:
    """Covers a random rectangle with noise or with another part of the crop."""
    part = _rectangle(image, 0.1, 0.4, rng)
    h, w = image[part].shape[:2]
    if rng.random() < 0.5:
        patch = rng.integers(0, 256, (h, w, 3), np.uint8)
    else:
        v, u = rng.integers(0, (image.shape[0] - h + 1, image.shape[1] - w + 1))
        patch = image[v : v + h, u : u + w].copy()
    image[part] = patch
    return image


def _rectangle(
    image: Picture, least: float, most: float, rng: np.random.Generator
) -> tuple[slice, slice]:
    """A random part of a picture, its sides `least` to `most` of the picture's."""
    height, width = image.shape[:2]
    h, w = (rng.uniform(least, most, 2) * (height, width)).astype(int) + 1
    y, x = rng.integers(0, (height - h + 1, width - w + 1))
    return slice(y, y + h), slice(x, x + w)


def mix(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Lets another crop shine through by up to 40 %, or cover a rectangle where it is.

    Unlike `occlude`, it can show people where there are none to be found.
    """
    if rng.random() < 0.5:
        share = rng.uniform(0, 0.4)
        return cv2.addWeighted(image, 1 - share, other, share, 0)
    part = _rectangle(image, 0.2, 0.6, rng)
    image[part] = other[part]
    return image
