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
from jaxtyping import Bool, Float32, Int64, Shaped

from data_pipeline.boxes import PersonBoxes
from data_pipeline.config import DataConfig, DetectorDataConfig, PartsDataConfig, PoseDataConfig
from data_pipeline.copy_paste import donors_of
from data_pipeline.detection_examples import DetectionExamples, trainable_images, with_completeness
from data_pipeline.images import ImageError, cut_image
from data_pipeline.parts_examples import PartsExamples, parts_images
from data_pipeline.pose_examples import PoseExamples
from data_pipeline.schema import DataError, Dataset
from data_pipeline.stream import Batches, Part, Stream, alternate, read_options, stack
from g_rmi.geometry import Affine, apply_affine, box_to_crop, compose_affine, fit_canvas, pose_box
from g_rmi.types import ALONE, Share

Arrays = dict[str, Shaped[np.ndarray, "B ..."]]

# Handing over single examples between threads would cost several percent of the rate.
_CROPS, _IMAGES = 4, 2
_SAMPLED = 20_000  # People of whom statistics are taken, at most.


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
    """Mixes, shuffles, crops and batches the people of some training splits.

    Every data set is repeated in a new order each time it is through; `config.mix` are the
    shares of the data sets in the stream. A batch is annotation ids and a `PoseBatch`, of
    `batch_size` crops of `height` x `width` pixels on this host. A DataError if a data set has no
    person to train on, `mix` does not fit, or nobody has an outline to copy and paste.
    """
    donors = donors_of(datasets, config.augmentation.copy_paste)
    parts = []
    for dataset, weight in zip(datasets, _shares(config.mix, len(datasets))):
        people = trainable(dataset, config.min_keypoints)
        if not len(people):
            raise DataError(
                f"{dataset}: no person with at least {config.min_keypoints} annotated joints"
            )
        make = PoseExamples(dataset, height, width, config, donors)
        parts.append(Part(people, dataset.people.id, weight, make, make.name))
    _check_joints(datasets)
    return _batches([parts], config, group=_CROPS, batch_size=batch_size, seed=seed, share=share)


