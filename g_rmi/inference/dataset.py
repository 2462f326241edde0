"""A network over a data set, on all devices of all hosts; every host gets all predictions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import chain, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Int

from g_rmi.detector.detector import Detector
from g_rmi.inference.canvas import canvas_to_image
from g_rmi.inference.people import PeopleTable, people_on_images, predict_crops
from g_rmi.inference.settings import Look
from g_rmi.parts.task import PartsTask
from g_rmi.pose.heads.head import tells_visibility
from g_rmi.pose.task import PoseTask
from g_rmi.training.sharding import data_mesh, put_batch, replicate, replicated
from g_rmi.types import Detections, People, PoseBatch, Poses

Arrays = Mapping[str, Any]


@lru_cache
def prediction_step(predict: Callable[[Any, Arrays], Any], mesh: Mesh):
    """Each device predicts its rows; then all rows go to all devices. Jitted, made once."""
    data = PartitionSpec("data")
    specs = {"in_specs": (PartitionSpec(), data), "out_specs": data}
    spread = jax.shard_map(predict, mesh=mesh, **specs, check_vma=False)

    def run(variables, batch):
        return batch["index"], batch["weight"], spread(variables, batch)

    return jax.jit(run, out_shardings=replicated(mesh))


def predict_batches(
    predict: Callable[[Any, Arrays], Any],
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    mesh: Mesh | None = None,
) -> Iterator[tuple[Int[np.ndarray, " N"], Any]]:
    """Maps a prediction over batches of which each host reads its own part.

    Args:
      predict: Pure function (variables, batch) -> arrays, a row for each of the batch's.
      variables: Of the network.
      batches: Arrays of this host's rows, as many on every host; among them "index", the number of
        the row in the data set, and "weight", 0 for filling rows. Rows that do not divide over the
        devices are filled up.
      mesh: Devices; default all.

    Yields:
      Numbers of the rows and what was predicted for them: those of all hosts, on every host.
    """
    mesh = data_mesh() if mesh is None else mesh
    run = prediction_step(predict, mesh)
    variables = replicate(mesh, variables)
    started = (
        run(variables, put_batch(mesh, _fill(batch, len(mesh.local_devices)))) for batch in batches
    )
    # Fetching one batch late keeps the devices busy while the host reads the next one.
    for predicted, _ in pairwise(chain(started, [None])):
        index, weight, rows = jax.device_get(predicted)
        real = weight > 0
        yield index[real], jax.tree.map(lambda x, real=real: x[real], rows)


def _fill(batch: Mapping[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """As many rows for each device; the last row is repeated, with weight 0."""
    count = len(batch["weight"])
    rows = np.minimum(np.arange(-(-count // devices) * devices), count - 1)
    filled = {name: values[rows] for name, values in batch.items()}
    filled["index"] = filled["index"].astype(np.int32)
    filled["weight"][count:] = 0
    return filled


class FoundBoxes(NamedTuple):
    """Boxes of many pictures in their own pixels, by the picture's number, then best first."""

    image: Int[np.ndarray, " N"]
    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]
    classes: Int[np.ndarray, " N"] | None = None  # where there are several

    def of_class(self, number: int) -> "FoundBoxes":
        """Those of one class."""
        own = self.classes == number
        return FoundBoxes(self.image[own], self.boxes[own], self.scores[own])


@lru_cache
def make_detect(task: Detector, *, flip_test: bool = False):
    """The pure map (variables, batch of canvases) -> Detections in image pixels; made once."""

    def detect(variables: Any, batch: Arrays) -> Detections:
        found = task.predict(variables, batch["image"], batch["size"], flip_test=flip_test)
        return found._replace(boxes=canvas_to_image(found.boxes, batch["scale"]))

    return detect


