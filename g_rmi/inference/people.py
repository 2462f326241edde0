"""Both stages of the paper as one pure function of fixed shapes (section 3).

    pictures -> canvases -> detector -> box NMS -> the boxes of all pictures, packed -> crops
             -> pose network -> Hough voting -> pose score -> OKS-NMS -> people

Every shape is fixed; the work is not: crops run in chunks, as many as there are boxes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from g_rmi.detector.detector import Detector
from g_rmi.geometry import Affine, apply_affine, invert_affine
from g_rmi.inference.canvas import Letterbox, canvas_to_image
from g_rmi.inference.rank import rank, rank_classes, rank_options
from g_rmi.inference.sampling import mipmaps, sample
from g_rmi.inference.settings import Look, Settings
from g_rmi.ops.boxes import extend_boxes
from g_rmi.ops.image import grids
from g_rmi.parts.task import PartsTask
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.task import PoseTask
from g_rmi.pose.views import turns
from g_rmi.types import Detections, Grid, Poses


class PeopleTable(NamedTuple):
    """People of each picture on the device, best first; rows past the last person not valid."""

    keypoints: Float[Array, "B P K 2"]
    keypoint_scores: Float[Array, "B P K"]
    scores: Float[Array, "B P"]
    boxes: Float[Array, "B P 4"]
    valid: Bool[Array, "B P"]
    visibility: Float[Array, "B P K"] | None = None  # as that of `Poses`
    # Numbers among the skeleton's, where there are several; of no person 0.
    classes: Int[Array, "B P"] | None = None


def find_people(
    detector: Detector | None,
    pose: PoseTask | PartsTask,
    variables: dict[str, Any],
    pictures: Letterbox,
    boxes: Detections | None = None,
    *,
    canvas: tuple[int, int],
    settings: Settings,
) -> PeopleTable:
    """The whole method for pictures of one orientation, pure.

    The variables are those of both stages, "detector" and "pose"; `canvas` is rows and columns of
    the detector's, which is not asked where boxes (image pixels) are given.
    """
    levels = mipmaps(pictures)
    if isinstance(pose, PartsTask):
        first = pose, variables["pose"], pictures, levels
        return find_parts(*first, canvas=canvas, settings=settings)
    if boxes is None:
        assert detector is not None  # what `PosePipeline` sees to
        first = detector, variables["detector"], pictures, levels
        boxes = find_boxes(*first, canvas=canvas, settings=settings)
        if boxes.classes is not None:
            order = [list(pose.skeleton.blocks).index(name) for name in detector.classes]
            boxes = boxes._replace(classes=jnp.asarray(order, jnp.int32)[boxes.classes])
    return find_poses(pose, variables["pose"], pictures, levels, boxes, settings=settings)


def find_boxes(
    detector: Detector,
    variables: Any,
    pictures: Letterbox,
    levels: Sequence[Array],
    *,
    canvas: tuple[int, int],
    settings: Settings,
) -> Detections:
    """First stage: pictures and their `mipmaps` to boxes, best first, in image pixels."""
    image = _canvases(pictures, levels, canvas)
    found = detector.predict(variables, image, pictures.canvas_size, flip_test=settings.flip_test)
    boxes = canvas_to_image(found.boxes, pictures.scale)
    valid = found.valid & (found.scores >= settings.min_box_score)
    some = slice(settings.max_people)
    found = Detections(boxes, found.scores, valid, found.classes)
    return jax.tree.map(lambda column: column[:, some], found)


def _canvases(
    pictures: Letterbox, levels: Sequence[Array], canvas: tuple[int, int]
) -> Float[Array, "B H W 3"]:
    """The pictures on canvases of so many rows and columns."""

    def place(inputs):
        picture, scale, canvas_size = inputs

        def along(axis):
            steps = jnp.arange(canvas[axis])
            inside, positions = steps < canvas_size[axis], steps.astype(jnp.float32)
            return jnp.where(inside, positions * scale[1 - axis], jnp.nan)

        return sample(levels, pictures.size, picture, along(0), along(1), jnp.prod(scale))

    numbers = jnp.arange(len(pictures.image))
    return lax.map(place, (numbers, pictures.scale, pictures.canvas_size))


def find_parts(
    parts: PartsTask,
    variables: Any,
    pictures: Letterbox,
    levels: Sequence[Array],
    *,
    canvas: tuple[int, int],
    settings: Settings,
) -> PeopleTable:
    """Bottom-up: pictures and their `mipmaps` to people, best first, in image pixels."""
    image = _canvases(pictures, levels, canvas)
    found = parts.predict(variables, image, pictures.canvas_size, settings.decoding)
    table = people_on_images(*found, pictures.scale)
    some = jnp.arange(table.valid.shape[1]) < settings.max_people
    ranked = jax.vmap(partial(rank, sigmas=parts.skeleton.sigmas, **rank_options(settings)))
    valid = table.valid & some[None]
    scores, keep = ranked(table.keypoints, table.scores, table.boxes, table.scores, valid)
    order = jnp.argsort(jnp.where(keep, -scores, jnp.inf), axis=1, stable=True)
    best_first = jax.vmap(lambda order, table: jax.tree.map(lambda column: column[order], table))
    return best_first(order, table._replace(valid=keep))


def refuse_crop_settings(settings: Settings) -> None:
    """A ValueError that names what is set and of no use where whole pictures are read once."""
    for name in ("flip_test", "rotation_test", "ranking"):
        if (value := getattr(settings, name)) != getattr(Settings(), name):
            raise ValueError(f"{name} = {value!r}: not with a network that finds people bottom-up")


def people_on_images(
    poses: Poses,
    boxes: Float[Array, "B P 4"],
    valid: Bool[Array, "B P"],
    scale: Float[Array, "B 2"],
) -> PeopleTable:
    """People of canvases in the pixels of their images; `scale` as that of `Letterbox`."""
    # Joints and the hulls around them are points: pixel centres are scaled.
    keypoints = poses.keypoints * scale[:, None, None]
    boxes = boxes * jnp.tile(scale, 2)[:, None]
    return PeopleTable(keypoints, poses.keypoint_scores, poses.scores, boxes, valid)


def find_poses(
    pose: PoseTask,
    variables: Any,
    pictures: Letterbox,
    levels: Sequence[Array],
    boxes: Detections,
    *,
    settings: Settings,
) -> PeopleTable:
    """Second stage: a pose for every valid box of all pictures, rescored and suppressed."""
    config, look = pose.config, settings.look
    count, per_picture = boxes.valid.shape
    classes = None if boxes.classes is None else boxes.classes.reshape(-1)
    flat, shape = boxes.boxes.reshape(-1, 4), {"aspect": config.aspect, "scale": config.box_scale}
    windows = extend_boxes(flat, **shape)
    rows, columns = grids(windows, **config.grid._asdict())
    cells = (config.crop_height - 1) * (config.crop_width - 1)
    areas = jnp.prod(windows[:, 2:] - windows[:, :2], axis=-1) / cells
    turned = _turned_pixels(config, look)

    def crop(i):
        take = partial(sample, levels, pictures.size, i // per_picture, area=areas[i])
        straight = take(rows[i], columns[i])
        if not turned:
            return straight
        x0, y0, x1, y1 = windows[i]
        views = (take(y0 + (y1 - y0) * y, x0 + (x1 - x0) * x) for x, y in turned)
        return jnp.stack([straight, *views])

    def chunk(some):
        own = None if classes is None else classes[some]
        return predict_crops(pose, variables, lax.map(crop, some), windows[some], own, look=look)

    poses = in_chunks(chunk, boxes.valid.reshape(-1), settings.crops_at_once)
    poses = jax.tree.map(lambda x: x.reshape(count, per_picture, *x.shape[1:]), poses)
    ranked = partial(rank_classes, skeleton=pose.skeleton, **rank_options(settings))
    scores, keep = jax.vmap(ranked)(poses.keypoints, poses.scores, *boxes)
    order = jnp.argsort(jnp.where(keep, -scores, jnp.inf), axis=1, stable=True)
    columns = poses.keypoints, poses.keypoint_scores, scores, boxes.boxes, keep
    table = PeopleTable(*columns, poses.visibility, boxes.classes)
    best_first = jax.vmap(lambda order, table: jax.tree.map(lambda column: column[order], table))
    return best_first(order, table)


def turned_views(config: PoseConfig, look: Look) -> tuple[Affine, ...]:
    """Maps from a crop's pixels to those of its other views; none without the rotation test."""
    return turns(config.grid) if look.rotation_test else ()


