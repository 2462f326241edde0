"""The batches of both stages: for training, endless and resumable; for evaluation, once.

`data_pipeline.stream` mixes, shuffles and reads ahead; here is what goes in: crops around people
for the pose network, whole pictures on canvases for the detector.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from jaxtyping import Int64

from data_pipeline.boxes import PersonBoxes
from data_pipeline.copy_paste import strangers_of
from data_pipeline.detection import (
    DetectionExamples,
    trainable_images,
    with_completeness,
)
from data_pipeline.images import ImageError, cut_image
from data_pipeline.schema import DataError, Dataset
from data_pipeline.stream import (
    Arrays,
    Batches,
    Part,
    Stream,
    alternate,
    mixing_weights,
    read_options,
    stack,
)
from data_pipeline.transforms import PoseExamples
from g_rmi.config import DetectorDataConfig, PoseDataConfig
from g_rmi.geometry import Affine, box_to_crop, compose_affine, fit_canvas, pose_box

# Handing over single examples between threads would cost several percent of the rate.
_CROPS, _PICTURES = 4, 2


def pose_batches(
    datasets: Sequence[Dataset],
    *,
    height: int,
    width: int,
    config: PoseDataConfig,
    batch_size: int,
    seed: int,
    host: int = 0,
    hosts: int = 1,
) -> Batches:
    """Mixes, shuffles, crops and batches the people of some data sets.

    Every data set is repeated in a new order each time it is through; `config.weights` are the
    shares of the data sets in the stream. A batch is annotation ids, and arrays under
    `PoseBatch`'s field names.

    Args:
      datasets: Training splits.
      height: Crop rows.
      width: Crop columns.
      config: Mixture, augmentation, threads.
      batch_size: Examples per batch on this host.
      seed: Of order and augmentation.
      host: Index of this host.
      hosts: Number of hosts.

    Raises:
      DataError: A data set without a person to train on, weights that do not fit, or nobody with
        an outline to copy and paste.
    """
    cv2.setNumThreads(1)  # The pictures are read in parallel already.
    strangers = strangers_of(datasets, config.augmentation.copy_paste)
    parts = []
    for dataset, weight in zip(datasets, mixing_weights(config.weights, len(datasets))):
        people = trainable(dataset, config.min_keypoints)
        if not len(people):
            raise DataError(
                f"{dataset}: no person with at least {config.min_keypoints} annotated joints"
            )
        make = PoseExamples(
            dataset,
            height,
            width,
            config.augmentation,
            config.max_others,
            config.unlabelled,
            strangers,
        )
        parts.append(Part(people, weight, make, functools.partial(_file_of_person, dataset)))
    names = {dataset.skeleton.names for dataset in datasets}
    if len(names) > 1:
        raise DataError(f"data sets with different joints cannot be mixed: {sorted(names)}")
    stream = Stream(
        parts,
        seed=seed,
        host=host,
        hosts=hosts,
        threads=config.threads,
        processes=config.processes,
        batch_size=batch_size,
        group=_CROPS,
    )
    return Batches([stream], batch_size=batch_size, max_bad_share=config.max_bad_share, hosts=hosts)


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
    host: int = 0,
    hosts: int = 1,
) -> Batches:
    """Mixes, shuffles and batches the pictures of some data sets, a batch on canvases of one size.

    Landscape and portrait pictures have canvases and batches of their own; which of them a step
    gets depends on the step and the share of such pictures alone. Every data set is repeated in a
    new order each time it is through, and has its share (`config.weights`) of all pictures; so no
    picture is shown more often for its orientation. A batch is picture ids (the first picture's
    of a mosaic), and arrays under `DetectionBatch`'s field names.

    Args:
      datasets: Training splits.
      canvas: Shorter and longer side of the canvases.
      config: Mixture, augmentation, number of boxes, threads.
      batch_size: Pictures per batch on this host.
      seed: Of order and augmentation.
      host: Index of this host.
      hosts: Number of hosts.

    Raises:
      DataError: A data set without a picture to train on, weights or flags that do not fit, or
        nobody with an outline to copy and paste.
    """
    cv2.setNumThreads(1)
    weights = mixing_weights(config.weights, len(datasets))
    datasets = with_completeness(datasets, config.boxes_complete)
    strangers = strangers_of(datasets, config.augmentation.copy_paste)
    parts: dict[bool, list[Part]] = {True: [], False: []}
    for i, (dataset, weight) in enumerate(zip(datasets, weights)):
        rows = trainable_images(dataset)
        if not len(rows):
            raise DataError(f"{dataset}: no picture to train on")
        for landscape, there in _by_orientation(dataset, rows).items():
            size = canvas if landscape else canvas[::-1]
            examples = DetectionExamples(datasets, weights, size, config, strangers)
            make = functools.partial(examples, i)
            if len(there):
                share = weight * len(there) / len(rows)
                parts[landscape].append(Part(there, share, make, dataset.source.name))
    streams = [
        Stream(
            there,
            number=number,
            seed=seed,
            host=host,
            hosts=hosts,
            threads=config.threads,
            processes=config.processes,
            batch_size=batch_size,
            group=_PICTURES,
        )
        for number, there in enumerate(filter(None, parts.values()))
    ]
    shares = [sum(part.weight for part in there) for there in parts.values() if there]
    return Batches(
        streams,
        alternate(shares[0] / sum(shares)),
        batch_size=batch_size,
        max_bad_share=config.max_bad_share,
        hosts=hosts,
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
    host: int = 0,
    hosts: int = 1,
    threads: int = 8,
) -> Iterator[Arrays]:
    """Cuts the crops of a table of boxes for evaluation, every row once over all hosts.

    Args:
      dataset: Where the pictures are.
      boxes: The table.
      height: Crop rows.
      width: Crop columns.
      box_scale: Enlargement of the boxes after extending them to the crop's aspect.
      batch_size: Crops per batch on this host.
      turns: Maps from a crop's pixels to those of more views of it, which are cut as well.
      host: Index of this host.
      hosts: Number of hosts; all get the same number of batches.
      threads: Reader threads.

    Yields:
      `image` uint8 [B, H, W, 3], with turns [B, 1 + turns, H, W, 3]; `box` float32 [B, 4], the
      enlarged box in image pixels; `index` int64 [B], the row in the table; `weight` float32 [B].
      The last batch is filled with rows of weight 0 and index -1.

    Raises:
      DataError: A picture is broken; names the file.
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
    yield from _once(
        np.arange(len(boxes)),
        crop,
        empty,
        batch_size=batch_size,
        host=host,
        hosts=hosts,
        threads=threads,
    )


