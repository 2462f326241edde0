"""From a picture and its people to one training example of the pose network (paper, 3.2.1).

One affine map does everything geometric (enlarging, shifting, turning, mirroring, scaling), so a
picture is sampled once. The examples have `g_rmi.types.PoseBatch`'s fields without the B axis.
"""

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from data_pipeline.images import Picture, clear_outside, cut
from data_pipeline.schema import Dataset
from g_rmi.config import PoseAugmentation
from g_rmi.geometry import Affine, apply_affine, box_to_crop, pose_box
from g_rmi.skeleton import Skeleton

_LOWER_BODY = ("hip", "knee", "ankle", "heel", "toe", "foot")
_HALF_BODY_JOINTS = 8  # A half-body crop needs this many annotated joints ...
_HALF_BODY_MARGIN = 1.5  # ... and is this much larger than the box around its half of them.


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
    """

    dataset: Dataset
    height: int
    width: int
    augmentation: PoseAugmentation
    max_others: int
    unlabelled: str

    def __call__(self, person: int, rng: np.random.Generator) -> PoseExample:
        """Makes an example centred on a row of `dataset.people`.

        Raises:
          ImageError: The picture is broken or of another size than annotated.
          OSError: The picture cannot be read.
        """
        dataset, people = self.dataset, self.dataset.people
        skeleton, config = dataset.skeleton, self.augmentation
        image_row = int(people.image[person])
        size = (int(dataset.images.width[image_row]), int(dataset.images.height[image_row]))
        visible = people.visibility[person] > 0
        box = people.box[person]
        if rng.random() < config.half_body:
            box = half_body_box(box, people.keypoints[person], visible, skeleton, rng)
        view = sample_view(box, config, rng, height=self.height, width=self.width)

        data = dataset.source.read(image_row)
        image = cut(data, view.affine, height=self.height, width=self.width, size=size)
        if config.colour > 0:
            image = jitter_colour(image, config.colour, rng)
            image = clear_outside(image, view.affine, size=size)
        if rng.random() < config.occlusion:
            image = occlude(image, rng)

        others = nearest_others(dataset, person, self.max_others)
        keypoints, seen = look(view, people.keypoints[person], visible, skeleton)
        other_keypoints, other_visible = look(
            view, people.keypoints[others], people.visibility[others] > 0, skeleton
        )
        padding = self.max_others - len(others)
        trained = visible | (self.unlabelled == "negative")
        labelled = dataset.labelled & trained
        return PoseExample(
            record_id=people.id[person],
            image=image,
            keypoints=keypoints,
            visible=seen,
            labelled=labelled[skeleton.flip_index] if view.flip else labelled,
            other_keypoints=np.pad(other_keypoints, ((0, padding), (0, 0), (0, 0))),
            other_visible=np.pad(other_visible, ((0, padding), (0, 0))),
            weight=np.float32(1),
        )


def sample_view(
    box: Float[np.ndarray, "4"],
    config: PoseAugmentation,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
) -> View:
    """Draws a crop around a person's box: scale, shift, rotation, flip."""
    scale = rng.uniform(*config.scale)
    shift = rng.uniform(-config.shift, config.shift, 2)
    turned = rng.random() < config.rotation_probability
    angle = np.deg2rad(rng.uniform(-config.rotation, config.rotation)) if turned else 0.0
    flip = bool(rng.random() < config.flip)
    window = pose_box(box, aspect=height / width, scale=scale)
    window = window + np.tile(shift * (window[2:] - window[:2]), 2)
    return View(box_to_crop(window, height=height, width=width, angle=angle, flip=flip), flip)


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
    if visible.sum() < _HALF_BODY_JOINTS or half.sum() < 3:
        return box
    low, high = keypoints[half].min(axis=0), keypoints[half].max(axis=0)
    centre, half_size = (low + high) / 2, _HALF_BODY_MARGIN * (high - low) / 2
    return np.concatenate([centre - half_size, centre + half_size]).astype(np.float64)


def nearest_others(dataset: Dataset, person: int, count: int) -> Int[np.ndarray, " R"]:
    """Rows of the other people in the picture that have joints, by distance of box centres."""
    people = dataset.people
    group = dataset.people_of(int(people.image[person]))
    rows = np.arange(group.start, group.stop)
    rows = rows[(rows != person) & ~people.is_crowd[rows] & (people.num_keypoints[rows] > 0)]
    centres = people.box[:, :2][rows] + people.box[:, 2:][rows]
    away = np.square(centres - (people.box[person, :2] + people.box[person, 2:])).sum(axis=1)
    return rows[np.argsort(away, kind="stable")[:count]]


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
    height, width = image.shape[:2]
    h, w = (rng.uniform(0.1, 0.4, 2) * (height, width)).astype(int) + 1
    y, x = rng.integers(0, (height - h + 1, width - w + 1))
    if rng.random() < 0.5:
        patch = rng.integers(0, 256, (h, w, 3), np.uint8)
    else:
        v, u = rng.integers(0, (height - h + 1, width - w + 1))
        patch = image[v : v + h, u : u + w].copy()
    image[y : y + h, x : x + w] = patch
    return image