def _turned_pixels(config: PoseConfig, look: Look) -> list[Float[np.ndarray, "2 H W"]]:
    """X and y of each turned view's pixels in the crop's box, 0 to 1 from side to side."""
    last = (config.crop_width - 1, config.crop_height - 1)
    pixels = np.stack(np.meshgrid(*(np.arange(side + 1) for side in last)), axis=-1)
    views = map(invert_affine, turned_views(config, look))
    points = (apply_affine(view, pixels) / last for view in views)
    return [np.moveaxis(each, -1, 0).astype(np.float32) for each in points]


def predict_crops(
    pose: PoseTask,
    variables: Any,
    image: Num[Array, "B *views H W 3"],
    box: Float[Array, "B 4"],
    classes: Int[Array, " B"] | None = None,
    *,
    look: Look,
    truth: PyTree = None,
) -> Poses:
    """RGB crops in 0..255, each with its `turned_views`, to poses in the images' own pixels.

    `box` is what each crop shows, in image pixels; of several `classes`, only the joints of each
    crop's own are read. For the `truth`, see `PoseTask.predict`.
    """
    views = turned_views(pose.config, look)
    maps = pose.predict(variables, image, flip_test=look.flip_test, turns=views, truth=truth)
    if classes is None:
        poses = pose.decode(maps, look.decoding)
    else:
        poses = decode_classes(pose, maps, classes, look.decoding)
    keypoints = crop_to_image(poses.keypoints, box, pose.grid)
    if classes is not None:
        own = np.zeros((len(pose.skeleton.classes), len(pose.skeleton)), bool)
        for row, block in zip(own, pose.skeleton.blocks.values()):
            row[block] = True
        keypoints = jnp.where(jnp.asarray(own)[classes][..., None], keypoints, 0.0)
    return poses._replace(keypoints=keypoints)


