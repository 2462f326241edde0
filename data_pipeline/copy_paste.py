"""People cut out along their outlines and put into other images (Ghiasi et al. 2021).

A few hundred photographs are soon known by heart, backgrounds first. A person before another
background, or with somebody in front, is still the same person with the same joints.
"""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from data_pipeline.images import Picture, cut_image
from data_pipeline.schema import DataError, Dataset
from data_pipeline.windows import Rng, Window, log_uniform
from g_rmi.geometry import Affine, apply_affine

_SUBPIXEL_BITS = 4  # OpenCV's fixed-point coordinates
_FINER = 4  # Masks are drawn so much larger first: OpenCV's own smooth edges are too wide.
_SIZE = (0.5, 1.4)  # A donor's size, in that of somebody who fills the crop.
_ASIDE = (0.3, 0.8)  # How far from the middle they stand, in widths of the crop ...
_ALOFT = 0.4  # ... and in heights, at most.
_HEIGHT = (0.15, 0.9)  # Who is put into a whole image is so high, in heights of it ...
_ENLARGEMENT = 2.0  # ... and at most so much higher than in their own.
_INSIDE = 0.7  # So much of their width and height is in the image.


def outline_mask(
    outline: Sequence[Float32[np.ndarray, "_ 2"]], affine: Affine, *, height: int, width: int
) -> UInt8[np.ndarray, "H W"]:
    """What polygons of image points cover of a crop, 0 to 255; their edges are smooth."""
    fine = np.zeros((_FINER * height, _FINER * width), np.uint8)
    for polygon in outline:
        points = _FINER * apply_affine(affine, polygon) + (_FINER - 1) / 2
        points = np.rint(points * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(fine, [points], 255, shift=_SUBPIXEL_BITS)
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)


def put_before(front: Picture, mask: UInt8[np.ndarray, "H W"], back: Picture) -> Picture:
    """One image where the mask is 255, another where it is 0, both of them in between."""
    share = mask.astype(np.float32) / 255
    return cv2.blendLinear(front, back, share, 1 - share)


@dataclasses.dataclass(frozen=True)
class Donors:
    """The people of some data sets that have an outline, to be put into crops of others."""

    datasets: Sequence[Dataset]

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    def put_into(self, crop: Picture, rng: Rng) -> Picture:
        """Puts one of them beside, and maybe partly before, whoever fills the crop.

        An ImageError names the file if their image cannot be read, here and below.
        """
        dataset, row = self._draw(rng)
        height, width = crop.shape[:2]
        person = Window.around(dataset.people.box[row], height / width)
        size = log_uniform(*_SIZE, rng)
        w, h = person.width / size, person.height / size
        aside = rng.uniform(*_ASIDE) * (1 if rng.random() < 0.5 else -1)
        x, y = person.x + aside * w, person.y + rng.uniform(-_ALOFT, _ALOFT) * h
        window = Window(x, y, w, h, person.aspect, flip=rng.random() < 0.5)
        return _put(dataset, row, window.affine(height=height, width=width), crop)[0]

    def put_onto(
        self, picture: Picture, rng: Rng
    ) -> tuple[Float[np.ndarray, "4"], UInt8[np.ndarray, "H W"], int | None]:
        """Puts one of them anywhere into an image, which is changed.

        Returns their box, as far as it lies in the image, what they cover of it, 0 to 255, and
        their class where there are several.
        """
        dataset, row = self._draw(rng)
        points = np.concatenate(dataset.outlines[int(dataset.people.id[row])])
        corner, extent = points.min(axis=0), np.ptp(points, axis=0) + 1  # in pixels, not centres
        room = np.array(picture.shape[1::-1])
        scale = min(log_uniform(*_HEIGHT, rng) * room[1] / extent[1], _ENLARGEMENT)
        size = scale * extent
        place = rng.uniform(*np.sort([(_INSIDE - 1) * size, room - _INSIDE * size], axis=0))
        affine = np.array([[scale, 0, 0], [0, scale, 0]])
        if rng.random() < 0.5:
            affine[0, 0], corner = -scale, corner + np.array([extent[0] - 1, 0])
        # Both frames' points are pixel centres: the first pixel's edge comes to lie on `place`.
        edge = corner - 0.5 * np.sign([affine[0, 0], 1])
        affine[:, 2] = place - 0.5 - affine[:, :2] @ edge
        first = np.maximum(np.floor(place), 0).astype(int)
        last = np.minimum(np.ceil(place + size), room).astype(int)
        part = slice(first[1], last[1]), slice(first[0], last[0])
        affine[:, 2] -= first
        covered = np.zeros(picture.shape[:2], np.uint8)
        back = np.ascontiguousarray(picture[part])
        picture[part], covered[part] = _put(dataset, row, affine, back)
        classes = dataset.people.classes
        number = None if classes is None else int(classes[row])
        return np.concatenate([place, place + size]).clip(0, np.tile(room, 2)), covered, number

    def _draw(self, rng: Rng) -> tuple[Dataset, int]:
        counts = np.array([len(rows) for rows in self._rows])
        number = int(rng.choice(len(counts), p=counts / counts.sum()))
        return self.datasets[number], int(rng.choice(self._rows[number]))

    @functools.cached_property
    def _rows(self) -> list[Int64[np.ndarray, " R"]]:
        return [
            np.flatnonzero(np.isin(dataset.people.id, list(dataset.outlines)))
            for dataset in self.datasets
        ]


def _put(
    dataset: Dataset, row: int, affine: Affine, back: Picture
) -> tuple[Picture, UInt8[np.ndarray, "H W"]]:
    """A picture with a person put before it, and what they cover of it, 0 to 255."""
    size = {"height": back.shape[0], "width": back.shape[1]}
    person = cut_image(dataset, int(dataset.people.image[row]), affine, **size)
    mask = outline_mask(dataset.outlines[int(dataset.people.id[row])], affine, **size)
    return put_before(person, mask, back), mask


NOBODY = Donors(())


def donors_of(datasets: Sequence[Dataset], copy_paste: float) -> Donors:
    """The people to put into other images, with this probability; a DataError if there are none."""
    donors = Donors(datasets)
    if copy_paste > 0 and not len(donors):
        raise DataError(
            f"copy_paste = {copy_paste}: nobody in {datasets} has an outline "
            "(COCO's 'segmentation'): use 0"
        )
    return donors
