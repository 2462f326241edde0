"""From images and their people to one training example of the detector (paper, section 3.1).

One affine map per image does everything geometric (fitting, enlarging, cutting, mirroring), so it
is sampled once.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from data_pipeline.augment import ImageScene, Regions, image_pixels
from data_pipeline.config import DetectorDataConfig
from data_pipeline.copy_paste import NOBODY, Donors
from data_pipeline.images import Picture, cut_image
from data_pipeline.schema import DataError, Dataset
from data_pipeline.windows import Mosaic, Rng, View, image_geometry
from g_rmi.types import DetectionBatch


@dataclasses.dataclass(frozen=True)
class DetectionExamples:
    """Makes the training examples of some data sets on canvases of so many rows and columns.

    `weights` are the shares of the data sets among the images that fill up a mosaic; `donors` may
    be pasted into the images. `squash` as in `g_rmi.geometry.fit_canvas`; images of a mosaic keep
    their aspect.
    """

    datasets: Sequence[Dataset]
    weights: Sequence[float]
    canvas: tuple[int, int]
    config: DetectorDataConfig
    donors: Donors = NOBODY
    squash: bool = False

    def __call__(self, number: int, row: int, rng: Rng) -> DetectionBatch:
        """Makes an example of an image of `datasets[number]`; errors as `cut_image`'s."""
        image = np.zeros((*self.canvas, 3), np.uint8)
        tiles = Mosaic(self.config.augmentation.mosaic)(self.canvas, rng)
        if len(tiles) == 1:
            size, regions = self._show(image, number, row, rng)
        else:
            size, found = self.canvas, []
            for i, (rows, columns) in enumerate(tiles):
                if i:
                    number, row = self._draw(rng)
                _, seen = self._show(image[rows, columns], number, row, rng, tile=True)
                corner = np.array([columns.start, rows.start])
                found.append(seen._replace(box=seen.box + np.tile(corner, 2)))
            columns = (column for column in zip(*found) if column[0] is not None)
            regions = Regions(*map(np.concatenate, columns))
        boxes, person, ignore, classes = as_table(regions, self.config.max_boxes)
        size = np.array(size, np.int32)
        return DetectionBatch(image, size, boxes, person, ignore, np.float32(1), classes)

    def view(
        self, room: tuple[int, int], number: int, row: int, rng: Rng, *, tile: bool = False
    ) -> View:
        """Draws what is shown of an image where there is room for so many rows and columns."""
        dataset = self.datasets[number]
        people, group = dataset.people, dataset.people_of(row)
        boxes = people.box[group][~people.is_crowd[group]]
        image = int(dataset.images.height[row]), int(dataset.images.width[row])
        view = View.fit(image, room, squash=self.squash)
        for transform in image_geometry(self.config.augmentation, tile=tile):
            view = transform(view, boxes, rng)
        return view

    def _show(
        self, canvas: Picture, number: int, row: int, rng: Rng, *, tile: bool = False
    ) -> tuple[tuple[int, int], Regions]:
        """Draws an image into a canvas's corner; returns the sides it takes, and what is there."""
        dataset, config = self.datasets[number], self.config.augmentation
        rows, columns, _ = canvas.shape
        view = self.view((rows, columns), number, row, rng, tile=tile)
        height, width = view.shown
        image = canvas[:height, :width]
        size = {"height": height, "width": width}
        cut_image(dataset, row, view.affine, **size, repeat_edge=True, out=image)
        scene = ImageScene(look(dataset, row, view, min_visible=config.min_visible))
        for transform in image_pixels(config, self.donors):
            image[...] = transform(image, scene, rng)
        return view.shown, scene.regions

    def _draw(self, rng: Rng) -> tuple[int, int]:
        """Any image of the mixture."""
        shares = np.array(self.weights) / sum(self.weights)
        number = int(rng.choice(len(shares), p=shares))
        return number, int(rng.choice(self._rows[number]))

    @functools.cached_property
    def _rows(self) -> list[Int64[np.ndarray, " R"]]:
        return [trainable_images(dataset) for dataset in self.datasets]


