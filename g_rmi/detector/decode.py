"""From scores and codes to proposals, and from proposals to people: fixed sizes and masks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from g_rmi.config import DetectorConfig
from g_rmi.ops.boxes import clip_boxes, decode_boxes
from g_rmi.ops.nms import box_nms
from g_rmi.types import Detections


class Proposals(NamedTuple):
    """Regions that may hold a person, best first.

    Attributes:
      boxes: In canvas pixels, inside the picture; zeros where not valid.
      valid: The row is a proposal.
    """

    boxes: Float[Array, "P 4"]
    valid: Bool[Array, " P"]


def select(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    usable: Bool[Array, " N"],
    *,
    count: int,
    iou: float,
) -> Detections:
    """Non-maximum suppression, then the best `count`."""
    keep = box_nms(boxes, scores, usable, threshold=iou, limit=count)
    index, valid = _best(scores, keep, count)
    return Detections(
        jnp.where(valid[:, None], boxes[index], 0.0), jnp.where(valid, scores[index], 0.0), valid
    )


def propose(
    objectness: Float[Array, " A"],
    codes: Float[Array, "A 4"],
    anchors: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    size: Int[Array, " 2"],
    *,
    config: DetectorConfig,
) -> Proposals:
    """The region proposal network's best boxes after suppression (paper: 300, IoU .7).

    Args:
      objectness: Logits.
      codes: Boxes relative to the anchors.
      anchors: In canvas pixels.
      usable: Anchors on the picture.
      size: Rows and columns of the picture.
      config: Numbers and threshold.
    """
    index, valid = _best(objectness, usable, config.candidates)
    boxes = clip_boxes(decode_boxes(codes[index], anchors[index]), size)
    valid &= (boxes[:, 2:] > boxes[:, :2]).all(-1)
    found = select(boxes, objectness[index], valid, count=config.proposals, iou=config.proposal_iou)
    return Proposals(found.boxes, found.valid)


def detect(
    logits: Float[Array, "P 2"],
    codes: Float[Array, "P 4"],
    proposals: Proposals,
    size: Int[Array, " 2"],
    *,
    config: DetectorConfig,
) -> Detections:
    """People from the second stage's outputs (paper: box NMS at IoU .6).

    Args:
      logits: Of background and person.
      codes: Boxes relative to the proposals.
      proposals: The regions.
      size: Rows and columns of the picture.
      config: Numbers and thresholds.

    Returns:
      Boxes in canvas pixels, probabilities.
    """
    scores = jax.nn.softmax(logits)[:, 1]
    boxes = clip_boxes(decode_boxes(codes, proposals.boxes), size)
    usable = proposals.valid & (boxes[:, 2:] > boxes[:, :2]).all(-1) & (scores >= config.min_score)
    return select(boxes, scores, usable, count=config.detections, iou=config.box_iou)


def _best(
    scores: Float[Array, " N"], usable: Bool[Array, " N"], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Indices of the `count` highest scores, best first, ties by the lowest index."""
    some = min(count, len(scores))
    top, index = lax.top_k(jnp.where(usable, scores, -jnp.inf), some)
    rest = (0, count - some)
    return jnp.pad(index, rest), jnp.pad(top > -jnp.inf, rest)
