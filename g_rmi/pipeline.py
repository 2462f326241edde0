"""Photographs in, people out: the whole method behind one call."""

import dataclasses
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from g_rmi.config import DetectorExperiment, Experiment, experiment_from_dict
from g_rmi.detector.task import DetectorTask
from g_rmi.find_people import (
    DEFAULTS,
    Candidates,
    Options,
    Pictures,
    find_people,
    find_poses,
    pyramid,
)
from g_rmi.geometry import fit_canvas
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.training.checkpoint import load_variables
from g_rmi.types import People

# The weights that come with the package; README.md beside them says what they are.
SHIPPED = Path(__file__).with_name("weights")

# Sides of the buffers that pictures travel in: few, for few compilations.
_SIDES = tuple(sorted(side << k for side in (320, 480) for k in range(8)))


@lru_cache
def _compiled(
    detector: DetectorTask | None,
    pose: PoseTask,
    canvas: tuple[int, int],
    options: Options,
    mesh: Mesh | None,
):
    """The jitted program; with a detector from pictures, else from pictures and boxes."""
    if detector is None:

        def run(variables, pictures, candidates):
            levels = pyramid(pictures)
            return find_poses(pose, variables[1], pictures, levels, candidates, options=options)

        specs = (PartitionSpec(), PartitionSpec("data"), PartitionSpec("data"))
    else:

        def run(variables, pictures):
            return find_people(detector, pose, variables, pictures, canvas=canvas, options=options)

        specs = (PartitionSpec(), PartitionSpec("data"))
    if mesh is not None:
        # Each device packs the boxes of its own pictures.
        run = jax.shard_map(
            run, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("data"), check_vma=False
        )
    return jax.jit(run)