def with_completeness(datasets: Sequence[Dataset], complete: Sequence[bool]) -> list[Dataset]:
    """The data sets, those marked False as if each image said that not all people have boxes.

    A DataError if there are not as many flags as data sets (or none).
    """
    if complete and len(complete) != len(datasets):
        raise DataError(
            f"boxes_complete = {complete}: {len(complete)} flags for {len(datasets)} data "
            "directories"
        )
    images = [
        dataclasses.replace(dataset.images, boxes_complete=dataset.images.boxes_complete & flag)
        for dataset, flag in zip(datasets, complete or [True] * len(datasets))
    ]
    return [dataclasses.replace(dataset, images=i) for dataset, i in zip(datasets, images)]


def trainable_images(dataset: Dataset) -> Int64[np.ndarray, " R"]:
    """Rows of the images to train on: those with a labelled person, or else without any."""
    people = dataset.people
    taught = dataset.images.boxes_complete.copy()
    taught[people.image[~people.is_crowd & people.has_inside]] = True
    return np.flatnonzero(taught)


def look(dataset: Dataset, row: int, view: View, *, min_visible: float) -> Regions:
    """The people of an image as they are seen in a view.

    A person of whose box less than the share `min_visible` is seen is a region to ignore, like a
    crowd; so is the whole view if the image's people are not all labelled.
    """
    people, group = dataset.people, dataset.people_of(row)
    image, window = (np.array(sides[::-1]) for sides in (view.image, view.shown))
    affine, corners = view.affine, people.box[group].reshape(-1, 2, 2).astype(np.float64)
    # A map of pixel centres; a box begins half a pixel before the first, and ends so much after.
    ends = affine[[0, 1], [0, 1]] * (corners.clip(0, image) - 0.5) + affine[:, 2] + 0.5
    ends.sort(axis=1)
    seen = ends.clip(0, window)
    there = ((corners[:, 0] < corners[:, 1]) & (seen[:, 0] < seen[:, 1])).all(axis=1)
    (w, h), (all_w, all_h) = ((points[:, 1] - points[:, 0]).T for points in (seen, ends))
    person = ~people.is_crowd[group] & (w * h >= min_visible * all_w * all_h)
    box, person = seen[there].reshape(-1, 4), person[there]
    classes = None if people.classes is None else people.classes[group][there]
    whole = int(not dataset.images.boxes_complete[row])
    if whole:
        box, person = np.insert(box, 0, (0, 0, *window), axis=0), np.insert(person, 0, False)
        classes = None if classes is None else np.insert(classes, 0, 0)
    return Regions(box.astype(np.float32), person, np.arange(len(box)) < whole, classes)


def as_table(
    regions: Regions, count: int
) -> tuple[
    Float32[np.ndarray, "N 4"],
    Bool[np.ndarray, " N"],
    Bool[np.ndarray, " N"],
    Int32[np.ndarray, " N"] | None,
]:
    """Boxes, which are people and which are to be ignored, and their classes, in `count` rows.

    Incomplete images come first, then boxes by size. If there are too many, the last row is a
    region to ignore around all that is left over.
    """
    sides = regions.box[:, 2:] - regions.box[:, :2]
    order = np.lexsort((-sides[:, 0] * sides[:, 1], ~regions.whole))
    box, person = regions.box[order], regions.person[order]
    boxes, is_person = np.zeros((count, 4), np.float32), np.zeros(count, bool)
    boxes[: len(box)], is_person[: len(box)] = box[:count], person[:count]
    if len(box) > count:
        rest = box[count - 1 :]
        boxes[-1] = *rest[:, :2].min(axis=0), *rest[:, 2:].max(axis=0)
        is_person[-1] = False
    classes = None
    if regions.classes is not None:
        classes = np.zeros(count, np.int32)
        classes[: len(box)] = regions.classes[order][:count]
    return boxes, is_person, ~is_person & (np.arange(count) < len(box)), classes
