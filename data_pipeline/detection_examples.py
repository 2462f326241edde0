"""From images and their people to one training example of the detector (paper, section 3.1).

One affine map per image does everything geometric (fitting, enlarging, cutting, mirroring), so it
is sampled once.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from data_pipeline.augment import ImageScene, Regions, image_pixels
from data_pipeline.config import DetectorDataConfig
from data_pipeline.copy_paste import NOBODY, Donors
from data_pipeline.images import Picture, cut_image
from data_pipeline.schema import DataError, Dataset
from data_pipeline.windows import Mosaic, Rng, View, image_geometry
from g_rmi.types import DetectionBatch


@dataclasses.dataclass(frozen=True)
class DetectionExamples:
    """Makes the training examples of some data sets on canvases of one size.

    Attributes:
      datasets: Images and people.
      weights: Shares of the data sets among the images that fill up a mosaic.
      canvas: Rows and columns.
      config: Augmentation and number of boxes.
      donors: Who may be pasted into the images.
    """

    datasets: Sequence[Dataset]
    weights: Sequence[float]
    canvas: tuple[int, int]
    config: DetectorDataConfig
    donors: Donors = NOBODY

    def __call__(self, number: int, row: int, rng: Rng) -> DetectionBatch:
        """Makes an example of an image of `datasets[number]`.

        Raises:
          ImageError: An image cannot be read, is broken or of another size than annotated; the
            message names the file.
        """
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
            regions = Regions(*map(np.concatenate, zip(*found)))
        boxes, person, ignore = as_table(regions, self.config.max_boxes)
        return DetectionBatch(image, np.array(size, np.int32), boxes, person, ignore, np.float32(1))

    def view(
        self, room: tuple[int, int], number: int, row: int, rng: Rng, *, tile: bool = False
    ) -> View:
        """Draws what is shown of an image where there is room for so many rows and columns."""
        dataset = self.datasets[number]
        people, group = dataset.people, dataset.people_of(row)
        boxes = people.box[group][~people.is_crowd[group]]
        image = int(dataset.images.height[row]), int(dataset.images.width[row])
        view = View.fit(image, room)
        for transform in image_geometry(self.config.augmentation, tile=tile):
            view = transform(view, boxes, rng)
        return view

    def _show(
        self, canvas: Picture, number: int, row: int, rng: Rng, *, tile: bool = False
    ) -> tuple[tuple[int, int], Regions]:
        """Draws an image into a canvas's corner; returns the sides it takes, and what is there."""
        dataset, least = self.datasets[number], self.config.augmentation.min_visible
        rows, columns, _ = canvas.shape
        view = self.view((rows, columns), number, row, rng, tile=tile)
        height, width = view.shown
        image = canvas[:height, :width]
        size = {"height": height, "width": width}
        cut_image(dataset, row, view.affine, **size, repeat_edge=True, out=image)
        scene = ImageScene(look(dataset, row, view, min_visible=least))
        for transform in self._pixels:
            image[...] = transform(image, scene, rng)
        return view.shown, scene.regions

    def _draw(self, rng: Rng) -> tuple[int, int]:
        """Any image of the mixture."""
        shares = np.array(self.weights) / sum(self.weights)
        number = int(rng.choice(len(shares), p=shares))
        return number, int(rng.choice(self._rows[number]))

    @functools.cached_property
    def _pixels(self):
        return image_pixels(self.config.augmentation, self.donors)

    @functools.cached_property
    def _rows(self) -> list[Int64[np.ndarray, " R"]]:
        return [trainable_images(dataset) for dataset in self.datasets]


def with_completeness(datasets: Sequence[Dataset], complete: Sequence[bool]) -> list[Dataset]:
    """The data sets, those marked False as if each image said that not all people have boxes.

    Raises:
      DataError: There are not as many flags as data sets (or none).
    """
    if complete and len(complete) != len(datasets):
        raise DataError(
            f"boxes_complete = {complete}: {len(complete)} flags for {len(datasets)} data "
            "directories"
        )
    marked = []
    for dataset, flag in zip(datasets, complete or [True] * len(datasets)):
        images = dataset.images
        images = dataclasses.replace(images, boxes_complete=images.boxes_complete & flag)
        marked.append(dataclasses.replace(dataset, images=images))
    return marked


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
    images, people = dataset.images, dataset.people
    group = dataset.people_of(row)
    (a, _, x), (_, d, y) = view.affine.tolist()
    along_x = a, x, float(images.width[row]), float(view.shown[1])
    along_y = d, y, float(images.height[row]), float(view.shown[0])
    whole = not images.boxes_complete[row]
    found = [(0.0, 0.0, along_x[3], along_y[3])] if whole else []
    person = [False] * whole
    # There are few of them: numpy's calls would cost more than the arithmetic.
    for box, crowd in zip(people.box[group].tolist(), people.is_crowd[group].tolist()):
        (x0, x1), width = _shadow(box[0], box[2], *along_x)
        (y0, y1), height = _shadow(box[1], box[3], *along_y)
        if x1 > x0 and y1 > y0:
            found.append((x0, y0, x1, y1))
            seen = (x1 - x0) * (y1 - y0)
            person.append(not crowd and seen >= min_visible * width * height)
    return Regions(
        box=np.array(found, np.float32).reshape(-1, 4),
        person=np.array(person, bool),
        whole=np.array([whole, *[False] * len(found)], bool)[: len(found)],
    )


def _shadow(
    first: float, last: float, scale: float, shift: float, image: float, window: float
) -> tuple[tuple[float, float], float]:
    """Where a box begins and ends along one side of a window, and how long it is uncut.

    The map (scale, shift) is one of pixel centres; a box begins half a pixel before the centre of
    its first pixel and ends half a pixel after that of its last.
    """
    ends = (scale * (min(max(end, 0.0), image) - 0.5) + shift + 0.5 for end in (first, last))
    low, high = sorted(ends) if first < last else (0.0, 0.0)
    return (min(max(low, 0.0), window), min(max(high, 0.0), window)), high - low


def as_table(
    regions: Regions, count: int
) -> tuple[Float32[np.ndarray, "N 4"], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Boxes, which are people and which are to be ignored, in `count` rows.

    Incomplete images come first, then boxes by size. If there are too many, the last row is a
    region to ignore around all that is left over.
    """
    sides = regions.box[:, 2:] - regions.box[:, :2]
    order = np.lexsort((-sides[:, 0] * sides[:, 1], ~regions.whole))
    box, person = regions.box[order], regions.person[order]
    if len(box) > count:
        rest = box[count - 1 :]
        around = np.concatenate([rest[:, :2].min(axis=0), rest[:, 2:].max(axis=0)])
        box = np.concatenate([box[: count - 1], around[None]])
        person = np.concatenate([person[: count - 1], [False]])
    boxes = np.zeros((count, 4), np.float32)
    boxes[: len(box)] = box
    is_person = np.zeros(count, bool)
    is_person[: len(box)] = person
    return boxes, is_person, ~is_person & (np.arange(count) < len(box))
