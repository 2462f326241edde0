"""Crops in, people out: runs a pose network over boxes, rescores and suppresses duplicates."""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Num

from g_rmi.config import Method, PoseConfig
from g_rmi.evaluation.spread import predict_batches
from g_rmi.geometry import Affine
from g_rmi.ops.nms import box_nms, oks_nms
from g_rmi.pose.decode import decode_batch, oks_spread
from g_rmi.pose.task import PoseTask
from g_rmi.pose.turn import turns
from g_rmi.types import People, Poses

Score = Literal["pose", "box", "product"]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How maps become people; the defaults are the paper's.

    Attributes:
      method: Hough voting with the paper's kernel or that of OKS, or the heatmap's maximum without
        or with the offset there: `g_rmi.pose.decode.decode`. None: what the config of the
        weights asks for, which is the paper's unless it says otherwise.
      refine: Sub-pixel refinement of the peak.
      flip_test: Average the maps with those of the mirrored crop; a detector that finds the boxes
        looks at the mirrored picture, too.
      score: What ranks the people: the pose score, the box score, or their product.
      oks_threshold: OKS above which the lower-scored of two people is dropped; 1 keeps all.
      iou_threshold: IoU of their boxes above which the lower-scored of two people is dropped; 1, as
        in the paper, keeps all.
      turn_test: Average the maps with those of the crop turned by 30 degrees to either side; for
        weights trained with `--rotation`.
    """

    method: Method | None = None
    refine: bool = False
    flip_test: bool = False
    score: Score = "pose"
    oks_threshold: float = 0.5
    iou_threshold: float = 1.0
    turn_test: bool = False

    def method_for(self, config: PoseConfig) -> Method:
        """The method, that of the network's config where none is given."""
        return self.method or config.decoding

    @property
    def network(self) -> "Decoding":
        """The part that `predict_crops` reads; the rest is the paper's."""
        names = ("method", "refine", "flip_test", "turn_test")
        return Decoding(**{name: getattr(self, name) for name in names})

    def turns(self, config: PoseConfig) -> tuple[Affine, ...]:
        """Maps from a crop's pixels to those of its other views; none without the turn test."""
        return turns(config.crop_height, config.crop_width) if self.turn_test else ()

    @property
    def suppression(self) -> dict[str, float | None]:
        """The thresholds as `suppress` takes them: None where all are kept."""
        values = {"oks_threshold": self.oks_threshold, "iou_threshold": self.iou_threshold}
        return {name: value if value < 1 else None for name, value in values.items()}


def crop_to_image(
    keypoints: Float[Array, "B K 2"], box: Float[Array, "B 4"], *, height: int, width: int
) -> Float[Array, "B K 2"]:
    """Crop pixels to image points; crop corners lie on box corners (align-corners)."""
    last = jnp.array([width - 1, height - 1], jnp.float32)
    scale = (box[:, 2:] - box[:, :2]) / last[None]
    return box[:, None, :2] + keypoints * scale[:, None]


def predict_crops(
    task: PoseTask,
    variables: Any,
    image: Num[Array, "B *views H W 3"],
    box: Float[Array, "B 4"],
    *,
    decoding: Decoding,
) -> Poses:
    """Crops to poses in the images' own pixels.

    Args:
      task: The pose task.
      variables: Its variables.
      image: RGB crops in 0..255; each with its views, if `decoding.turns` asks for some.
      box: What each crop shows, in image pixels.
      decoding: How maps become people.
    """
    config = task.config
    size = {"height": config.crop_height, "width": config.crop_width}
    maps = task.predict(
        variables, image, flip_test=decoding.flip_test, turn_test=decoding.turn_test
    )
    poses = decode_batch(
        maps.heatmap,
        maps.offset,
        **size,
        radius=config.radius,
        method=decoding.method_for(config),
        refine=decoding.refine,
        spread=oks_spread(task.skeleton.sigmas, **size, box_scale=config.box_scale),
    )
    return poses._replace(keypoints=crop_to_image(poses.keypoints, box, **size))


def ranking(score: Score, pose: Any, box: Any) -> Any:
    """The scores that rank people, from pose scores and box scores, numpy's or jax's."""
    return {"pose": pose, "box": box, "product": pose * box}[score]


