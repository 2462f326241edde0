"""The batches of both stages: for training, endless and resumable; for evaluation, once.

`data_pipeline.stream` mixes, shuffles and reads ahead; here is what goes in: crops around people
for the pose network, whole images on canvases for the detector. `share` says which of several
hosts this is; all get the same number of batches of each shape.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from jaxtyping import Int64, Shaped

from data_pipeline.boxes import PersonBoxes
from data_pipeline.config import DetectorDataConfig, PoseDataConfig
from data_pipeline.copy_paste import donors_of
from data_pipeline.detection_examples import (
    DetectionExamples,
    trainable_images,
    with_completeness,
)
from data_pipeline.images import ImageError, cut_image
from data_pipeline.pose_examples import PoseExamples
from data_pipeline.schema import DataError, Dataset
from data_pipeline.stream import (
    IN_THREADS,
    Batches,
    Part,
    Reading,
    Stream,
    alternate,
    mixing_weights,
    stack,
)
from g_rmi.geometry import Affine, box_to_crop, compose_affine, fit_canvas, pose_box
from g_rmi.types import ALONE, Share

Arrays = dict[str, Shaped[np.ndarray, "B ..."]]

# Handing over single examples between threads would cost several percent of the rate.
_CROPS, _IMAGES = 4, 2


def pose_batches(
    datasets: Sequence[Dataset],
    *,
    height: int,
    width: int,
    config: PoseDataConfig,
    batch_size: int,
    seed: int,
    share: Share = ALONE,
) -> Batches:
    """Mixes, shuffles, crops and batches the people of some data sets.

    Every data set is repeated in a new order each time it is through; `config.weights` are the
    shares of the data sets in the stream. A batch is annotation ids and a `PoseBatch`.

    Args:
      datasets: Training splits.
      height: Crop rows.
      width: Crop columns.
      config: Mixture, augmentation, threads.
      batch_size: Examples per batch on this host.
      seed: Of order and augmentation.
      share: Of this host.

    Raises:
      DataError: A data set without a person to train on, weights that do not fit, or nobody with
        an outline to copy and paste.
    """
    cv2.setNumThreads(1)  # The images are read in parallel already.
    donors = donors_of(datasets, config.augmentation.copy_paste)
    parts = []
    for dataset, weight in zip(datasets, mixing_weights(config.weights, len(datasets))):
        people = trainable(dataset, config.min_keypoints)
        if not len(people):
            raise DataError(
                f"{dataset}: no person with at least {config.min_keypoints} annotated joints"
            )
        make = PoseExamples(dataset, height, width, config, donors)
        name = functools.partial(_file_of_person, dataset)
        parts.append(Part(people, dataset.people.id, weight, make, name))
    names = {dataset.skeleton.names for dataset in datasets}
    if len(names) > 1:
        raise DataError(f"data sets with different joints cannot be mixed: {sorted(names)}")
    stream = Stream(
        parts,
        seed=seed,
        share=share,
        reading=Reading(config.threads, config.processes),
        batch_size=batch_size,
        group=_CROPS,
    )
    return Batches(
        [stream], batch_size=batch_size, max_bad_share=config.max_bad_share, hosts=share.hosts
    )


def _file_of_person(dataset: Dataset, row: int) -> str:
    return dataset.source.name(int(dataset.people.image[row]))


def trainable(dataset: Dataset, min_keypoints: int) -> Int64[np.ndarray, " R"]:
    """Rows of the people to train on: no crowds, enough joints, a box with an inside."""
    people = dataset.people
    usable = ~people.is_crowd & people.has_inside
    return np.flatnonzero(usable & (people.num_keypoints >= min_keypoints))


def detection_batches(
    datasets: Sequence[Dataset],
    *,
    canvas: tuple[int, int],
    config: DetectorDataConfig,
    batch_size: int,
    seed: int,
    share: Share = ALONE,
) -> Batches:
    """Mixes, shuffles and batches the images of some data sets, a batch on canvases of one size.

    Landscape and portrait images have canvases and batches of their own; which of them a step
    gets depends on the step and the share of such images alone. Every data set is repeated in a
    new order each time it is through, and has its share (`config.weights`) of all images; so no
    image is shown more often for its orientation. A batch is image ids (the first image's of a
    mosaic) and a `DetectionBatch`.

    Args:
      datasets: Training splits.
      canvas: Shorter and longer side of the canvases.
      config: Mixture, augmentation, number of boxes, threads.
      batch_size: Images per batch on this host.
      seed: Of order and augmentation.
      share: Of this host.

    Raises:
      DataError: A data set without an image to train on, weights or flags that do not fit, or
        nobody with an outline to copy and paste.
    """
    cv2.setNumThreads(1)
    weights = mixing_weights(config.weights, len(datasets))
    datasets = with_completeness(datasets, config.boxes_complete)
    donors = donors_of(datasets, config.augmentation.copy_paste)
    parts: dict[bool, list[Part]] = {True: [], False: []}
    for i, (dataset, weight) in enumerate(zip(datasets, weights)):
        rows = trainable_images(dataset)
        if not len(rows):
            raise DataError(f"{dataset}: no image to train on")
        for landscape, there in _by_orientation(dataset, rows).items():
            size = canvas if landscape else canvas[::-1]
            examples = DetectionExamples(datasets, weights, size, config, donors)
            make = functools.partial(examples, i)
            if len(there):
                part = weight * len(there) / len(rows)
                parts[landscape].append(
                    Part(there, dataset.images.id, part, make, dataset.source.name)
                )
    streams = [
        Stream(
            there,
            number=number,
            seed=seed,
            share=share,
            reading=Reading(config.threads, config.processes),
            batch_size=batch_size,
            group=_IMAGES,
        )
        for number, there in enumerate(filter(None, parts.values()))
    ]
    shares = [sum(part.weight for part in there) for there in parts.values() if there]
    return Batches(
        streams,
        alternate(shares[0] / sum(shares)),
        batch_size=batch_size,
        max_bad_share=config.max_bad_share,
        hosts=share.hosts,
    )


def box_crops(
    dataset: Dataset,
    boxes: PersonBoxes,
    *,
    height: int,
    width: int,
    box_scale: float,
    batch_size: int,
    turns: Sequence[Affine] = (),
    share: Share = ALONE,
    reading: Reading = IN_THREADS,
) -> Iterator[Arrays]:
    """Cuts the crops of a table of boxes for evaluation, every row once over all hosts.

    Args:
      dataset: Where the images are.
      boxes: The table.
      height: Crop rows.
      width: Crop columns.
      box_scale: Enlargement of the boxes after extending them to the crop's aspect.
      batch_size: Crops per batch on this host.
      turns: Maps from a crop's pixels to those of more views of it, which are cut as well.
      share: Of this host.
      reading: In how many threads.

    Yields:
      `image` uint8 [B, H, W, 3], with turns [B, 1 + turns, H, W, 3]; `box` float32 [B, 4], the
      enlarged box in image pixels; `index` int64 [B], the row in the table; `weight` float32 [B].
      The last batch is filled with rows of weight 0 and index -1.

    Raises:
      DataError: An image is broken; names the file.
    """
    windows = pose_box(boxes.box, aspect=height / width, scale=box_scale)
    shape = (*((1 + len(turns),) if turns else ()), height, width, 3)

    def crop(row: int) -> dict[str, Any]:
        straight = box_to_crop(windows[row], height=height, width=width)
        image = [
            cut_image(dataset, int(boxes.image[row]), affine, height=height, width=width)
            for affine in (straight, *(compose_affine(turn, straight) for turn in turns))
        ]
        return {"image": np.reshape(image, shape), "box": windows[row].astype(np.float32)}

    empty = {"image": np.zeros(shape, np.uint8), "box": np.zeros(4, np.float32)}
    rows = np.arange(len(boxes))
    yield from _once(rows, crop, empty, batch_size=batch_size, share=share, reading=reading)


def canvases(
    dataset: Dataset,
    *,
    canvas: tuple[int, int],
    batch_size: int,
    share: Share = ALONE,
    reading: Reading = IN_THREADS,
) -> Iterator[Arrays]:
    """Fits the images of a data set to canvases for evaluation, each once over all hosts.

    First come all landscape images, then all portrait ones.

    Args:
      dataset: Where the images are.
      canvas: Shorter and longer side of the canvases.
      batch_size: Images per batch on this host.
      share: Of this host.
      reading: In how many threads.

    Yields:
      `image` uint8 [B, H, W, 3]; `size` int32 [B, 2], rows and columns of the image on its
      canvas; `scale` float32 [B, 2], image pixels per canvas pixel along x and y; `index` int64
      [B], the row in `dataset.images`; `weight` float32 [B]. The last batch of each shape is
      filled with rows of weight 0 and index -1. A point p of the canvas is `scale * p` in the
      image, and a box b, as it begins half a pixel before a centre, `scale * b + (1 - scale) / 2`.

    Raises:
      DataError: An image is broken; names the file.
    """
    images = dataset.images

    def place(row: int) -> dict[str, Any]:
        fit = fit_canvas(int(images.height[row]), int(images.width[row]), canvas=canvas)
        height, width = fit.size
        image = np.zeros((*fit.canvas, 3), np.uint8)
        part = image[:height, :width]
        cut_image(dataset, row, fit.affine, height=height, width=width, repeat_edge=True, out=part)
        scale = 1 / fit.affine[[0, 1], [0, 1]]
        return {
            "image": image,
            "size": np.array(fit.size, np.int32),
            "scale": scale.astype(np.float32),
        }

    for landscape, rows in _by_orientation(dataset, np.arange(len(images))).items():
        empty = {
            "image": np.zeros((*(canvas if landscape else canvas[::-1]), 3), np.uint8),
            "size": np.ones(2, np.int32),
            "scale": np.ones(2, np.float32),
        }
        yield from _once(rows, place, empty, batch_size=batch_size, share=share, reading=reading)


def _by_orientation(dataset: Dataset, rows: np.ndarray) -> dict[bool, np.ndarray]:
    """Rows of the landscape images under True, of the portrait ones under False."""
    landscape = dataset.images.width[rows] >= dataset.images.height[rows]
    return {True: rows[landscape], False: rows[~landscape]}


def _once(
    rows: np.ndarray,
    make: Callable[[int], dict[str, Any]],
    empty: dict[str, Any],
    *,
    batch_size: int,
    share: Share,
    reading: Reading,
) -> Iterator[Arrays]:
    """Batches of what is made of some rows, each once over all hosts, `empty` filling the last."""
    cv2.setNumThreads(1)

    def record(row: int) -> tuple:
        try:
            return (*make(row).values(), np.int64(row), np.float32(1))
        except ImageError as error:
            raise DataError(str(error)) from None

    names = (*empty, "index", "weight")
    filling = (*empty.values(), np.int64(-1), np.float32(0))
    stream = grain.MapDataset.source(rows[share.host :: share.hosts].tolist()).map(record)
    records = iter(stream.to_iter_dataset(reading.options(batch_size)))
    try:
        for _ in range(-(-len(rows) // (share.hosts * batch_size))):
            batch = list(itertools.islice(records, batch_size))
            yield dict(zip(names, stack(batch + [filling] * (batch_size - len(batch)))))
    finally:
        records.close()
