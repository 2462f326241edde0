"""The whole method as one `jax.export` artefact, to be run without this project's code."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export, lax
from jaxtyping import Array, Bool, Int, UInt8

from g_rmi.inference.canvas import MARGIN, fit_on_device
from g_rmi.inference.people import PeopleTable, find_boxes, find_parts, find_poses
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.sampling import mipmaps
from g_rmi.parts.task import PartsTask
from g_rmi.types import Detections

PLATFORMS = ("cpu", "cuda", "tpu")


def export_program(
    pipeline: PosePipeline, *, height: int, width: int, count: int = 1
) -> tuple[export.Exported, dict[str, Array]]:
    """Lowers pictures in, people out for all of `PLATFORMS`; geometry included.

    The program maps (image [count, rows, columns, 3] uint8, size [count, 2] int32, weights) to a
    dict of the columns of `g_rmi.inference.people.PeopleTable` that there are. The rows and columns
    are those given, rounded up to a multiple of `MARGIN`, and as many of zeros; pictures lie in the
    upper left corner and may lie or stand; `height` and `width` are those of the largest, `count`
    is how many a call takes.

    Returns:
      The program, and the weights to call it with, by name. As constants of the program they would
      make nothing faster, and could be neither looked at nor replaced.

    Raises:
      ValueError: The pipeline has no detector and needs one, or several classes, its solver runs
        on the host, or a number is not positive or too large.
    """
    pose = pipeline.pose
    if names := ", ".join(pose.skeleton.blocks):
        raise ValueError(f"several classes, {names}: only one goes into an exported program")
    if isinstance(pose, PartsTask):
        if pose.decoding(pipeline.settings.decoding) == "exact":
            raise ValueError("decoding 'exact' runs on the host and cannot be exported")
    elif pipeline.detector is None:
        raise ValueError("the pipeline was loaded without a detector: there is no whole to export")
    for name, value in {"height": height, "width": width, "count": count}.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: must be at least 1")
    rows, columns = (-(-side // MARGIN) * MARGIN + MARGIN for side in (height, width))
    if count * rows * columns >= 2**31:
        raise ValueError(
            f"{count} pictures of {height} x {width} pixels are too many: 2^31 or more"
        )
    weights: dict[str, Any] = flatten_dict(pipeline.variables, sep="/")
    program = jax.jit(partial(_find_people, pipeline))
    exported = export.export(program, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((count, rows, columns, 3), jnp.uint8),
        jax.ShapeDtypeStruct((count, 2), jnp.int32),
        {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()},
    )
    return exported, weights


def _find_people(
    pipeline: PosePipeline,
    image: UInt8[Array, "B H W 3"],
    size: Int[Array, "B 2"],
    weights: dict[str, Array],
) -> dict[str, Array]:
    variables, settings = unflatten_dict(weights, sep="/"), pipeline.settings
    detector, pose = pipeline.detector, pipeline.pose
    squash = False
    if isinstance(pose, PartsTask):
        first, weights_of = partial(find_parts, pose), "pose"
        short, long = pose.config.canvas
    else:
        assert detector is not None  # what `export_program` sees to
        first, weights_of = partial(find_boxes, detector), "detector"
        (short, long), squash = detector.config.canvas, detector.config.squash
    fit = partial(fit_on_device, image, size, squash=squash)
    lying = size[:, 1] >= size[:, 0]

    def boxes(canvas: tuple[int, int], mine: Bool[Array, " B"]) -> Detections | PeopleTable:
        """Of the pictures of one orientation; costs next to nothing if there are none."""
        find = partial(first, canvas=canvas, settings=settings)
        inputs = variables[weights_of], fit(canvas=canvas), levels
        shapes = jax.eval_shape(find, *inputs)
        nobody = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(jnp.any(mine), lambda: find(*inputs), lambda: nobody)

    pictures = fit(canvas=(short, long))
    levels = mipmaps(pictures)
    found = jax.tree.map(
        lambda a, b: jnp.where(lying.reshape(-1, *(1,) * (a.ndim - 1)), a, b),
        boxes((short, long), lying),
        boxes((long, short), ~lying),
    )
    if isinstance(pose, PartsTask):
        people = found
    else:
        second = pose, variables["pose"], pictures, levels, found
        people = find_poses(*second, settings=settings)
    return {name: column for name, column in people._asdict().items() if column is not None}
