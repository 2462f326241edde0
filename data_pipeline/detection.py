"""From pictures and their people to one training example of the detector (paper, section 3.1).

One affine map per picture does everything geometric (fitting, enlarging, cutting, mirroring), so
it is sampled once. The examples have `g_rmi.types.DetectionBatch`'s fields without the B axis.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64, UInt8

from data_pipeline.copy_paste import Strangers
from data_pipeline.images import Picture, cut_image
from data_pipeline.schema import DataError, Dataset
from data_pipeline.transforms import jitter_colour
from g_rmi.config import DetectorAugmentation, DetectorDataConfig
from g_rmi.geometry import Affine, apply_affine, fit_canvas, resize_affine

_PASTED = 3  # Most strangers put into one picture.
_CENTRE = (0.25, 0.75)  # Where the four pictures of a mosaic meet, as shares of the canvas's sides.


class DetectionExample(NamedTuple):
    """One row of a `DetectionBatch`; weights and types as there."""

    record_id: np.int64
    image: UInt8[np.ndarray, "H W 3"]
    size: Int32[np.ndarray, "2"]
    boxes: Float32[np.ndarray, "N 4"]
    person: Bool[np.ndarray, " N"]
    ignore: Bool[np.ndarray, " N"]
    weight: np.float32


class Window(NamedTuple):
    """What is seen of a picture.

    Attributes:
      affine: Map from image points to pixels of the window.
      size: Rows and columns of the window, all inside the picture.
    """

    affine: Affine
    size: tuple[int, int]


class Regions(NamedTuple):
    """Boxes in a window or on a canvas.

    Attributes:
      box: `(x0, y0, x1, y1)` with an inside.
      person: A labelled person; else a region to ignore.
      whole: A region to ignore because people in the picture are not labelled.
    """

    box: Float[np.ndarray, "M 4"]
    person: Bool[np.ndarray, " M"]
    whole: Bool[np.ndarray, " M"]


@dataclasses.dataclass(frozen=True)
class DetectionExamples:
    """Makes the training examples of some data sets on canvases of one size.

    Attributes:
      datasets: Pictures and people.
      weights: Shares of the data sets among the pictures that fill up a mosaic.
      canvas: Rows and columns.
      config: Augmentation and number of boxes.
      strangers: Who may be put into the pictures.
    """

    datasets: Sequence[Dataset]
    weights: Sequence[float]
    canvas: tuple[int, int]
    config: DetectorDataConfig
    strangers: Strangers = dataclasses.field(default_factory=lambda: Strangers(()))

    def __call__(self, number: int, row: int, rng: np.random.Generator) -> DetectionExample:
        """Makes an example of a picture of `datasets[number]`.

        Raises:
          ImageError: A picture cannot be read, is broken or of another size than annotated; the
            message names the file.
        """
        image = np.zeros((*self.canvas, 3), np.uint8)
        if rng.random() < self.config.augmentation.mosaic:
            size, regions = self._mosaic(image, number, row, rng)
        else:
            size, regions = self._single(image, number, row, rng)
        boxes, person, ignore = as_table(regions, self.config.max_boxes)
        return DetectionExample(
            record_id=self.datasets[number].images.id[row],
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
        """Draws a resized picture, or as much as there is room for, into a canvas's corner.

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
        regions = look(dataset, row, window, min_visible=config.min_visible)
        if config.copy_paste > 0 and rng.random() < config.copy_paste:
            for _ in range(rng.integers(1, _PASTED + 1)):
                regions = self._paste(image, regions, rng)
        if config.colour > 0:
            image[...] = jitter_colour(image, config.colour, rng)
        return window.size, regions

    def _paste(self, image: Picture, regions: Regions, rng: np.random.Generator) -> Regions:
        """Puts a stranger into a picture; who is hidden by them becomes a region to ignore."""
        box, mask = self.strangers.put_onto(image, rng)
        hidden = covered_shares(mask, regions.box) > 1 - self.config.augmentation.min_visible
        return Regions(
            box=np.concatenate([regions.box, box[None].astype(np.float32)]),
            person=np.append(regions.person & ~hidden, True),
            whole=np.append(regions.whole, False),
        )

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Any picture of the mixture."""
        shares = np.array(self.weights) / sum(self.weights)
        number = int(rng.choice(len(shares), p=shares))
        return number, int(rng.choice(self._rows[number]))

    @functools.cached_property
    def _rows(self) -> list[Int64[np.ndarray, " R"]]:
        return [trainable_images(dataset) for dataset in self.datasets]


def with_completeness(datasets: Sequence[Dataset], complete: Sequence[bool]) -> list[Dataset]:
    """The data sets, those marked False as if each picture said that not all people have boxes.

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
    """Rows of the pictures to train on: those with a labelled person, or else without any."""
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
    """Draws what is seen of a picture: mirrored or not, and where it is cut if it is too large.

    A cut shows the whole of a random labelled person, or nothing else than a part where the
    person is larger than the room; without labelled people it lies anywhere.

    Args:
      dataset: Of the picture.
      row: Of the picture.
      config: Probability of mirroring.
      rng: Source of randomness.
      resized: Rows and columns of the whole picture.
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
    """The people of a picture as they are seen in a window.

    A person of whose box less than the share `min_visible` is seen is a region to ignore, like a
    crowd; so is the whole window if the picture's people are not all labelled.
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
    first: float, last: float, scale: float, shift: float, picture: float, window: float
) -> tuple[tuple[float, float], float]:
    """Where a box begins and ends along one side of a window, and how long it is uncut.

    The map (scale, shift) is one of pixel centres; a box begins half a pixel before the centre of
    its first pixel and ends half a pixel after that of its last.
    """
    ends = (scale * (min(max(end, 0.0), picture) - 0.5) + shift + 0.5 for end in (first, last))
    low, high = sorted(ends) if first < last else (0.0, 0.0)
    return (min(max(low, 0.0), window), min(max(high, 0.0), window)), high - low


def covered_shares(
    mask: UInt8[np.ndarray, "H W"], boxes: Float[np.ndarray, "M 4"]
) -> Float[np.ndarray, " M"]:
    """How much of each box a mask (0 to 255) covers."""
    total = cv2.integral(mask)
    x0, y0, x1, y1 = np.rint(boxes).astype(int).clip(0, np.tile(mask.shape[::-1], 2)).T
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return inside / 255 / np.maximum((x1 - x0) * (y1 - y0), 1)


def as_table(
    regions: Regions, count: int
) -> tuple[Float32[np.ndarray, "N 4"], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Boxes, which are people and which are to be ignored, in `count` rows.

    Incomplete pictures come first, then boxes by size. If there are too many, the last row is a
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
    """Rows and columns of a picture that fits a canvas of its orientation."""
    return fit_canvas(height, width, canvas=(min(canvas), max(canvas))).size