def detect_people(
    task: Detector,
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    flip_test: bool = False,
    mesh: Mesh | None = None,
) -> FoundBoxes:
    """Finds the people of every picture.

    `batches` are this host's pictures as `data_pipeline.loader.canvases` makes them: "image",
    "size", "scale" (image pixels per canvas pixel), and what `predict_batches` needs.
    """
    none = np.zeros(0, np.int32), np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    rows = [FoundBoxes(*none, np.zeros(0, np.int32) if task.classes else None)]
    detect = make_detect(task, flip_test=flip_test)
    for index, found in predict_batches(detect, variables, batches, mesh=mesh):
        image = np.broadcast_to(index[:, None], found.valid.shape)
        columns = FoundBoxes(image, found.boxes, found.scores, found.classes)
        rows.append(jax.tree.map(lambda column, valid=found.valid: column[valid], columns))
    table = jax.tree.map(lambda *columns: np.concatenate(columns), *rows)
    order = np.lexsort((-table.scores, table.image))
    return jax.tree.map(lambda column: column[order], table)


@lru_cache
def make_find(task: PartsTask, decoding: str | None = None):
    """The pure map (variables, batch of canvases) -> PeopleTable in image pixels; made once."""

    def find(variables: Any, batch: Arrays) -> PeopleTable:
        found = task.predict(variables, batch["image"], batch["size"], decoding)
        return people_on_images(*found, batch["scale"])

    return find


def find_everybody(
    task: PartsTask,
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    decoding: str | None = None,
    mesh: Mesh | None = None,
) -> tuple[Int[np.ndarray, " N"], People]:
    """The people of every picture, bottom-up, and whose picture each is; by picture, then score.

    `batches` as those of `detect_people`.
    """
    joints = len(task.skeleton)
    zeros = partial(np.zeros, dtype=np.float32)
    none = np.zeros(0, np.int32), zeros((0, joints, 2)), zeros((0, joints)), zeros(0), zeros((0, 4))
    rows = [none]
    for index, found in predict_batches(make_find(task, decoding), variables, batches, mesh=mesh):
        image = np.broadcast_to(index[:, None], found.valid.shape)
        rows.append((image[found.valid], *(column[found.valid] for column in found[:4])))
    image, *columns = map(np.concatenate, zip(*rows))
    order = np.lexsort((-columns[2], image))
    people: Any = (column[order] for column in columns)
    return image[order], People(*people)


@lru_cache
def make_predict(task: PoseTask, look: Look):
    """`predict_crops` as a pure map (variables, batch of crops) -> Poses; made once."""

    def predict(variables: Any, batch: Arrays) -> Poses:
        truth = _truth(task, batch) if "keypoints" in batch else None
        return predict_crops(task, variables, batch["image"], batch["box"], look=look, truth=truth)

    return predict


def _truth(task: PoseTask, batch: Arrays):
    """The targets of crops whose joints are known."""
    nobody = jnp.zeros((len(batch["weight"]), 0, len(task.skeleton)))
    return task.targets(
        PoseBatch(
            image=batch["image"],
            keypoints=batch["keypoints"],
            visible=batch["visible"],
            occluded=jnp.zeros_like(batch["visible"]),  # in no loss
            visibility_known=jnp.zeros_like(batch["visible"]),
            labelled=batch["visible"],
            other_keypoints=jnp.stack([nobody, nobody], axis=-1),
            other_visible=nobody > 0,
            weight=batch["weight"],
        )
    )


def predict_boxes(
    task: PoseTask,
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    boxes: Float[np.ndarray, "N 4"],
    look: Look,
    *,
    mesh: Mesh | None = None,
) -> People:
    """A person for each box of a table, with the pose score; nobody is dropped.

    `batches` are this host's crops as `data_pipeline.loader.box_crops` makes them: "image", "box"
    (enlarged, in image pixels), what `predict_batches` needs and, for heads that need the truth,
    the people's joints.
    """
    count, joints = len(boxes), len(task.skeleton)
    zeros = partial(np.zeros, dtype=np.float32)
    visibility = zeros((count, joints)) if tells_visibility(task.config.head) else None
    tables = Poses(zeros((count, joints, 2)), zeros((count, joints)), zeros(count), visibility)
    predict = make_predict(task, look)
    for rows, poses in predict_batches(predict, variables, batches, mesh=mesh):
        for table, values in zip(jax.tree.leaves(tables), jax.tree.leaves(poses)):
            table[rows] = values
    return People(*tables[:3], boxes, task.skeleton, visibility)