def decode_classes(
    pose: PoseTask, maps: Any, classes: Int[Array, " B"], decoding: str | None
) -> Poses:
    """The poses of crops of several classes, by the joints of each one's; the others are 0."""
    found = []
    for name, block in pose.skeleton.blocks.items():
        one = pose.of_class(name)
        points, scores, total, seen = one.decode(one.block(maps), decoding)
        beside = block.start, len(pose.skeleton) - block.stop
        points = jnp.pad(points, ((0, 0), beside, (0, 0)))
        scores, seen = jax.tree.map(lambda x, b=beside: jnp.pad(x, ((0, 0), b)), (scores, seen))
        found.append(Poses(points, scores, total, seen))
    rows = jnp.arange(len(classes))
    return jax.tree.map(lambda *each: jnp.stack(each)[classes, rows], *found)


def crop_to_image(
    keypoints: Float[Array, "B K 2"], box: Float[Array, "B 4"], grid: Grid
) -> Float[Array, "B K 2"]:
    """Crop pixels to image points; crop corners lie on box corners (align-corners)."""
    last = jnp.array([grid.width - 1, grid.height - 1], jnp.float32)
    scale = (box[:, 2:] - box[:, :2]) / last[None]
    return box[:, None, :2] + keypoints * scale[:, None]


def in_chunks(function, valid: Bool[Array, " N"], chunk: int):
    """`function` on the row numbers that are valid; zeros for the others.

    It gets `chunk` at a time. On CPUs, which gain little by a full chunk, the last ones come one by
    one; an accelerator is as fast with a chunk as with one.
    """
    count, total = len(valid), jnp.sum(valid, dtype=jnp.int32)
    # With room for one chunk only, every round would be the same to XLA, which then does the work
    # before the loop, whether there are people or not.
    padded = max(-(-count // chunk), 2) * chunk
    order = jnp.argsort(~valid, stable=True).astype(jnp.int32)
    rows = jnp.pad(order, (0, padded - count))
    function = jax.jit(function)  # so that it is traced once a size, not here and in the loop
    shapes = jax.eval_shape(function, jax.ShapeDtypeStruct((chunk,), jnp.int32))
    tables = jax.tree.map(lambda x: jnp.zeros((padded, *x.shape[1:]), x.dtype), shapes)

    def loop(size, last, state):
        """Goes on, `size` rows at a time, while it is not past `last`."""

        def step(state):
            i, tables = state
            results = function(lax.dynamic_slice_in_dim(rows, i, size))
            write = partial(lax.dynamic_update_slice_in_dim, start_index=i, axis=0)
            return i + size, jax.tree.map(lambda table, x: write(table, x), tables, results)

        return lax.while_loop(lambda state: state[0] <= last, step, state)

    def exact(state):
        return loop(1, total - 1, loop(chunk, total - chunk, state)) if chunk > 1 else full(state)

    full = partial(loop, chunk, total - 1)
    _, tables = lax.platform_dependent((jnp.int32(0), tables), cpu=exact, default=full)

    def unpack(table):
        spread = jnp.zeros((count, *table.shape[1:]), table.dtype).at[order].set(table[:count])
        return jnp.where(valid.reshape(-1, *(1,) * (table.ndim - 1)), spread, 0)

    return jax.tree.map(unpack, tables)
