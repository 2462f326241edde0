"""Made inputs of the benchmarks: batches, maps of crops, scored boxes, features, found people."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.parts.experiment import (
    DetectorExperiment,
    Experiment,
    PartsExperiment,
    PoseExperiment,
)
from g_rmi.evaluation.results import Result, box_results, keypoint_results
from g_rmi.geometry import to_xywh
from g_rmi.skeleton import COCO
from g_rmi.types import PERSON, DetectionBatch, PartsBatch, PoseBatch


class Grid(NamedTuple):
    """A crop: its sides and R, in its pixels."""

    height: int
    width: int
    radius: float


class Maps(NamedTuple):
    """A pose network's coarse maps of N crops; offsets in crop pixels."""

    logits: Float[np.ndarray, "N h w K"]
    offset: Float[np.ndarray, "N h w K 2"]


class Regions(NamedTuple):
    """A feature map, boxes in its pixels and the samples per side of a box."""

    features: Float[np.ndarray, "H W C"]
    boxes: Float[np.ndarray, "N 4"]
    size: int


Scored = tuple[Float[np.ndarray, "N 4"], Float[np.ndarray, " N"]]
"""Boxes to choose from, and their scores."""


def made_variables(task: Any) -> dict:
    """Random variables of a task; numpy draws them, for nothing to compile."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.ones(leaf.shape)
        if path[-1].key != "kernel":
            return jnp.zeros(leaf.shape)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(rng.normal(0, deviation, leaf.shape), jnp.float32)

    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def made_maps(grid: Grid, *, count: int, stride: int = 8) -> Maps:
    """What trained networks answer: soft disks, one to three people, offsets that are a bit off."""
    rng = np.random.default_rng(0)
    size = np.array([grid.width, grid.height])
    across, down = (size - 1) // stride + 1
    positions = stride * np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1)
    crops = []
    for _ in range(count):
        people = rng.integers(1, 4)
        centres = np.concatenate([[size / 2], rng.uniform(0, size, (people - 1, 2))])
        spread = rng.uniform(0.12, 0.25, (people, 1, 1)) * size
        joints = centres[:, None] + spread * rng.normal(size=(people, len(COCO), 2))
        away = joints[:, None, None] - positions[:, :, None]
        distance = np.linalg.norm(away, axis=-1) / grid.radius
        level = rng.uniform(-1, 4, (people, 1, 1, len(COCO)))
        level -= 1.5 * np.arange(people)[:, None, None, None]
        logits = np.clip(level * 0.5 + 6 * (1 - distance), -7, level).max(axis=0)
        nearest = distance.argmin(axis=0)[None]
        offset = np.take_along_axis(away, nearest[..., None], axis=0)[0]
        # Offsets shrink and scatter beyond the disks, where the loss does not look.
        beyond = np.maximum(distance.min(axis=0), 1)[..., None]
        scatter = grid.radius * 0.08 * beyond * _smooth_noise(rng, offset.shape)
        crops.append((logits + 0.3 * _smooth_noise(rng, logits.shape), offset / beyond + scatter))
    return Maps(*(np.stack(maps).astype(np.float32) for maps in zip(*crops)))


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of unit variance that changes over a few coarse positions."""
    noise = rng.normal(size=shape)
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise / 3


def read_maps(path: Path) -> Maps:
    """Reads an .npz file of a network's maps, `heatmap` (logits) and `offset`, as in `Maps`."""
    with np.load(path) as arrays:
        for name in ("heatmap", "offset"):
            if name not in arrays:
                raise ValueError(f"{path}: no array {name!r}; it has {', '.join(arrays)}")
        return Maps(*(arrays[name].astype(np.float32) for name in ("heatmap", "offset")))


