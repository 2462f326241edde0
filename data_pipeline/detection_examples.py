"""From images and their people to one training example of the detector (paper, section 3.1).

One affine map per image does everything geometric (fitting, enlarging, cutting, mirroring), so it
is sampled once.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from data_pipeline.augment import ImageScene, Regions, image_pixels
from data_pipeline.config import DetectorAugmentation, DetectorDataConfig
from data_pipeline.copy_paste import NOBODY, Donors
from data_pipeline.images import Picture, cut_image
from data_pipeline.schema import DataError, Dataset
from g_rmi.geometry import Affine, apply_affine, fit_canvas, resize_affine
from g_rmi.types import DetectionBatch

# Where the four images of a mosaic meet, as shares of the canvas's sides.
_CENTRE = (0.25, 0.75)


class Window(NamedTuple):
    """What is seen of an image.

    Attributes:
      affine: Map from image points to pixels of the window.
      size: Rows and columns of the window, all inside the image.
    """

    affine: Affine
    size: tuple[int, int]


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

    def __call__(self, number: int, row: int, rng: np.random.Generator) -> DetectionBatch:
        """Makes an example of an image of `datasets[number]`.

        Raises:
          ImageError: An image cannot be read, is broken or of another size than annotated; the
            message names the file.
        """
        image = np.zeros((*self.canvas, 3), np.uint8)
        if rng.random() < self.config.augmentation.mosaic:
            size, regions = self._mosaic(image, number, row, rng)
        else:
            size, regions = self._single(image, number, row, rng)
        boxes, person, ignore = as_table(regions, self.config.max_boxes)
        return DetectionBatch(
            image=image,
            size=np.array(size, np.int32),
            boxes=boxes,
            person=person,
            ignore=ignore,
            weight=np.float32(1),
        )

    def _single(
        self, canvas: Picture, number: int, row: int, rng: np.random.Generator
    ) -> tuple[tuple[int, int], Regions]:
        images = self.datasets[number].images
        height, width = int(images.height[row]), int(images.width[row])
        low, high = map(math.log, self.config.augmentation.scale)
        scale = math.exp(rng.uniform(low, high))
        rows, columns = _fit(height, width, self.canvas)
        resized = max(round(scale * rows), 1), max(round(scale * columns), 1)
        return self._part(canvas, number, row, rng, resized=resized)

    def _mosaic(
        self, canvas: Picture, number: int, row: int, rng: np.random.Generator
    ) -> tuple[tuple[int, int], Regions]:
        rows, columns = self.canvas
        y, x = (math.ceil(side * rng.uniform(*_CENTRE)) for side in (rows - 1, columns - 1))
        tiles = (0, 0, y, x), (0, x, y, columns), (y, 0, rows, x), (y, x, rows, columns)
        found = []
        for i, (top, left, bottom, right) in enumerate(tiles):
            if i:
                number, row = self._draw(rng)
            images, room = self.datasets[number].images, (bottom - top, right - left)
            height, width = int(images.height[row]), int(images.width[row])
            low, high = (math.log(max(scale, 1.0)) for scale in self.config.augmentation.scale)
            scale = math.exp(rng.uniform(low, high)) * max(room[0] / height, room[1] / width)
            resized = max(round(scale * height), room[0]), max(round(scale * width), room[1])
            tile = canvas[top:bottom, left:right]
            _, regions = self._part(tile, number, row, rng, resized=resized)
            found.append(regions._replace(box=regions.box + np.array([left, top, left, top])))
        return self.canvas, Regions(*map(np.concatenate, zip(*found)))

    def _part(
        self,
        canvas: Picture,
        number: int,
        row: int,
        rng: np.random.Generator,
        *,
        resized: tuple[int, int],
    ) -> tuple[tuple[int, int], Regions]:
        """Draws a resized image, or as much as there is room for, into a canvas's corner.

        Returns:
          Rows and columns that it takes, and what is in them.
        """
        config, dataset = self.config.augmentation, self.datasets[number]
        room = canvas.shape[0], canvas.shape[1]
        window = sample_window(dataset, row, config, rng, resized=resized, room=room)
        height, width = window.size
        image = canvas[:height, :width]
        cut_image(
            dataset, row, window.affine, height=height, width=width, repeat_edge=True, out=image
        )
        scene = ImageScene(look(dataset, row, window, min_visible=config.min_visible))
        for transform in self._pixels:
            image[...] = transform(image, scene, rng)
        return window.size, scene.regions

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
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


def sample_window(
    dataset: Dataset,
    row: int,
    config: DetectorAugmentation,
    rng: np.random.Generator,
    *,
    resized: tuple[int, int],
    room: tuple[int, int],
) -> Window:
    """Draws what is seen of an image: mirrored or not, and where it is cut if it is too large.

    A cut shows the whole of a random labelled person, or nothing else than a part where the
    person is larger than the room; without labelled people it lies anywhere.

    Args:
      dataset: Of the image.
      row: Of the image.
      config: Probability of mirroring.
      rng: Source of randomness.
      resized: Rows and columns of the whole image.
      room: Rows and columns there is room for.
    """
    rows, columns = resized
    size = min(rows, room[0]), min(columns, room[1])
    images, people = dataset.images, dataset.people
    affine = resize_affine(
        int(images.height[row]), int(images.width[row]), rows=rows, columns=columns
    )
    if rng.random() < config.flip:
        affine[0] = -affine[0, 0], 0, columns - 1
    if size != resized:
        group = dataset.people_of(row)
        box = people.box[group][~people.is_crowd[group]]
        if len(box):
            low, high = np.sort(apply_affine(affine, rng.choice(box).reshape(2, 2)), axis=0)
        else:
            low, high = np.zeros(2), np.array([columns, rows])
        span = np.array(size[::-1])
        first, last = np.sort([low, high - span], axis=0).clip(0, np.array([columns, rows]) - span)
        affine[:, 2] -= rng.uniform(first, last)
    return Window(affine, size)


def look(dataset: Dataset, row: int, window: Window, *, min_visible: float) -> Regions:
    """The people of an image as they are seen in a window.

    A person of whose box less than the share `min_visible` is seen is a region to ignore, like a
    crowd; so is the whole window if the image's people are not all labelled.
    """
    images, people = dataset.images, dataset.people
    group = dataset.people_of(row)
    (a, _, x), (_, d, y) = window.affine.tolist()
    along_x = a, x, float(images.width[row]), float(window.size[1])
    along_y = d, y, float(images.height[row]), float(window.size[0])
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


def _fit(height: int, width: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of an image that fits a canvas of its orientation."""
    return fit_canvas(height, width, canvas=(min(canvas), max(canvas))).size