def canvases(
    dataset: Dataset,
    *,
    canvas: tuple[int, int],
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
    threads: int = 8,
) -> Iterator[Arrays]:
    """Fits the pictures of a data set to canvases for evaluation, each once over all hosts.

    First come all landscape pictures, then all portrait ones.

    Args:
      dataset: Where the pictures are.
      canvas: Shorter and longer side of the canvases.
      batch_size: Pictures per batch on this host.
      host: Index of this host.
      hosts: Number of hosts; all get the same number of batches of each shape.
      threads: Reader threads.

    Yields:
      `image` uint8 [B, H, W, 3]; `size` int32 [B, 2], rows and columns of the picture on its
      canvas; `scale` float32 [B, 2], image pixels per canvas pixel along x and y; `index` int64
      [B], the row in `dataset.images`; `weight` float32 [B]. The last batch of each shape is
      filled with rows of weight 0 and index -1. A point p of the canvas is `scale * p` in the
      image, and a box b, as it begins half a pixel before a centre, `scale * b + (1 - scale) / 2`.

    Raises:
      DataError: A picture is broken; names the file.
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
        yield from _once(
            rows, place, empty, batch_size=batch_size, host=host, hosts=hosts, threads=threads
        )


def _by_orientation(dataset: Dataset, rows: np.ndarray) -> dict[bool, np.ndarray]:
    """Rows of the landscape pictures under True, of the portrait ones under False."""
    landscape = dataset.images.width[rows] >= dataset.images.height[rows]
    return {True: rows[landscape], False: rows[~landscape]}


def _once(
    rows: np.ndarray,
    make: Callable[[int], dict[str, Any]],
    empty: dict[str, Any],
    *,
    batch_size: int,
    host: int,
    hosts: int,
    threads: int,
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
    stream = grain.MapDataset.source(rows[host::hosts].tolist()).map(record)
    records = iter(stream.to_iter_dataset(read_options(threads, batch_size)))
    try:
        for _ in range(-(-len(rows) // (hosts * batch_size))):
            batch = list(itertools.islice(records, batch_size))
            yield stack(names, batch + [filling] * (batch_size - len(batch)))
    finally:
        records.close()