def sample_joints(
    datasets: Sequence[Dataset], *, height: int, width: int, config: PoseDataConfig, seed: int
) -> tuple[Float32[np.ndarray, "N K 2"], Bool[np.ndarray, "N K"]]:
    """Where training crops show people's joints, in crop pixels, and which there are.

    As `pose_batches` would vary them, but without pictures: for statistics. Of at most 20,000
    people, spread evenly over the data sets.
    """
    rng, found = np.random.default_rng(seed), []
    for dataset in datasets:
        draw = PoseExamples(dataset, height, width, config).joints
        people = trainable(dataset, config.min_keypoints)
        most = max(1, _SAMPLED // len(datasets))
        chosen = people[:: -(-len(people) // most)]
        found += [draw(int(person), rng) for person in chosen]
    joints, visible = zip(*found)
    return np.stack(joints).astype(np.float32), np.stack(visible)


def trainable(dataset: Dataset, min_keypoints: int) -> Int64[np.ndarray, " R"]:
    """Rows of the people to train on: no crowds, enough joints, a box with an inside."""
    people = dataset.people
    usable = ~people.is_crowd & people.has_inside
    return np.flatnonzero(usable & (people.num_keypoints >= min_keypoints))


def detection_batches(
    datasets: Sequence[Dataset],
    *,
    canvas: tuple[int, int],
    squash: bool = False,
    config: DetectorDataConfig,
    batch_size: int,
    seed: int,
    share: Share = ALONE,
) -> Batches:
    """Mixes, shuffles and batches the images of some training splits on canvases of one size.

    Landscape and portrait images have canvases (`canvas` is their shorter and longer side) and
    batches of their own; which of them a step gets depends on the step and the share of such images
    alone. Every data set is repeated in a new order each time it is through, and has its share
    (`config.mix`) of all images; so no image is shown more often for its orientation. A batch
    is image ids (the first image's of a mosaic) and a `DetectionBatch`. `squash`: see `fit_canvas`.
    A DataError if a data set has no image to train on, `mix` or flags do not fit, or nobody has
    an outline to paste.
    """
    weights = _shares(config.mix, len(datasets))
    datasets = with_completeness(datasets, config.boxes_complete)
    donors = donors_of(datasets, config.augmentation.copy_paste)

    def make(number: int, size: tuple[int, int]) -> Callable:
        examples = DetectionExamples(datasets, weights, size, config, donors, squash)
        return functools.partial(examples, number)

    mixtures = _pictures(datasets, weights, canvas, trainable_images, make)
    how = {"batch_size": batch_size, "seed": seed, "share": share}
    return _batches(mixtures, config, group=_IMAGES, **how)


def parts_batches(
    datasets: Sequence[Dataset],
    *,
    canvas: tuple[int, int],
    config: PartsDataConfig,
    batch_size: int,
    seed: int,
    share: Share = ALONE,
) -> Batches:
    """Mixes, shuffles and batches whole images with everybody's joints, as `detection_batches`.

    A batch is image ids and a `PartsBatch`. A DataError if a data set has no image to train on,
    joints differ, or `mix` does not fit.
    """
    weights = _shares(config.mix, len(datasets))
    _check_joints(datasets)

    def make(number: int, size: tuple[int, int]) -> Callable:
        return PartsExamples(datasets[number], size, config)

    mixtures = _pictures(datasets, weights, canvas, parts_images, make)
    how = {"batch_size": batch_size, "seed": seed, "share": share}
    return _batches(mixtures, config, group=_IMAGES, **how)


def _pictures(
    datasets: Sequence[Dataset],
    weights: Sequence[float],
    canvas: tuple[int, int],
    rows_of: Callable[[Dataset], Int64[np.ndarray, " R"]],
    make: Callable[[int, tuple[int, int]], Callable],
) -> list[list[Part]]:
    """The mixtures of landscape and of portrait images, those that are not empty."""
    parts: dict[bool, list[Part]] = {True: [], False: []}
    for i, (dataset, weight) in enumerate(zip(datasets, weights)):
        rows = rows_of(dataset)
        if not len(rows):
            raise DataError(f"{dataset}: no image to train on")
        for landscape, there in _by_orientation(dataset, rows).items():
            example = make(i, canvas if landscape else canvas[::-1])
            share_of_part = weight * len(there) / len(rows)
            if len(there):
                parts[landscape].append(
                    Part(there, dataset.images.id, share_of_part, example, dataset.source.name)
                )
    return [*filter(None, parts.values())]


def _check_joints(datasets: Sequence[Dataset]) -> None:
    for dataset in datasets[1:]:
        if difference := dataset.skeleton.difference(datasets[0].skeleton):
            raise DataError(
                f"data sets with different joints cannot be mixed: {dataset} has {difference}"
            )


def _batches(
    mixtures: Sequence[Sequence[Part]],
    config: DataConfig,
    *,
    group: int,
    batch_size: int,
    seed: int,
    share: Share,
) -> Batches:
    """Batches of one or two mixtures, each as often as its parts weigh."""
    cv2.setNumThreads(1)  # The images are read in parallel already.
    size = {"batch_size": batch_size}
    how = {"threads": config.threads, "processes": config.processes, "group": group, **size}
    streams = [
        Stream(parts, number=i, seed=seed, share=share, **how) for i, parts in enumerate(mixtures)
    ]
    weights = [sum(part.weight for part in parts) for parts in mixtures]
    schedule = alternate(weights[0] / sum(weights))
    return Batches(streams, schedule, max_bad_share=config.max_bad_share, hosts=share.hosts, **size)


def box_crops(
    dataset: Dataset,
    boxes: PersonBoxes,
    *,
    height: int,
    width: int,
    box_scale: float,
    batch_size: int,
    turns: Sequence[Affine] = (),
    joints: bool = False,
    share: Share = ALONE,
    threads: int = 8,
) -> Iterator[Arrays]:
    """Cuts the crops of a table of boxes for evaluation, every row once over all hosts.

    The boxes are extended to the crop's aspect, then enlarged by `box_scale`. `turns` are maps from
    a crop's pixels to those of more views of it, which are cut as well. `joints` asks for those of
    the people whose boxes they are. A DataError names the file if an image is broken, or says that
    there are boxes of nobody in particular.

    Yields:
      `image` uint8 [B, H, W, 3], with turns [B, 1 + turns, H, W, 3]; `box` float32 [B, 4], the
      enlarged box in image pixels; `index` int64 [B], the row in the table; `weight` float32 [B];
      with joints `keypoints` float32 [B, K, 2], in crop pixels, and `visible` bool [B, K]. The
      last batch is filled with rows of weight 0 and index -1.
    """
    people = dataset.people
    windows = pose_box(boxes.box, aspect=height / width, scale=box_scale)
    shape = (*((1 + len(turns),) if turns else ()), height, width, 3)

    def crop(row: int) -> dict[str, Any]:
        straight = box_to_crop(windows[row], height=height, width=width)
        image = [
            cut_image(dataset, int(boxes.image[row]), affine, height=height, width=width)
            for affine in (straight, *(compose_affine(turn, straight) for turn in turns))
        ]
        made = {"image": np.reshape(image, shape), "box": windows[row].astype(np.float32)}
        if joints:
            person = boxes.person[row]
            places = apply_affine(straight, people.keypoints[person]).astype(np.float32)
            made |= {"keypoints": places, "visible": people.visibility[person] > 0}
        return made

    empty = {"image": np.zeros(shape, np.uint8), "box": np.zeros(4, np.float32)}
    if joints:
        if (boxes.person < 0).any():
            raise DataError("whose joints are in boxes that were found is not known")
        count = people.keypoints.shape[1]
        empty["keypoints"] = np.zeros((count, 2), np.float32)
        empty["visible"] = np.zeros(count, bool)
    rows = np.arange(len(boxes))
    yield from _once(rows, crop, empty, batch_size=batch_size, share=share, threads=threads)


def canvases(
    dataset: Dataset,
    *,
    canvas: tuple[int, int],
    squash: bool = False,
    batch_size: int,
    share: Share = ALONE,
    threads: int = 8,
) -> Iterator[Arrays]:
    """Fits the images of a data set to canvases for evaluation, each once over all hosts.

    First come all landscape images, then all portrait ones; `canvas` is the shorter and longer side
    of what they are fitted to, `squash` as in `fit_canvas`. A DataError names the file if an image
    is broken.

    Yields:
      `image` uint8 [B, H, W, 3]; `size` int32 [B, 2], rows and columns of the image on its
      canvas; `scale` float32 [B, 2], image pixels per canvas pixel along x and y; `index` int64
      [B], the row in `dataset.images`; `weight` float32 [B]. The last batch of each shape is
      filled with rows of weight 0 and index -1. A point p of the canvas is `scale * p` in the
      image, and a box b, as it begins half a pixel before a centre, `scale * b + (1 - scale) / 2`.
    """
    images = dataset.images

    def place(row: int) -> dict[str, Any]:
        sides = int(images.height[row]), int(images.width[row])
        fit = fit_canvas(*sides, canvas=canvas, squash=squash)
        height, width = fit.size
        image = np.zeros((*fit.canvas, 3), np.uint8)
        part = image[:height, :width]
        cut_image(dataset, row, fit.affine, height=height, width=width, repeat_edge=True, out=part)
        scale = (1 / fit.affine[[0, 1], [0, 1]]).astype(np.float32)
        return {"image": image, "size": np.array(fit.size, np.int32), "scale": scale}

    for landscape, rows in _by_orientation(dataset, np.arange(len(images))).items():
        empty = {
            "image": np.zeros((*(canvas if landscape else canvas[::-1]), 3), np.uint8),
            "size": np.ones(2, np.int32),
            "scale": np.ones(2, np.float32),
        }
        yield from _once(rows, place, empty, batch_size=batch_size, share=share, threads=threads)


def _shares(mix: Sequence[float], count: int) -> list[float]:
    """The configured shares of `count` data sets, or equal ones."""
    if not count:
        raise DataError("no data set to train on")
    if mix and len(mix) != count:
        raise DataError(f"mix = {mix}: {len(mix)} shares for {count} data directories")
    if any(share <= 0 for share in mix):
        raise DataError(f"mix = {mix}: must be positive")
    return list(mix) or [1.0] * count


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
    stream = grain.MapDataset.source(rows[share.host :: share.hosts].tolist()).map(record)
    records = iter(stream.to_iter_dataset(read_options(threads, batch_size)))
    try:
        for _ in range(-(-len(rows) // (share.hosts * batch_size))):
            batch = list(itertools.islice(records, batch_size))
            yield dict(zip(names, stack(batch + [filling] * (batch_size - len(batch)))))
    finally:
        records.close()
