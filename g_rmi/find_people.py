"""Both stages of the paper as one pure function of fixed shapes (section 3).

    pictures -> canvases -> detector -> box NMS -> the boxes of all pictures, packed -> crops
             -> pose network -> Hough voting -> pose score -> OKS-NMS -> people

Every shape is fixed; the work is not: crops run in chunks, as many as there are boxes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from g_rmi.config import PoseConfig
from g_rmi.detector.task import DetectorTask
from g_rmi.evaluation.detect import canvas_to_image
from g_rmi.evaluation.evaluator import Decoding, predict_crops, ranking, suppress
from g_rmi.geometry import apply_affine, invert_affine
from g_rmi.ops.boxes import extend_boxes
from g_rmi.ops.image import grids, sample_grid, sample_points
from g_rmi.pose.task import PoseTask

# Block means that a picture is sampled from where it is shrunk, as in training.
_REDUCTIONS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Options:
    """How the pipeline runs; the defaults are the paper's where it says.

    Attributes:
      people: Most people of a picture that get a pose.
      min_box_score: Boxes of the detector that score lower get none.
      chunk: Crops that go through the pose network together; the last ones may be empty, so few
        serve pictures with few people, more an accelerator that is not full.
      decoding: How maps become people.
    """

    people: int = 30
    min_box_score: float = 0.05
    chunk: int = 4
    decoding: Decoding = Decoding()

    def __post_init__(self):
        for name in ("people", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")


DEFAULTS = Options()


class Pictures(NamedTuple):
    """Pictures on their way to the device.

    Attributes:
      image: RGB buffers: the picture in the upper left corner, zeros beside and below it, at
        least 8 pixels of them.
      size: Rows and columns of the picture.
      canvas_size: Rows and columns of the picture on the detector's canvas.
      slope: Image pixels per canvas pixel, x and y.
      shift: Image point of canvas pixel (0, 0).
    """

    image: UInt8[Array, "B H W 3"]
    size: Int[Array, "B 2"]
    canvas_size: Int[Array, "B 2"]
    slope: Float[Array, "B 2"]
    shift: Float[Array, "B 2"]


class Candidates(NamedTuple):
    """Boxes to look into, in image pixels."""

    boxes: Float[Array, "B P 4"]
    scores: Float[Array, "B P"]
    valid: Bool[Array, "B P"]


class Found(NamedTuple):
    """People of each picture, best first, on the device; rows past the last person not valid."""

    keypoints: Float[Array, "B P K 2"]
    keypoint_scores: Float[Array, "B P K"]
    scores: Float[Array, "B P"]
    boxes: Float[Array, "B P 4"]
    valid: Bool[Array, "B P"]


def find_people(
    detector: DetectorTask,
    pose: PoseTask,
    variables: tuple[Any, Any],
    pictures: Pictures,
    *,
    canvas: tuple[int, int],
    options: Options,
) -> Found:
    """The whole method, pure.

    Args:
      detector: The first stage.
      pose: The second.
      variables: Of both.
      pictures: All of one orientation.
      canvas: Rows and columns of the detector's canvas.
      options: Numbers and thresholds.
    """
    levels = pyramid(pictures)
    candidates = find_boxes(
        detector, variables[0], pictures, levels, canvas=canvas, options=options
    )
    return find_poses(pose, variables[1], pictures, levels, candidates, options=options)


def find_boxes(
    detector: DetectorTask,
    variables: Any,
    pictures: Pictures,
    levels: Sequence[Array],
    *,
    canvas: tuple[int, int],
    options: Options,
) -> Candidates:
    """First stage: pictures and their `pyramid` to boxes, best first, in image pixels."""

    def place(inputs):
        picture, slope, shift, canvas_size = inputs
        columns, rows = (
            jnp.where(
                jnp.arange(side) < canvas_size[1 - axis],
                jnp.arange(side, dtype=jnp.float32) * slope[axis] + shift[axis],
                jnp.nan,
            )
            for axis, side in ((0, canvas[1]), (1, canvas[0]))
        )
        return _sample(levels, pictures.size, picture, rows, columns, jnp.prod(slope))

    count = len(pictures.image)
    image = lax.map(
        place, (jnp.arange(count), pictures.slope, pictures.shift, pictures.canvas_size)
    )
    flip_test = options.decoding.flip_test
    found = detector.predict(variables, image, pictures.canvas_size, flip_test=flip_test)
    boxes = canvas_to_image(found.boxes, pictures.slope)
    valid = found.valid & (found.scores >= options.min_box_score)
    some = slice(options.people)
    return Candidates(boxes[:, some], found.scores[:, some], valid[:, some])


def find_poses(
    pose: PoseTask,
    variables: Any,
    pictures: Pictures,
    levels: Sequence[Array],
    candidates: Candidates,
    *,
    options: Options,
) -> Found:
    """Second stage: a pose for every valid box of all pictures, rescored and suppressed."""
    config, decoding = pose.config, options.decoding
    size = {"height": config.crop_height, "width": config.crop_width}
    pictures_count, per_picture = candidates.valid.shape
    total = pictures_count * per_picture
    windows = extend_boxes(
        candidates.boxes.reshape(total, 4), aspect=config.aspect, scale=config.box_scale
    )
    rows, columns = grids(windows, **size)
    cells = (config.crop_height - 1) * (config.crop_width - 1)
    areas = jnp.prod(windows[:, 2:] - windows[:, :2], axis=-1) / cells

    turned = _turned_pixels(config, decoding)

    def crop(i):
        sample = partial(_sample, levels, pictures.size, i // per_picture, area=areas[i])
        straight = sample(rows[i], columns[i])
        if not turned:
            return straight
        x0, y0, x1, y1 = windows[i]
        views = (sample(y0 + (y1 - y0) * y, x0 + (x1 - x0) * x, take=_points) for x, y in turned)
        return jnp.stack([straight, *views])

    def look(chunk):
        crops = lax.map(crop, chunk)
        return predict_crops(pose, variables, crops, windows[chunk], decoding=decoding)

    poses = _in_chunks(look, candidates.valid.reshape(total), options.chunk)
    poses = jax.tree.map(lambda x: x.reshape(pictures_count, per_picture, *x.shape[1:]), poses)
    scores = ranking(decoding.score, poses.scores, candidates.scores)
    return jax.vmap(partial(_rank, sigmas=pose.skeleton.sigmas, **decoding.suppression))(
        poses.keypoints, poses.keypoint_scores, scores, candidates.boxes, candidates.valid
    )


def _turned_pixels(config: PoseConfig, decoding: Decoding) -> list[Float[np.ndarray, "2 H W"]]:
    """X and y of each turned view's pixels in the crop's box, 0 to 1 from side to side."""
    last = (config.crop_width - 1, config.crop_height - 1)
    pixels = np.stack(np.meshgrid(*(np.arange(side + 1) for side in last)), axis=-1)
    points = (apply_affine(invert_affine(turn), pixels) / last for turn in decoding.turns(config))
    return [np.moveaxis(each, -1, 0).astype(np.float32) for each in points]


def _rank(keypoints, keypoint_scores, scores, boxes, valid, **options) -> Found:
    """Drops duplicates among the people of one picture; then best first."""
    keep = suppress(keypoints, boxes, scores, valid, **options)
    order = jnp.argsort(jnp.where(keep, -scores, jnp.inf), stable=True)
    table = Found(keypoints, keypoint_scores, scores, boxes, keep)
    return Found(*(column[order] for column in table))


def _in_chunks(function, valid: Bool[Array, " N"], chunk: int):
    """`function` on the row numbers that are valid, `chunk` at a time; zeros for the others."""
    count = len(valid)
    # With room for one chunk only, every round would be the same to XLA, which then does the work
    # before the loop, whether there are people or not.
    padded = max(-(-count // chunk), 2) * chunk
    order = jnp.argsort(~valid, stable=True).astype(jnp.int32)
    rows = jnp.pad(order, (0, padded - count))
    shapes = jax.eval_shape(function, jax.ShapeDtypeStruct((chunk,), jnp.int32))
    tables = jax.tree.map(lambda x: jnp.zeros((padded, *x.shape[1:]), x.dtype), shapes)
    chunks = -(-jnp.sum(valid, dtype=jnp.int32) // chunk)

    def step(state):
        i, tables = state
        results = function(lax.dynamic_slice_in_dim(rows, i * chunk, chunk))
        write = partial(lax.dynamic_update_slice_in_dim, start_index=i * chunk, axis=0)
        return i + 1, jax.tree.map(lambda table, x: write(table, x), tables, results)

    _, tables = lax.while_loop(lambda state: state[0] < chunks, step, (jnp.int32(0), tables))

    def unpack(table):
        spread = jnp.zeros((count, *table.shape[1:]), table.dtype).at[order].set(table[:count])
        return jnp.where(valid.reshape(-1, *(1,) * (table.ndim - 1)), spread, 0)

    return jax.tree.map(unpack, tables)


def pyramid(pictures: Pictures) -> list[Array]:
    """Means of 1, 4, 16 and 64 pixels, the pictures of a level one below the other, [B h, w, 3].

    The last rows and columns are repeated to fill a block.
    """
    image, size = pictures.image, pictures.size
    count, height, width, _ = image.shape

    def repeat_edge(image, size):
        rows = jnp.minimum(jnp.arange(height), size[0] - 1)
        columns = jnp.minimum(jnp.arange(width), size[1] - 1)
        return image[rows][:, columns]

    levels = [image]
    x = jax.vmap(repeat_edge)(image, size).astype(jnp.float32)
    for reduction in _REDUCTIONS[1:]:
        x = x.reshape(count, x.shape[1] // 2, 2, x.shape[2] // 2, 2, 3).mean((2, 4))
        rows = reduction * jnp.arange(x.shape[1])[None, :] < size[:, :1]
        columns = reduction * jnp.arange(x.shape[2])[None, :] < size[:, 1:]
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        levels.append(jnp.where(inside, x, 0.0))
    return [level.reshape(-1, *level.shape[2:]) for level in levels]


def _grid(level: Array, rows: Float[Array, " h"], columns: Float[Array, " w"]) -> Array:
    return sample_grid(level, rows[None], columns[None])[0]


def _points(level: Array, y: Float[Array, "h w"], x: Float[Array, "h w"]) -> Array:
    return sample_points(level, jnp.stack([x, y], axis=-1))


def _sample(
    levels: Sequence[Array],
    sizes: Int[Array, "B 2"],
    picture: Int[Array, ""],
    rows: Float[Array, "..."],
    columns: Float[Array, "..."],
    area: Float[Array, ""],
    take: Callable[[Array, Array, Array], Float[Array, "h w 3"]] = _grid,
) -> Float[Array, "h w 3"]:
    """Samples one picture on a grid of image points, or at the points themselves (`_points`).

    `area` is that between neighbours.
    """
    count = len(sizes)

    def from_level(number):
        level, reduction = levels[number], _REDUCTIONS[number]
        height = level.shape[0] // count

        def along(positions, side):
            # Block i has its centre at r i + (r - 1) / 2.
            positions = (positions - (reduction - 1) / 2) / reduction
            # Further out than the zeros below each picture lies another picture.
            side = (-(-side // reduction)).astype(jnp.float32)
            return jnp.where((positions > -1) & (positions < side), positions, jnp.nan)

        y, x = along(rows, sizes[picture, 0]), along(columns, sizes[picture, 1])
        offset = (picture * height).astype(jnp.float32)
        return take(level, y + offset, x)

    wanted = sum((area >= r * r).astype(jnp.int32) for r in _REDUCTIONS[1:])
    return lax.switch(wanted, [partial(from_level, n) for n in range(len(_REDUCTIONS))])
