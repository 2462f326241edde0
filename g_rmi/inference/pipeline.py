"""Photographs in, people out: the whole method behind one call."""

import dataclasses
import math
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Int
from PIL import Image

from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import nearest
from g_rmi.detector.detector import Detector
from g_rmi.geometry import MAX_SCORE, are_shares, fit_canvas, misfit, without_inside
from g_rmi.inference.canvas import LARGEST, alike, pack
from g_rmi.inference.load import SHIPPED, load_settings, load_task, stage_of
from g_rmi.inference.people import PeopleTable, find_people, refuse_crop_settings
from g_rmi.inference.settings import Settings
from g_rmi.inference.traced import Traced
from g_rmi.parts.task import PartsTask
from g_rmi.people import upright
from g_rmi.pose.task import PoseTask
from g_rmi.types import Detections, People

BoxTable = tuple[Float[np.ndarray, "_ 4"], Float[np.ndarray, " _"]]  # and their scores
# And their classes by number, where there are several.
_Given = tuple[Float[np.ndarray, "_ 4"], Float[np.ndarray, " _"], Int[np.ndarray, " _"] | None]


@lru_cache
def compiled(
    detector: Detector | None,
    pose: PoseTask | PartsTask,
    canvas: tuple[int, int],
    settings: Settings,
    mesh: Mesh | None,
):
    """The jitted `find_people`; boxes are given or None."""
    run = partial(find_people, detector, pose, canvas=canvas, settings=settings)
    if mesh is not None:
        # Each device packs the boxes of its own pictures.
        data = PartitionSpec("data")
        specs = (PartitionSpec(), data, data)
        run = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=data, check_vma=False)
    return jax.jit(run)


@lru_cache
def kept(
    detector: Detector | None,
    pose: PoseTask | PartsTask,
    canvas: tuple[int, int],
    settings: Settings,
    mesh: Mesh | None,
):
    """`compiled`, traced once a machine if it is for one device; the table is a plain tuple."""
    run = compiled(detector, pose, canvas, settings, mesh)
    return Traced(run, detector, pose, canvas, settings) if mesh is None else run


