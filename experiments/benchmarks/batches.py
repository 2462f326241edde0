"""Batches of the shapes that a config trains on or is evaluated with."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.parts.experiment import DetectorExperiment, Experiment, PoseExperiment
from g_rmi.skeleton import COCO
from g_rmi.types import DetectionBatch, PoseBatch


def made_up_batch(experiment: Experiment) -> PoseBatch | DetectionBatch:
    """Noise with labels."""
    rows = experiment.train.batch_size
    if isinstance(experiment, DetectorExperiment):
        return jax.tree.map(jnp.asarray, _detection_batch(experiment, rows))
    return jax.tree.map(jnp.asarray, _pose_batch(experiment, rows))


def evaluation_batch(experiment: Experiment, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the batches that `g_rmi.inference.dataset` predicts, for `rows` crops or images."""
    if isinstance(experiment, DetectorExperiment):
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
        labelled=np.ones(joints, bool),
        other_keypoints=np.zeros((*others, 2), np.float32),
        other_visible=np.zeros(others, bool),
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
