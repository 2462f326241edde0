"""Pictures in, person boxes out: runs a detector over a data set."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from g_rmi.detector.task import DetectorTask
from g_rmi.evaluation.spread import predict_batches
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
def make_detect(task: DetectorTask, *, flip_test: bool = False):
    """The pure map (variables, batch of canvases) -> Detections in image pixels; made once."""

    def detect(variables: Any, batch: Mapping[str, Array]) -> Detections:
        found = task.predict(variables, batch["image"], batch["size"], flip_test=flip_test)
        return found._replace(boxes=canvas_to_image(found.boxes, batch["scale"]))

    return detect


def detect_people(
    task: DetectorTask,
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    flip_test: bool = False,
    mesh: Mesh | None = None,
) -> Found:
    """Finds the people of every picture, on all devices of all hosts.

    Args:
      task: The detector.
      variables: Its variables.
      batches: This host's pictures as `data_pipeline.loader.canvases` makes them: "image", "size",
        "scale" (image pixels per canvas pixel), "index" (number of the picture), "weight" (0 for
        filling rows).
      flip_test: Look at the mirrored pictures, too.
      mesh: Devices; default all.

    Returns:
      The people of all pictures, on every host.
    """
    rows = [Found(np.zeros(0, np.int32), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))]
    detect = make_detect(task, flip_test=flip_test)
    for index, found in predict_batches(detect, variables, batches, mesh=mesh):
        image = np.broadcast_to(index[:, None], found.valid.shape)
        rows.append(Found(image[found.valid], found.boxes[found.valid], found.scores[found.valid]))
    table = Found(*map(np.concatenate, zip(*rows)))
    order = np.lexsort((-table.scores, table.image))
    return Found(*(column[order] for column in table))
