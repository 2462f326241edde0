"""Pictures in, person boxes out: runs a detector over a data set."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from g_rmi.detector.task import DetectorTask
from g_rmi.types import Detections


class Found(NamedTuple):
    """Detections of many pictures, one row each, by picture, then best first.

    Attributes:
      image: The number each picture came with.
      boxes: In the pictures' own pixels.
      scores: Probability of a person.
    """

    image: Int[np.ndarray, " N"]
    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]


def canvas_to_image(
    boxes: Float[Array, "B N 4"], scale: Float[Array, "B 2"]
) -> Float[Array, "B N 4"]:
    """Boxes on canvases to image pixels; `scale` is image pixels per canvas pixel, x and y."""
    # Pixel centres are scaled; boxes begin half a pixel before them, in both frames.
    to_image = jnp.tile(scale, 2)[:, None]
    return to_image * boxes + (1 - to_image) / 2


@lru_cache
def make_detect(task: DetectorTask):
    """The jitted map (variables, canvases, sizes, scale) -> Detections in image pixels.

    Made once; compiles once per canvas.
    """

    @jax.jit
    def detect(
        variables: Any,
        image: UInt8[Array, "B H W 3"],
        size: Int[Array, "B 2"],
        scale: Float[Array, "B 2"],
    ) -> Detections:
        found = task.predict(variables, image, size)
        return found._replace(boxes=canvas_to_image(found.boxes, scale))

    return detect


def detect_people(
    task: DetectorTask, variables: Any, batches: Iterable[Mapping[str, np.ndarray]]
) -> Found:
    """Finds the people of every picture.

    Args:
      task: The detector.
      variables: Its variables.
      batches: Pictures as `data_pipeline.loader.canvases` makes them: "image", "size", "scale"
        (image pixels per canvas pixel), "index" (number of the picture), "weight" (0 for filling
        rows).
    """
    detect = make_detect(task)
    rows: list[Found] = []

    def collect(batch: Mapping[str, np.ndarray], found: Detections) -> None:
        boxes, scores, valid = jax.device_get(found)
        valid = valid & (batch["weight"] > 0)[:, None]
        index = np.broadcast_to(batch["index"][:, None], valid.shape)
        rows.append(Found(index[valid], boxes[valid], scores[valid]))

    pending = None
    for batch in batches:
        found = detect(variables, batch["image"], batch["size"], batch["scale"])
        # Fetching one batch late keeps the device busy while the host reads the next pictures.
        if pending is not None:
            collect(*pending)
        pending = (batch, found)
    if pending is not None:
        collect(*pending)
    if not rows:
        return Found(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    table = Found(*map(np.concatenate, zip(*rows)))
    order = np.lexsort((-table.scores, table.image))
    return Found(*(column[order] for column in table))