def made_proposals(count: int, *, height: int = 800, width: int = 1200) -> Scored:
    """What a region proposal network answers: most of it around people, some anywhere."""
    people = 12
    rng = np.random.default_rng(0)
    picture = np.array([width, height])
    tall = np.exp(rng.uniform(np.log(60), np.log(600), people))
    sides = np.stack([tall * rng.uniform(0.3, 0.6, people), tall], axis=-1)
    centres = rng.uniform(size=(people, 2)) * picture
    who, near = rng.integers(0, people, count), rng.uniform(size=(count, 1)) < 0.6
    clutter = np.exp(rng.uniform(np.log(32), np.log(500), (count, 1)))
    side = np.where(near, sides[who], clutter) * np.exp(0.15 * rng.normal(size=(count, 2)))
    jittered = centres[who] + 0.1 * side * rng.normal(size=(count, 2))
    centre = np.where(near, jittered, rng.uniform(size=(count, 2)) * picture)
    corners = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    boxes = corners.clip(0, np.tile(picture, 2)).astype(np.float32)
    return boxes, (2 * near[:, 0] + rng.normal(size=count)).astype(np.float32)


def chain(count: int) -> Scored:
    """Boxes in a row, best first, each with IoU 1/3 to its neighbours and 0 to all others."""
    x = 5.0 * np.arange(count)
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 1], axis=1)
    return boxes.astype(np.float32), -np.arange(count, dtype=np.float32)


def made_regions(*, height: int, width: int, channels: int, count: int, size: int) -> Regions:
    """Noise, and upright boxes from a few pixels to half the map, inside it."""
    rng = np.random.default_rng(0)
    tall = np.exp(rng.uniform(np.log(3), np.log(0.5 * height), (count, 1)))
    half = tall * [0.3, 0.5]
    corner = np.array([width - 1, height - 1])
    centre = rng.uniform(size=(count, 2)) * corner
    boxes = np.concatenate([centre - half, centre + half], axis=1).clip(0, np.tile(corner, 2))
    features = rng.normal(size=(height, width, channels)).astype(np.float32)
    return Regions(features, boxes.astype(np.float32), size)


def made_results(images: int) -> tuple[dict, list[Result], list[Result]]:
    """Annotations of people as in COCO, and the poses and the boxes that were found there.

    2.2 people a picture, each found one to three times, and 5 false ones a picture.
    """
    rng = np.random.default_rng(0)
    joints = len(COCO)

    def boxes(count: int) -> np.ndarray:
        tall = np.exp(rng.uniform(np.log(20), np.log(400), count))
        sides = np.stack([tall * rng.uniform(0.3, 0.6, count), tall], axis=1)
        corners = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corners, corners + sides], axis=1)

    def within(boxes: np.ndarray) -> np.ndarray:
        places = rng.uniform(size=(len(boxes), joints, 2))
        return boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])

    image = np.sort(rng.integers(images, size=round(2.2 * images)))
    box = boxes(len(image))
    points, sides = within(box), box[:, 2:] - box[:, :2]
    labels = np.concatenate([points, 2.0 * (rng.uniform(size=(len(box), joints, 1)) < 0.7)], 2)
    people = [
        {
            "id": n,
            "image_id": int(image[n]),
            "category_id": PERSON,
            "bbox": to_xywh(box[n]).tolist(),
            "area": 0.6 * float(sides[n].prod()),
            "iscrowd": int(rng.uniform() < 0.03),
            "keypoints": labels[n].ravel().tolist(),
        }
        for n in range(len(box))
    ]
    found = np.repeat(np.arange(len(box)), rng.integers(1, 4, len(box)))
    error = 0.03 * sides[found, 1:] * rng.exponential(size=(len(found), 1))
    false = boxes(5 * images)
    near = points[found] + error[..., None] * rng.normal(size=(len(found), joints, 2))
    keypoints = np.concatenate([near, within(false)])
    corners = np.concatenate([box[found] + error * rng.normal(size=(len(found), 4)), false])
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    ids = np.concatenate([image[found], rng.integers(images, size=len(false))])
    scores = np.concatenate([rng.uniform(size=len(found)), rng.uniform(size=len(false)) ** 2])
    poses = keypoint_results(ids, keypoints, np.ones(keypoints.shape[:2]), scores)
    annotations = {"images": [{"id": i} for i in range(images)], "annotations": people}
    return annotations, poses, box_results(ids, corners, scores)


