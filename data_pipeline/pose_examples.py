"""From an image and its people to one training example of the pose network (paper, 3.2.1).

One affine map does everything geometric (enlarging, shifting, turning, mirroring, scaling), so an
image is sampled once.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.augment import CropScene, crop_pixels
from data_pipeline.config import PoseDataConfig
from data_pipeline.copy_paste import NOBODY, Donors
from data_pipeline.images import Picture, cut_image
from data_pipeline.schema import Dataset
from data_pipeline.windows import Person, Rng, Sometimes, Window, crop_geometry
from g_rmi.geometry import Affine, apply_affine, pose_box
from g_rmi.types import PoseBatch


@dataclasses.dataclass(frozen=True)
class PoseExamples:
    """Makes the training examples of a data set: crops of `height` x `width` pixels.

    `donors` may be pasted into them.
    """

    dataset: Dataset
    height: int
    width: int
    config: PoseDataConfig
    donors: Donors = NOBODY

    def __call__(self, person: int, rng: Rng) -> PoseBatch:
        """Makes an example centred on a row of `dataset.people`; errors as `cut_image`'s."""
        dataset, others = self.dataset, self.config.max_others
        window = self._window(person, rng)
        affine = window.affine(height=self.height, width=self.width)
        rows = np.array([person, *nearest_others(dataset, person, others)])
        joints = np.zeros((1 + others, len(dataset.skeleton), 2), np.float32)
        visibility = np.zeros(joints.shape[:2], np.uint8)
        joints[: len(rows)], visibility[: len(rows)] = self._joints(rows, window)
        image, painted = self._image(person, affine, joints[0], rng)
        visible, labelled = visibility > 0, dataset.labelled_of(person)
        if window.flip:
            labelled = labelled[dataset.skeleton.flip_index]
        if self.config.unlabelled == "ignore":
            labelled = labelled & visible[0]
        return PoseBatch(
            image=image,
            keypoints=joints[0],
            visible=visible[0],
            occluded=visibility[0] == 1,
            visibility_known=visible[0] & ~painted & dataset.marks_hidden,
            labelled=labelled,
            other_keypoints=joints[1:],
            other_visible=visible[1:],
            weight=np.float32(1),
        )

    def joints(
        self, person: int, rng: Rng
    ) -> tuple[Float[np.ndarray, "K 2"], Bool[np.ndarray, " K"]]:
        """Draws where a crop shows the person's joints, and which there are; reads no picture."""
        joints, visibility = self._joints(np.array([person]), self._window(person, rng))
        return joints[0], visibility[0] > 0

    def _joints(self, rows: Int[np.ndarray, " R"], window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Joints of some people in the pixels of a window's crop, and COCO's v."""
        people = self.dataset.people
        affine = window.affine(height=self.height, width=self.width)
        visibility = people.visibility[rows]
        joints = apply_affine(affine, people.keypoints[rows]) * (visibility > 0)[..., None]
        if window.flip:  # a mirrored left wrist is a right one
            order = self.dataset.skeleton.flip_index
            joints, visibility = joints[:, order], visibility[:, order]
        return joints, visibility

    def name(self, person: int) -> str:
        """The file of a person's image."""
        return self.dataset.source.name(int(self.dataset.people.image[person]))

    def affine(self, person: int, rng: Rng) -> Affine:
        """Draws a map from image points to the pixels of a person's crop."""
        return self._window(person, rng).affine(height=self.height, width=self.width)

    def _window(self, row: int, rng: Rng) -> Window:
        people, window = self.dataset.people, Window.of(self._boxes[row], self.height / self.width)
        visible = people.visibility[row] > 0
        person = Person(people.box[row], people.keypoints[row], visible, self.dataset.skeleton)
        for transform in crop_geometry(self.config.augmentation):
            window = transform(window, person, rng)
        return window

    def _image(
        self, person: int, affine: Affine, joints: Float[np.ndarray, "K 2"], rng: Rng
    ) -> tuple[Picture, Bool[np.ndarray, " K"]]:
        """The crop, and at which joints of it something was painted over."""
        images, people = self.dataset.images, self.dataset.people
        row = int(people.image[person])
        size = int(images.width[row]), int(images.height[row])
        outline = self.dataset.outlines.get(int(people.id[person]), ())
        crop, scene = self._cut(person, affine), CropScene(affine, size, outline, self._other)
        last = np.array([self.width - 1, self.height - 1])
        columns, rows = np.rint(joints.clip(0, last)).astype(int).T
        painted = np.zeros(len(joints), bool)
        for transform in crop_pixels(self.config.augmentation, self.donors):
            before = crop[rows, columns]
            crop = transform(crop, scene, rng)
            if isinstance(transform, Sometimes):  # else it only changes colours
                painted |= (crop[rows, columns] != before).any(axis=-1)
        return crop, painted

    def _other(self, rng: Rng) -> Picture:
        """A crop around somebody of the data set."""
        person = int(rng.choice(self._with_box))
        return self._cut(person, self.affine(person, rng))

    def _cut(self, person: int, affine: Affine) -> Picture:
        row = int(self.dataset.people.image[person])
        return cut_image(self.dataset, row, affine, height=self.height, width=self.width)

    @functools.cached_property
    def _with_box(self) -> Int[np.ndarray, " R"]:
        return np.flatnonzero(self.dataset.people.has_inside)

    @functools.cached_property
    def _boxes(self) -> Float[np.ndarray, "N 4"]:
        """The boxes of all people, extended to the crop's aspect."""
        return pose_box(self.dataset.people.box, aspect=self.height / self.width)


def nearest_others(dataset: Dataset, person: int, count: int) -> Int[np.ndarray, " R"]:
    """Rows of the other people in the image that have joints, by distance of box centres."""
    people = dataset.people
    group = dataset.people_of(int(people.image[person]))
    usable = people.has_joints[group].copy()
    usable[person - group.start] = False
    if people.classes is not None:  # others have other joints
        usable &= people.classes[group] == people.classes[person]
    rows = np.flatnonzero(usable)
    if len(rows) > 1:
        twice = people.box[group, :2] + people.box[group, 2:]
        away = np.square(twice[rows] - twice[person - group.start]).sum(axis=1)
        rows = rows[np.argsort(away, kind="stable")]
    return group.start + rows[:count]
