"""Tiny untrained networks, saved as trainings leave them, and something to look at."""

import dataclasses

import cv2
import jax
import numpy as np
from jax import numpy as jnp

from experiments.parts.experiment import DetectorExperiment, PartsExperiment, PoseExperiment
from g_rmi.config import to_dict
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.detector.rfcn.config import RFCNConfig
from g_rmi.detector.ssd.config import SSDConfig
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.parts.config import PartsConfig
from g_rmi.parts.decode import Decoding
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import Skeleton
from g_rmi.training.checkpoint import Checkpoints, write_config
from g_rmi.training.state import TrainState

DETECTOR = DetectorExperiment(
    model=FasterRCNNConfig(
        backbone=ResNetConfig(depth=26, width=8),
        output_stride=16,
        norm="batch",
        canvas=(64, 80),
        anchor_base=48.0,
        rpn_channels=8,
        candidates=40,
        proposals=12,
        roi_size=4,
        detections=8,
    )
)
_SHARED = {
    "backbone": ResNetConfig(depth=26, width=8),
    "norm": "batch",
    "canvas": (64, 80),
    "detections": 8,
}
# A tiny one of each kind.
DETECTORS = {
    "faster_rcnn": DETECTOR,
    "rfcn": DetectorExperiment(
        model=RFCNConfig(
            **_SHARED,
            anchor_base=48.0,
            rpn_channels=8,
            candidates=40,
            proposals=12,
            bins=3,
            bin_samples=2,
        )
    ),
    "ssd": DetectorExperiment(model=SSDConfig(**_SHARED, candidates=200)),
}
POSE = PoseExperiment(
    model=PoseConfig(
        backbone=ResNetConfig(depth=26, width=8),
        output_stride=32,
        fpn_channels=8,
        crop_height=33,
        crop_width=33,
        head=Disks(radius=4.0),
    )
)
# Which also says which joints one sees.
TELLING = dataclasses.replace(
    POSE, model=dataclasses.replace(POSE.model, head=Disks(radius=4.0, visibility_weight=1.0))
)
PARTS = PartsExperiment(
    model=PartsConfig(
        backbone=ResNetConfig(depth=26, width=8),
        norm="batch",
        canvas=(65, 81),
        decoding=Decoding(solver="whole", candidates=3, suppression=8.0, reach=12.0, max_people=6),
    )
)


FACE = Skeleton.create(
    ("nose", "left_eye", "right_eye"), limbs=[("nose", "left_eye")], sigmas=(0.05, 0.05, 0.05)
)


def draw(task):
    """Random variables of a task; numpy draws them, for nothing to compile."""
    random = np.random.default_rng(0)

    def leaf(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.ones(leaf.shape)
        fan_in = np.prod(leaf.shape[:-1])
        kernel = random.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
        return jnp.array(kernel if name == "kernel" else np.zeros(leaf.shape), jnp.float32)

    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(leaf, shapes)


def save(workdir, experiment, task):
    """A random network as a training leaves it."""
    variables = draw(task)
    params = variables.pop("params")
    state = TrainState(jnp.int32(1), params, variables, {}, None, jax.random.key(0))
    write_config(workdir, to_dict(experiment))
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(1, state, {}, to_dict(experiment), {})
    return workdir


def scene(height=60, width=80, seed=0):
    """Smooth noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def save_both(runs):
    """Work directories of a detector and a pose network; untrained, so that every box will do."""
    return (
        save(runs / "detector", DETECTOR, FasterRCNN(DETECTOR.model)),
        save(runs / "pose", POSE, PoseTask(POSE.model)),
    )
