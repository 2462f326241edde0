"""What anchors and proposals are to learn: matching, then a sample of fixed size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from g_rmi.ops.boxes import decode_boxes, encode_boxes, intersection_over_area, iou
from g_rmi.ops.matching import match
from g_rmi.ops.sampling import sample
from g_rmi.types import DetectionBatch

# A candidate with this share of its area in a region to ignore is not taken for background.
_IGNORED_SHARE = 0.5


class Targets(NamedTuple):
    """A sample of S candidates."""

    index: Int[Array, " S"]
    valid: Bool[Array, " S"]  # the row is used
    person: Bool[Array, " S"]  # else background
    deltas: Float[Array, "S 4"]  # of that person's box; zero for background


def sample_targets(
    key: PRNGKeyArray,
    candidates: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    truth: DetectionBatch,
    *,
    positive: float,
    negative: float,
    force: bool,
    size: int,
    positive_share: float,
    even: bool = False,
) -> Targets:
    """Labels candidates (anchors or proposals, canvas pixels) and draws those that enter the loss.

    Args:
      key: Of the draw.
      candidates: The boxes that learn.
      usable: Those that take part.
      truth: One picture's.
      positive: IoU with a person from which a candidate is positive.
      negative: IoU with every person below which it is background, unless half of it lies in a
        region to ignore.
      force: Each person's best candidates are positive whatever their IoU.
      size: S.
      positive_share: Largest share of people in the sample.
      even: Each person has the same chance of a place in the sample, however many candidates meet
        it; else each of these candidates has.
    """
    boxes, usable = truth.boxes, usable & (candidates[:, 2:] > candidates[:, :2]).all(-1)
    overlap = jnp.where(usable[None], iou(boxes, candidates), 0.0)
    found = match(overlap, truth.person, positive=positive, negative=negative, force=force)
    inside = jnp.where(truth.ignore[None], intersection_over_area(candidates, boxes), 0.0)
    unknown = (inside >= _IGNORED_SHARE).any(1)
    positives = found.positive & usable
    share = None
    if even:
        count = jnp.zeros(len(boxes), jnp.int32).at[found.index].add(positives.astype(jnp.int32))
        share = 1 / jnp.maximum(count, 1)[found.index].astype(jnp.float32)
    negatives = found.negative & ~unknown & usable
    options = {"size": size, "positive_share": positive_share, "share": share}
    index, valid = sample(key, positives, negatives, **options)
    person = found.positive[index] & valid
    deltas = encode_boxes(boxes[found.index[index]], candidates[index])
    return Targets(index, valid, person, jnp.where(person[:, None], deltas, 0.0))


def jitter_boxes(
    key: PRNGKeyArray, boxes: Float[Array, "N 4"], *, deviation: float
) -> Float[Array, "N 4"]:
    """Moves and stretches boxes at random: from exact ones no correction is learned.

    `deviation` is the standard deviation of the centre in sides of the box, and of the logarithm of
    the sides.
    """
    deltas = deviation * jax.random.normal(key, boxes.shape)
    return decode_boxes(deltas, boxes, scales=(1.0, 1.0, 1.0, 1.0))