def made_up_batch(experiment: Experiment) -> PoseBatch | DetectionBatch | PartsBatch:
    """Noise with labels, in the shapes that a config trains on."""
    rows = experiment.train.batch_size
    if isinstance(experiment, DetectorExperiment):
        return jax.tree.map(jnp.asarray, _detection_batch(experiment, rows))
    if isinstance(experiment, PartsExperiment):
        return jax.tree.map(jnp.asarray, _parts_batch(experiment, rows))
    return jax.tree.map(jnp.asarray, _pose_batch(experiment, rows))


def evaluation_batch(experiment: Experiment, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the batches that `g_rmi.inference.dataset` predicts, for `rows` crops or images."""
    if isinstance(experiment, DetectorExperiment | PartsExperiment):
        side, inputs = experiment.model.canvas, {"size": (jnp.int32, 2), "scale": (jnp.float32, 2)}
    else:
        side = experiment.model.crop_height, experiment.model.crop_width
        inputs = {"box": (jnp.float32, 4)}
    inputs |= {"image": (jnp.uint8, *side, 3), "index": (jnp.int32,), "weight": (jnp.float32,)}
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype)
        for name, (dtype, *shape) in inputs.items()
    }


def _pose_batch(experiment: PoseExperiment, rows: int) -> PoseBatch:
    height, width = experiment.model.crop_height, experiment.model.crop_width
    joints, others = (rows, len(COCO)), (rows, experiment.data.max_others, len(COCO))
    random = np.random.default_rng(0)
    return PoseBatch(
        image=random.integers(0, 256, (rows, height, width, 3), np.uint8),
        keypoints=random.uniform(0, [width, height], (*joints, 2)).astype(np.float32),
        visible=np.ones(joints, bool),
        occluded=np.zeros(joints, bool),
        visibility_known=np.ones(joints, bool),
        labelled=np.ones(joints, bool),
        other_keypoints=np.zeros((*others, 2), np.float32),
        other_visible=np.zeros(others, bool),
        weight=np.ones(rows, np.float32),
    )


def _parts_batch(experiment: PartsExperiment, rows: int) -> PartsBatch:
    (height, width), people = experiment.model.canvas, (rows, experiment.data.max_boxes)
    random, joints = np.random.default_rng(0), len(COCO)
    return PartsBatch(
        image=random.integers(0, 256, (rows, height, width, 3), np.uint8),
        size=np.tile(np.array([height, width], np.int32), (rows, 1)),
        boxes=np.tile(np.array([0, 0, width, height], np.float32), (*people, 1)),
        ignore=np.zeros(people, bool),
        keypoints=random.uniform(0, [width, height], (*people, joints, 2)).astype(np.float32),
        visible=np.ones((*people, joints), bool),
        labelled=np.ones((rows, joints), bool),
        complete=np.ones(rows, bool),
        weight=np.ones(rows, np.float32),
    )


def _detection_batch(experiment: DetectorExperiment, rows: int) -> DetectionBatch:
    (height, width), boxes = experiment.model.canvas, experiment.data.max_boxes
    random = np.random.default_rng(0)
    corner = random.uniform(0, [0.6 * width, 0.5 * height], (rows, boxes, 2))
    side = random.uniform([0.1 * width, 0.2 * height], [0.4 * width, 0.5 * height], corner.shape)
    return DetectionBatch(
        image=random.integers(0, 256, (rows, height, width, 3), np.uint8),
        size=np.full((rows, 2), [height, width], np.int32),
        boxes=np.concatenate([corner, corner + side], axis=-1).astype(np.float32),
        person=np.tile(np.arange(boxes) < 4, (rows, 1)),
        ignore=np.zeros((rows, boxes), bool),
        weight=np.ones(rows, np.float32),
    )