@dataclasses.dataclass(frozen=True, eq=False)
class PosePipeline:
    """Finds the people of photographs and their joints.

        pipeline = PosePipeline.load()
        people = pipeline(image)

    Compiles once for each orientation, size class and number of pictures, once for each machine:
    `load` turns on jax's cache of compiled programs, beside which traced ones are kept.

    Attributes:
      detector: The first stage; None if boxes are always given, or none are needed.
      pose: The second stage, or the bottom-up network, which is all there is then.
      variables: Of both, "detector" and "pose".
      settings: Numbers and thresholds.
      boxes_min_score: In place of `settings.min_score` where boxes are given; None: the same.
      mesh: Devices with an axis "data" to spread the pictures of a batch over; None for one device.
    """

    detector: Detector | None
    pose: PoseTask | PartsTask
    variables: dict[str, Any]
    settings: Settings = Settings()
    mesh: Mesh | None = None
    boxes_min_score: float | None = None

    def __post_init__(self):
        self.pose.decoding(self.settings.decoding)  # raises if there is no such
        check_classes(self.detector, self.pose)
        if isinstance(self.pose, PartsTask):
            refuse_crop_settings(self.settings)

    @classmethod
    def load(
        cls,
        detector: str | os.PathLike | None = None,
        pose: str | os.PathLike | None = None,
        *,
        boxes_given: bool = False,
        settings: Settings | None = None,
        mesh: Mesh | None = None,
    ) -> "PosePipeline":
        """Loads two trainings, or that of the pose network alone.

        Args:
          detector: Work directory of a training, or its weights file; None: the package's own.
          pose: The same of the pose network, or of a bottom-up one, which needs no detector.
          boxes_given: Whether it will always be told where people are and needs no detector.
          settings: None takes those that the pose network's weights were written with, except that
            where boxes are given nobody is left out for a low score.
          mesh: See the class.

        Raises:
          ValueError: Neither a work directory nor a weights file, or of the other stage; a detector
            for boxes that are given; or settings that the pose network cannot follow.
        """
        if boxes_given and detector:
            raise ValueError(f"detector {detector}: of no use where boxes are given")
        enable_compilation_cache()
        paths = {"detector": detector or SHIPPED["detector"], "pose": pose or SHIPPED["pose"]}
        for name, path in paths.items():
            if not isinstance(path, str | os.PathLike):
                raise ValueError(f"{name} must be the path of a training, got {_shown(path)}")
        if not isinstance(settings, Settings | None):
            raise ValueError(f"settings must be a g_rmi.pipeline.Settings, got {_shown(settings)}")
        tasks, variables = {}, {}
        bottom_up = stage_of(paths["pose"]) == "parts"
        if bottom_up and (detector or boxes_given):
            what = f"detector {detector}" if detector else "boxes"
            raise ValueError(f"{what}: of no use to {pose}, which finds people bottom-up")
        if bottom_up or boxes_given:
            del paths["detector"]
        for name, path in paths.items():
            stage = "parts" if bottom_up else name
            tasks[name], variables[name] = load_task(path, stage=stage)
        boxes_min_score = None
        if settings is None:  # somebody who gives boxes has said that people are there
            settings, boxes_min_score = load_settings(paths["pose"]), 0.0
        stages = tasks.get("detector"), tasks["pose"], variables
        return cls(*stages, settings, mesh, boxes_min_score)

    def __call__(
        self, image: Any, boxes: Any = None, box_scores: Any = None, box_classes: Any = None
    ) -> People | list[People]:
        """Finds people.

        Args:
          image: RGB picture, or several of any sizes (a list or an array [B, H, W, 3]). One of
            PIL's is looked at as `predict` does: upright by its EXIF data, transparency on white.
          boxes: `(x0, y0, x1, y1)` of the people to look at, [M, 4] in image pixels; a list of
            such for several pictures. The detector finds them if None. Of people whose poses are
            the same, by OKS-NMS, one stays.
          box_scores: Of the boxes, [M], or a list of such, for rankings that read them; None: 1.
          box_classes: Of a network for several classes whose name is each box's, [M], or a list of
            such.

        Returns:
          The people of the picture, best first, in its own pixels; a list for several pictures.

        Raises:
          ValueError: A picture is not uint8 RGB, boxes do not fit, or there is no detector.
        """
        bottom_up = isinstance(self.pose, PartsTask)
        if bottom_up and boxes is not None:
            raise ValueError("boxes: of no use to a pipeline that finds people bottom-up")
        if boxes is None and self.detector is None and not bottom_up:
            raise ValueError("boxes = None: the pipeline was loaded without a detector")
        several = isinstance(image, list | tuple | Iterator) or getattr(image, "ndim", 0) == 4
        images = [
            _check_image(picture, f"image {i}: " if several else "")
            for i, picture in enumerate(image if several else [image])
        ]
        given = None
        if boxes is not None:
            nothing = [None] * len(images) if several else None
            scores, names = (
                nothing if column is None else column for column in (box_scores, box_classes)
            )
            columns: Any = (boxes, scores, names) if several else ([boxes], [scores], [names])
            for name, column in zip(("boxes", "box_scores", "box_classes"), columns):
                if not hasattr(column, "__len__") or len(column) != len(images):
                    what = f"{name} must be a list of {len(images)} arrays, one for each picture"
                    raise ValueError(f"{what}, got {_shown(column)}")
            given = []
            for i, (picture, *each, own) in enumerate(zip(images, *columns)):
                where = f"image {i}: " * several
                table = check_boxes(*each, size=picture.shape[1::-1], where=where)
                numbers = self._numbers_of(own, len(table[0]), where)
                given.append((*table, numbers))
        else:
            for name, value in (("box_scores", box_scores), ("box_classes", box_classes)):
                if value is not None:
                    raise ValueError(f"{name}: of no use without boxes")
        found: dict[int, People] = {}
        for group in alike(images):
            people = self._run([images[i] for i in group], given and [given[i] for i in group])
            found.update(zip(group, people))
        return [found[i] for i in range(len(images))] if several else found[0]

    def _numbers_of(self, names: Any, count: int, where: str) -> np.ndarray | None:
        """The classes of so many boxes by number; None if there is one only."""
        known = list(self.pose.skeleton.blocks)
        if not known and names is not None:
            raise ValueError(f"{where}box_classes: of no use, there is one class only")
        if not known:
            return None
        if names is None or isinstance(names, str) or len(names) != count:
            wanted = f"a list of {count} names, each one of {', '.join(known)}"
            raise ValueError(f"{where}box_classes must be {wanted}, got {_shown(names)}")
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{where}box_classes: no class {name!r}{nearest(str(name), known)}"
                )
        return np.array([known.index(name) for name in names], np.int32)

    def _run(self, images: list[np.ndarray], boxes: list[_Given] | None) -> list[People]:
        """Pictures of one orientation and size class."""
        devices = self.mesh.size if self.mesh else 1
        count = -(-len(images) // devices) * devices
        first = self.pose if isinstance(self.pose, PartsTask) else self.detector
        canvas = first.config.canvas if first else (1, 1)
        squash = bool(self.detector and self.detector.config.squash)
        pictures = pack(images, canvas=canvas, squash=squash, count=count)
        given = None
        if boxes is None:
            canvas = fit_canvas(*images[0].shape[:2], canvas=canvas).canvas
        else:
            given = _given(boxes, count)
        # Nobody is dropped for somebody of a lower score, so that those who score too low can go in
        # the end: another threshold compiles nothing.
        everybody = dataclasses.replace(self.settings, min_score=0.0)
        run = kept(self.detector, self.pose, canvas, everybody, self.mesh)
        found = PeopleTable(*jax.device_get(run(self.variables, pictures, given)))
        least = self.settings.min_score
        if boxes is not None and self.boxes_min_score is not None:
            least = self.boxes_min_score
        valid = found.valid & ~(found.scores < least)
        if found.classes is not None:
            found = found._replace(classes=np.array(list(self.pose.skeleton.blocks))[found.classes])
        people: Any = (
            jax.tree.map(lambda column, i=i: column[i][valid[i]], found) for i in range(len(images))
        )
        return [
            People(
                *one[:4],
                skeleton=self.pose.skeleton,
                visibility=one.visibility,
                classes=one.classes,
            )
            for one in people
        ]


def check_classes(detector: Detector | None, pose: PoseTask | PartsTask) -> None:
    """A ValueError if a detector does not find what a pose network is for."""
    if detector is None:
        return
    known = list(pose.skeleton.blocks)
    if strangers := [name for name in detector.classes if name not in known]:
        have = f"has {', '.join(known)}" if known else "is for people alone"
        raise ValueError(f"the detector finds {strangers[0]!r}, and the pose network {have}")
    if known and not detector.classes:
        names = ", ".join(known)
        raise ValueError(f"the pose network has {names}, and the detector finds people alone")


def _given(boxes: list[_Given], count: int) -> Detections:
    """Boxes as a table; a power of two of rows, 32 or more, for few compilations."""
    longest = max((len(scores) for _, scores, _ in boxes), default=0)
    rows = 1 << max(longest - 1, 31).bit_length()
    table, scores = np.zeros((count, rows, 4), np.float32), np.zeros((count, rows), np.float32)
    valid, classes = np.zeros((count, rows), bool), np.zeros((count, rows), np.int32)
    for i, (box, score, number) in enumerate(boxes):
        some = slice(len(score))
        table[i, some], scores[i, some], valid[i, some] = box, score, True
        classes[i, some] = 0 if number is None else number
    one = all(number is None for *_, number in boxes)
    on_host: Any = (table, scores, valid, None if one else classes)
    return Detections(*on_host)


def _check_image(image: Any, where: str) -> np.ndarray:
    if isinstance(image, Image.Image):
        try:
            image = upright(image)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None
    shape = getattr(image, "shape", ())
    right = getattr(image, "dtype", None) == np.uint8 and len(shape) == 3 and shape[2] == 3
    if not right or not 0 < min(shape) <= max(shape) <= LARGEST:
        raise ValueError(
            f"{where}a picture must be uint8 RGB [H, W, 3] of at most {LARGEST} pixels a side, or "
            f"one of PIL's, got {_shown(image)}"
        )
    return np.asarray(image)


def _shown(value: Any) -> str:
    """What was given, for a message."""
    if hasattr(value, "shape"):
        return f"{getattr(value, 'dtype', type(value).__name__)} {list(value.shape)}"
    return f"{type(value).__name__}: {value!r:.60}"


def _numbers(
    values: Any, shape: tuple[int, ...], wanted: str, limit: float = math.inf
) -> np.ndarray:
    """Numbers below a limit as an array; -1 stands for any length."""
    try:
        table = np.asarray(values)
        if table.size and not (np.isrealobj(table) and table.dtype != bool):
            raise ValueError
        table = table.astype(np.float64)
        table = table.reshape(0, *shape[1:]) if table.size == 0 else table
        fits = len(table.shape) == len(shape) and all(
            m in (-1, n) for m, n in zip(shape, table.shape)
        )
        if fits and (np.abs(table) < limit).all():
            return table
    except (ValueError, TypeError, OverflowError):
        pass
    raise ValueError(f"{wanted}, got {_shown(values)}")


def check_boxes(
    boxes: Any, scores: Any = None, *, size: tuple[int, int] | None = None, where: str = ""
) -> BoxTable:
    """Boxes that somebody gave and their scores, by default 1; a ValueError if they are none.

    `size` is the width and height of their picture, `where` begins messages.
    """
    wanted = f"{where}boxes must be finite numbers [M, 4], x0 y0 x1 y1 in pixels"
    table = _numbers(boxes, (-1, 4), wanted)
    for i, box in enumerate(table.tolist()):
        if reason := misfit(box, size) or without_inside(box):
            raise ValueError(f"{wanted}; box {i} is {box}: {reason}")
    if are_shares(table):
        raise ValueError(f"{wanted}; box 0 is {table[0].tolist()}: shares of the picture?")
    scores = np.ones(len(table)) if scores is None else scores
    wanted = f"{where}box_scores must be numbers of 0 or more [{len(table)}], one for each box"
    found = _numbers(scores, (len(table),), wanted, limit=MAX_SCORE)
    if (found < 0).any():
        raise ValueError(f"{wanted}, got {found.min():g}")
    return table.astype(np.float32), found.astype(np.float32)