def suppress(
    keypoints: Float[Array, "N K 2"],
    boxes: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    valid: Bool[Array, " N"],
    *,
    sigmas: tuple[float, ...],
    oks_threshold: Any,
    iou_threshold: Any,
) -> Bool[Array, " N"]:
    """Drops duplicates among the people of one picture (paper, section 3.2.3).

    Args:
      keypoints: In image pixels.
      boxes: Where the people were found; their areas are the scale of OKS.
      scores: The higher one stays.
      valid: People who take part.
      sigmas: OKS fall-offs.
      oks_threshold: OKS above which a person is dropped; None drops nobody.
      iou_threshold: IoU of the boxes above which a person is dropped, before the poses are
        compared; None drops nobody.

    Returns:
      The people who stay.
    """
    if iou_threshold is not None:
        valid = box_nms(boxes, scores, valid, threshold=iou_threshold)
    if oks_threshold is not None:
        areas = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
        valid = oks_nms(keypoints, scores, areas, valid, sigmas=sigmas, threshold=oks_threshold)
    return valid


@lru_cache
def make_predict(task: PoseTask, decoding: Decoding):
    """`predict_crops` as a pure map (variables, batch of crops) -> Poses; made once."""

    def predict(variables: Any, batch: Mapping[str, Array]) -> Poses:
        return predict_crops(task, variables, batch["image"], batch["box"], decoding=decoding)

    return predict


def predict_boxes(
    task: PoseTask,
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    boxes: Float[np.ndarray, "N 4"],
    decoding: Decoding,
    *,
    mesh: Mesh | None = None,
) -> People:
    """Runs the network over every box of a table, on all devices of all hosts.

    Args:
      task: The pose task.
      variables: Its variables.
      batches: This host's crops as `data_pipeline.loader.box_crops` makes them: "image", "box"
        (enlarged, in image pixels), "index" (row of the table), "weight" (0 for filling rows).
      boxes: The boxes of the table as they were, before the enlargement.
      decoding: How maps become people.
      mesh: Devices; default all.

    Returns:
      A person for each box, ranked by the pose score; the same on every host.
    """
    k = len(task.skeleton)
    count = len(boxes)
    people = People(
        np.zeros((count, k, 2), np.float32),
        np.zeros((count, k), np.float32),
        np.zeros(count, np.float32),
        boxes,
    )
    predict = make_predict(task, decoding.network)
    for rows, poses in predict_batches(predict, variables, batches, mesh=mesh):
        for table, values in zip(people, poses):
            table[rows] = values
    return people


_keep = jax.jit(suppress, static_argnames="sigmas")


def rank_and_suppress(
    people: People,
    image_ids: Int[np.ndarray, " N"],
    box_scores: Float[np.ndarray, " N"],
    *,
    sigmas: tuple[float, ...],
    decoding: Decoding,
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Scores people and drops duplicates within each image: `suppress`.

    Args:
      people: In image pixels, with their pose scores.
      image_ids: The image each belongs to.
      box_scores: Scores of the boxes they came from.
      sigmas: OKS fall-offs.
      decoding: Gives the score and the thresholds.

    Returns:
      Scores, and a mask of the people who stay.
    """
    scores = ranking(decoding.score, people.scores, box_scores)
    keep = np.ones(len(scores), bool)
    if set(decoding.suppression.values()) == {None}:
        return scores, keep
    boxes = people.boxes.astype(np.float32)
    order = np.argsort(image_ids, kind="stable")
    starts = np.flatnonzero(np.diff(image_ids[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        if len(rows) < 2:
            continue
        # Power-of-two padding: few compilations for any number of people.
        pad = (0, (1 << (len(rows) - 1).bit_length()) - len(rows))
        kept = _keep(
            np.pad(people.keypoints[rows], (pad, (0, 0), (0, 0))),
            np.pad(boxes[rows], (pad, (0, 0))),
            np.pad(scores[rows], pad),
            np.pad(np.ones(len(rows), bool), pad),
            sigmas=sigmas,
            **decoding.suppression,
        )
        keep[rows] = np.asarray(kept)[: len(rows)]
    return scores, keep
