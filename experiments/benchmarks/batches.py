"""Batches of the shapes that a config trains on or is evaluated with."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.parts.experiment import DetectorExperiment, Experiment, PoseExperiment
from g_rmi.skeleton import COCO
from g_rmi.types import DetectionBatch, PoseBatch


def made_up_batch(experiment: Experiment) -> PoseBatch | DetectionBatch:
    """Noise with labels."""
    if isinstance(experiment, DetectorExperiment):
        return _detection_batch(experiment)
    return _pose_batch(experiment)


def evaluation_batch(experiment: Experiment, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the batches that `g_rmi.evaluation` predicts, for `rows` crops or pictures."""
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


def _pose_batch(experiment: PoseExperiment) -> PoseBatch:
    rows, people, joints = experiment.train.batch_size, experiment.data.max_others, len(COCO)
    height, width = experiment.model.crop_height, experiment.model.crop_width
    random = np.random.default_rng(0)
    keypoints = random.uniform(0, [width, height], (rows, joints, 2)).astype(np.float32)
    return PoseBatch(
        image=jnp.asarray(random.integers(0, 256, (rows, height, width, 3), np.uint8)),
        keypoints=jnp.asarray(keypoints),
        visible=jnp.asarray(np.ones((rows, joints), bool)),
        labelled=jnp.asarray(np.ones((rows, joints), bool)),
        other_keypoints=jnp.asarray(np.zeros((rows, people, joints, 2), np.float32)),
        other_visible=jnp.asarray(np.zeros((rows, people, joints), bool)),
        weight=jnp.asarray(np.ones(rows, np.float32)),
    )


def _detection_batch(experiment: DetectorExperiment) -> DetectionBatch:
    rows, boxes = experiment.train.batch_size, experiment.data.max_boxes
    height, width = experiment.model.canvas
    random = np.random.default_rng(0)
    corner = random.uniform(0, [0.6 * width, 0.5 * height], (rows, boxes, 2))
    side = random.uniform([0.1 * width, 0.2 * height], [0.4 * width, 0.5 * height], corner.shape)
    person = np.zeros((rows, boxes), bool)
    person[:, :4] = True
    return DetectionBatch(
        image=jnp.asarray(random.integers(0, 256, (rows, height, width, 3), np.uint8)),
        size=jnp.asarray(np.full((rows, 2), [height, width], np.int32)),
        boxes=jnp.asarray(np.concatenate([corner, corner + side], axis=-1).astype(np.float32)),
        person=jnp.asarray(person),
        ignore=jnp.asarray(np.zeros_like(person)),
        weight=jnp.asarray(np.ones(rows, np.float32)),
    )