@dataclasses.dataclass(frozen=True, eq=False)
class PosePipeline:
    """Finds the people of photographs and their joints.

        pipeline = PosePipeline.load()
        people = pipeline(image)

    Compiles once for each orientation, size class and number of pictures.

    Attributes:
      detector: The first stage; None if boxes are always given.
      pose: The second stage.
      variables: Of both.
      options: Numbers and thresholds.
      mesh: Devices with an axis "data" to spread the pictures of a batch over; None for one device.
    """

    detector: DetectorTask | None
    pose: PoseTask
    variables: tuple[Any, Any]
    options: Options = DEFAULTS
    mesh: Mesh | None = None

    @classmethod
    def load(
        cls,
        detector: str | os.PathLike | None = None,
        pose: str | os.PathLike | None = None,
        *,
        boxes_given: bool = False,
        options: Options = DEFAULTS,
        mesh: Mesh | None = None,
    ) -> "PosePipeline":
        """Loads two trainings, or that of the pose network alone.

        Args:
          detector: Work directory of a detector's training, or its weights file; None takes the
            detector that comes with the package.
          pose: The same of the pose network.
          boxes_given: Whether it will always be told where people are and needs no detector.
          options: Numbers and thresholds.
          mesh: See the class.

        Raises:
          ValueError: Neither a work directory nor a weights file, or of the other stage; or a
            detector for boxes that are given.
        """
        finder, finder_variables = None, None
        if boxes_given and detector:
            raise ValueError(f"detector {detector}: of no use where boxes are given")
        if not boxes_given:
            finder, finder_variables = _load(
                detector or SHIPPED / "detector.safetensors", DetectorTask, "detector"
            )
        poser, pose_variables = _load(
            pose or SHIPPED / "pose.safetensors", PoseTask, "pose network"
        )
        return cls(finder, poser, (finder_variables, pose_variables), options, mesh)

    def __call__(
        self,
        image: np.ndarray | Sequence[np.ndarray],
        boxes: Any = None,
    ) -> People | list[People]:
        """Finds people.

        Args:
          image: RGB picture, or several of any sizes (a list or an array [B, H, W, 3]).
          boxes: `(x0, y0, x1, y1)` of the people to look at, [M, 4] in image pixels; a list of
            such for several pictures. The detector finds them if None.

        Returns:
          The people of the picture, best first, in its own pixels; a list for several pictures.

        Raises:
          ValueError: A picture is not uint8 RGB, boxes do not fit, or there is no detector.
        """
        if boxes is None and self.detector is None:
            raise ValueError("boxes = None: the pipeline was loaded without a detector")
        single = isinstance(image, np.ndarray) and image.ndim == 3
        images = [_check_image(i) for i in ([image] if single else image)]
        given = None
        if boxes is not None:
            given = [_check_boxes(b) for b in ([boxes] if single else boxes)]
            if len(given) != len(images):
                raise ValueError(f"boxes: {len(given)} arrays for {len(images)} pictures")
        found: dict[int, People] = {}
        for group in _alike(images):
            people = self._run([images[i] for i in group], given and [given[i] for i in group])
            found.update(zip(group, people))
        return found[0] if single else [found[i] for i in range(len(images))]

    def _run(self, images: list[np.ndarray], boxes: list[np.ndarray] | None) -> list[People]:
        """Pictures of one orientation and size class."""
        devices = self.mesh.size if self.mesh else 1
        count = -(-len(images) // devices) * devices
        canvas = self.detector.config.canvas if self.detector else (1, 1)
        pictures = pack(images, canvas=canvas, count=count)
        if boxes is not None:
            run = _compiled(None, self.pose, canvas, self.options, self.mesh)
            found = run(self.variables, pictures, _given(boxes, count))
        else:
            height, width = images[0].shape[:2]
            oriented = fit_canvas(height, width, canvas=canvas).canvas
            run = _compiled(self.detector, self.pose, oriented, self.options, self.mesh)
            found = run(self.variables, pictures)
        tables = jax.device_get(found)
        return [
            People(
                tables.keypoints[i][tables.valid[i]],
                tables.keypoint_scores[i][tables.valid[i]],
                tables.scores[i][tables.valid[i]],
                tables.boxes[i][tables.valid[i]],
            )
            for i in range(len(images))
        ]


def pack(images: Sequence[np.ndarray], *, canvas: tuple[int, int], count: int) -> Pictures:
    """Puts pictures of one orientation and size class into buffers.

    Args:
      images: uint8 RGB of any sizes.
      canvas: Shorter and longer side of the detector's canvas.
      count: Buffers; those past the last picture hold a black pixel.
    """
    side = max(_side(image) for image in images)
    buffer = np.zeros((count, side, side, 3), np.uint8)
    sizes, canvas_sizes = np.ones((count, 2), np.int32), np.ones((count, 2), np.int32)
    slopes, shifts = np.ones((count, 2), np.float32), np.zeros((count, 2), np.float32)
    for i, image in enumerate(images):
        height, width = image.shape[:2]
        buffer[i, :height, :width] = image
        fit = fit_canvas(height, width, canvas=canvas)
        slope = 1 / np.diag(fit.affine[:, :2])
        sizes[i], canvas_sizes[i] = (height, width), fit.size
        slopes[i], shifts[i] = slope, -slope * fit.affine[:, 2]
    on_host: Any = (buffer, sizes, canvas_sizes, slopes, shifts)
    return Pictures(*on_host)


def _given(boxes: list[np.ndarray], count: int) -> Candidates:
    """A table of boxes; a power of two of rows, 32 or more, for few compilations."""
    rows = 1 << max(max(map(len, boxes), default=0) - 1, 31).bit_length()
    table = np.zeros((count, rows, 4), np.float32)
    valid = np.zeros((count, rows), bool)
    for i, some in enumerate(boxes):
        table[i, : len(some)], valid[i, : len(some)] = some, True
    on_host: Any = (table, valid.astype(np.float32), valid)
    return Candidates(*on_host)


def _side(image: np.ndarray) -> int:
    """Side of the buffer for a picture: room for 8 zeros beside it."""
    longest = max(image.shape[:2])
    return next(side for side in _SIDES if side >= longest) + 8


def shape_class(image: np.ndarray) -> tuple[bool, int]:
    """What pictures must share to go through one compiled program: orientation and size class."""
    return image.shape[1] >= image.shape[0], _side(image)


def _alike(images: list[np.ndarray]) -> list[list[int]]:
    """Numbers of the pictures, by orientation and size class."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(shape_class(image), []).append(i)
    return list(groups.values())


def _check_image(image: Any) -> np.ndarray:
    shape, dtype = getattr(image, "shape", ()), getattr(image, "dtype", type(image).__name__)
    right = dtype == np.uint8 and len(shape) == 3 and shape[2] == 3 and min(shape) > 0
    if not right or max(shape) > _SIDES[-1]:
        raise ValueError(
            f"a picture must be uint8 RGB [H, W, 3] of at most {_SIDES[-1]} pixels a side, got "
            f"{dtype} {list(shape)}"
        )
    return np.asarray(image)


def _check_boxes(boxes: Any) -> np.ndarray:
    table = np.asarray(boxes, np.float32)
    if table.size == 0:
        return table.reshape(0, 4)
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all():
        raise ValueError(f"boxes must be finite numbers [M, 4], got {list(table.shape)}")
    return table


def make_task(experiment: Experiment, skeleton: Skeleton = COCO) -> PoseTask | DetectorTask:
    """The task of an experiment's stage."""
    if isinstance(experiment, DetectorExperiment):
        return DetectorTask(experiment.model)
    return PoseTask(experiment.model, skeleton)


def load_task(
    path: str | os.PathLike, checkpoint: str = "latest", *, average: bool = True
) -> tuple[PoseTask | DetectorTask, Any]:
    """The task and the evaluation weights of a training.

    Args:
      path: Its work directory, or its weights file.
      checkpoint: "latest", "best" or a step; see `g_rmi.training.checkpoint.Checkpoints.load`.
      average: The average of the weights if there is one; False for the last weights.

    Raises:
      ValueError: Neither of them, no such checkpoint, or its config is not one of this version.
    """
    values, variables = load_variables(Path(path), checkpoint, average=average)
    own = values.get("skeleton")
    skeleton = Skeleton.from_dict(own) if own else COCO
    return make_task(experiment_from_dict(values), skeleton), variables


def _load(path: str | os.PathLike, kind: type, name: str) -> tuple[Any, Any]:
    task, variables = load_task(path)
    if not isinstance(task, kind):
        raise ValueError(f"{path} holds no {name} but the other stage")
    return task, variables
