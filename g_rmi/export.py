"""The whole method as one `jax.export` artefact, to be run without this project's code."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export, lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from g_rmi.detector.task import DetectorTask
from g_rmi.find_people import Candidates, Options, Pictures, find_boxes, find_poses, pyramid
from g_rmi.pipeline import PosePipeline
from g_rmi.pose.task import PoseTask

PLATFORMS = ("cpu", "cuda", "tpu")

# Zeros below and beside a picture, and what its buffer's sides are multiples of; see `Pictures`.
MARGIN = 8


def export_program(
    pipeline: PosePipeline, *, height: int, width: int, count: int = 1
) -> tuple[export.Exported, dict[str, Array]]:
    """Lowers pictures in, people out for all of `PLATFORMS`; geometry included.

    The program maps (image [count, rows, columns, 3] uint8, size [count, 2] int32, weights) to a
    dict of the tables of `g_rmi.find_people.Found`. The rows and columns are those given, rounded
    up to a multiple of 8, and 8 of zeros; pictures lie in the upper left corner and may lie or
    stand.

    Args:
      pipeline: Both stages and their options.
      height: Rows of the largest picture.
      width: Its columns.
      count: Pictures of a call.

    Returns:
      The program, and the weights to call it with, by name. As constants of the program they would
      make nothing faster, and could be neither looked at nor replaced.

    Raises:
      ValueError: The pipeline has no detector, or a number is not positive or too large.
    """
    if pipeline.detector is None:
        raise ValueError("the pipeline was loaded without a detector: there is no whole to export")
    for name, value in {"height": height, "width": width, "count": count}.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: must be at least 1")
    rows, columns = (-(-side // MARGIN) * MARGIN + MARGIN for side in (height, width))
    if count * rows * columns >= 2**31:
        raise ValueError(
            f"{count} pictures of {height} x {width} pixels are too many: 2^31 or more"
        )
    weights: dict[str, Any] = flatten_dict(
        dict(zip(("detector", "pose"), pipeline.variables)), sep="/"
    )
    program = jax.jit(partial(_find_people, pipeline.detector, pipeline.pose, pipeline.options))
    exported = export.export(program, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((count, rows, columns, 3), jnp.uint8),
        jax.ShapeDtypeStruct((count, 2), jnp.int32),
        {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()},
    )
    return exported, weights


def _find_people(
    detector: DetectorTask,
    pose: PoseTask,
    options: Options,
    image: UInt8[Array, "B H W 3"],
    size: Int[Array, "B 2"],
    weights: dict[str, Array],
) -> dict[str, Array]:
    variables = unflatten_dict(weights, sep="/")
    short, long = detector.config.canvas
    lying = size[:, 1] >= size[:, 0]

    def boxes(canvas: tuple[int, int], mine: Bool[Array, " B"]) -> Candidates:
        """Of the pictures of one orientation; costs next to nothing if there are none."""
        find = partial(find_boxes, detector, canvas=canvas, options=options)
        inputs = variables["detector"], fit_pictures(image, size, canvas=canvas), levels
        shapes = jax.eval_shape(find, *inputs)
        nobody = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(jnp.any(mine), lambda: find(*inputs), lambda: nobody)

    pictures = fit_pictures(image, size, canvas=(short, long))
    levels = pyramid(pictures)
    candidates = jax.tree.map(
        lambda a, b: jnp.where(lying.reshape(-1, *(1,) * (a.ndim - 1)), a, b),
        boxes((short, long), lying),
        boxes((long, short), ~lying),
    )
    return find_poses(
        pose, variables["pose"], pictures, levels, candidates, options=options
    )._asdict()


def fit_pictures(
    image: UInt8[Array, "B H W 3"], size: Int[Array, "B 2"], *, canvas: tuple[int, int]
) -> Pictures:
    """`g_rmi.geometry.fit_canvas` for pictures whose sizes only the device knows.

    Args:
      image: Buffers with the pictures in the upper left corner.
      size: Rows and columns of each picture.
      canvas: Rows and columns of the detector's canvas.
    """
    sides = jnp.array(canvas, jnp.int32)
    # The canvas is to the picture as `sides` to `size`, along its rows or along its columns.
    by_rows = sides[0] * size[:, 1] <= sides[1] * size[:, 0]
    after = jnp.where(by_rows, sides[0], sides[1])[:, None]
    before = jnp.where(by_rows, size[:, 0], size[:, 1])[:, None]
    whole, rest = jnp.divmod(after * size, before)
    # Halves to even.
    up = (2 * rest > before) | ((2 * rest == before) & (whole % 2 == 1))
    fitted = jnp.maximum(whole + up.astype(jnp.int32), 1)
    usual = jnp.minimum(size, fitted) > 1
    slope = jnp.where(usual, _ratio(size - 1, fitted - 1), _ratio(size, fitted))[:, ::-1]
    return Pictures(image, size, fitted, slope, jnp.zeros_like(slope))


def _ratio(a: Int[Array, "B 2"], b: Int[Array, "B 2"]) -> Float[Array, "B 2"]:
    return a.astype(jnp.float32) / jnp.maximum(b, 1).astype(jnp.float32)
