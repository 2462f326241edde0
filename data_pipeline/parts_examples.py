"""From whole images and all people's joints to examples of bottom-up training (DeeperCut)."""

import dataclasses

import numpy as np
from jaxtyping import Int64

from data_pipeline.augment import picture_pixels
from data_pipeline.config import PartsDataConfig
from data_pipeline.images import cut_image
from data_pipeline.schema import Dataset
from data_pipeline.windows import Rng, View, image_geometry
from g_rmi.geometry import Affine, apply_affine
from g_rmi.types import PartsBatch


@dataclasses.dataclass(frozen=True)
class PartsExamples:
    """Makes the training examples of a data set on canvases of so many rows and columns."""

    dataset: Dataset
    canvas: tuple[int, int]
    config: PartsDataConfig

    def __call__(self, row: int, rng: Rng) -> PartsBatch:
        """Makes an example of an image; errors as `cut_image`'s."""
        dataset, people = self.dataset, self.dataset.people
        group = dataset.people_of(row)
        view = View.fit(
            (int(dataset.images.height[row]), int(dataset.images.width[row])), self.canvas
        )
        labelled_people = people.box[group][people.has_joints[group]]
        for transform in image_geometry(self.config.augmentation):
            view = transform(view, labelled_people, rng)
        height, width = view.shown
        canvas = np.zeros((*self.canvas, 3), np.uint8)
        image = canvas[:height, :width]
        size = {"height": height, "width": width}
        cut_image(dataset, row, view.affine, **size, repeat_edge=True, out=image)
        for transform in picture_pixels(self.config.augmentation):
            image[...] = transform(image, None, rng)
        return self._labels(canvas, row, view)

    def _labels(self, canvas: np.ndarray, row: int, view: View) -> PartsBatch:
        """The example of a canvas: who is seen, in rows by size."""
        dataset, people, most = self.dataset, self.dataset.people, self.config.max_boxes
        group = np.arange(len(people))[dataset.people_of(row)]
        box = seen_boxes(people.box[group], view)
        sides = box[:, 2:] - box[:, :2]
        there = (sides > 0).all(axis=1) | (people.num_keypoints[group] > 0)
        order = np.argsort(-np.prod(sides[there], axis=1), kind="stable")
        group, box = group[there][order], box[there][order]
        boxes, ignore = np.zeros((most, 4), np.float32), np.zeros(most, bool)
        keypoints = np.zeros((most, len(dataset.skeleton), 2), np.float32)
        visible, labelled = np.zeros(keypoints.shape[:2], bool), dataset.labelled
        kept = group[:most]
        count = len(kept)
        boxes[:count], ignore[:count] = box[:most], ~people.has_joints[kept]
        visible[:count] = (people.visibility[kept] > 0) & ~ignore[:count, None]
        keypoints[:count] = apply_affine(view.affine, people.keypoints[kept])
        keypoints *= visible[..., None]
        if len(group) > most:  # the last row is a region around all that are left over
            rest = box[most - 1 :]
            boxes[-1] = *rest[:, :2].min(axis=0), *rest[:, 2:].max(axis=0)
            ignore[-1], visible[-1], keypoints[-1] = True, False, 0
        if view.flip:  # a mirrored left wrist is a right one
            mirror = dataset.skeleton.flip_index
            keypoints, visible, labelled = (
                keypoints[:, mirror],
                visible[:, mirror],
                labelled[mirror],
            )
        return PartsBatch(
            image=canvas,
            size=np.array(view.shown, np.int32),
            boxes=boxes,
            ignore=ignore,
            keypoints=keypoints,
            visible=visible,
            labelled=labelled,
            complete=np.bool_(dataset.images.boxes_complete[row]),
            weight=np.float32(1),
        )


def seen_boxes(boxes: np.ndarray, view: View) -> np.ndarray:
    """What is seen of boxes (x0, y0, x1, y1) in a view; without inside where nothing is."""
    return _ends(view.affine, boxes).clip(0, np.tile(view.shown[::-1], 2)).astype(np.float32)


def _ends(affine: Affine, boxes: np.ndarray) -> np.ndarray:
    """Boxes on the view: they begin half a pixel before the first centre and end so much after."""
    corners = apply_affine(affine, boxes.reshape(-1, 2).astype(np.float64) - 0.5) + 0.5
    pairs = corners.reshape(-1, 2, 2)
    return np.concatenate([pairs.min(axis=1), pairs.max(axis=1)], axis=1)


def parts_images(dataset: Dataset) -> Int64[np.ndarray, " R"]:
    """Rows of the images to train on: those with labelled joints, or surely without anybody's."""
    people = dataset.people
    taught = dataset.images.boxes_complete.copy()
    taught[people.image[people.has_joints]] = True
    return np.flatnonzero(taught)


def canvas_joints(dataset: Dataset, canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Everybody's joints as large as pictures fit on canvases, and which there are: statistics."""
    people, images = dataset.people, dataset.images
    rows = np.flatnonzero(people.has_joints)
    short, long = min(canvas), max(canvas)
    sides = np.stack([images.height, images.width])[:, people.image[rows]]
    scale = np.minimum(short / sides.min(axis=0), long / sides.max(axis=0))
    joints = people.keypoints[rows] * scale[:, None, None]
    return joints.astype(np.float32), people.visibility[rows] > 0
