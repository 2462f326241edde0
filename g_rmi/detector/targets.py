"""What anchors and proposals are to learn: matching, then a sample of fixed size."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from g_rmi.detector.detector import best
from g_rmi.ops.boxes import clip_boxes, decode_boxes, encode_boxes, intersection_over_area, iou
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
    classes: Int[Array, " S"] | None = None  # that person's, where there are several


class Labels(NamedTuple):
    """What each of A candidates learns; those neither positive nor negative teach nothing."""

    index: Int[Array, " A"]  # of the person it meets
    positive: Bool[Array, " A"]
    negative: Bool[Array, " A"]


def label(
    candidates: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    truth: DetectionBatch,
    *,
    positive: float,
    negative: float,
    force: bool = False,
    claim: bool = False,
    window: Int[Array, "2"] | None = None,
) -> Labels:
    """Labels candidates (anchors or proposals, canvas pixels).

    Args:
      candidates: The boxes that learn; those without area do not.
      usable: Those that take part.
      truth: One picture's.
      positive: IoU with a person from which a candidate is positive.
      negative: IoU with every person below which it is background, unless half of it lies in a
        region to ignore.
      force: As `claim`, see `g_rmi.ops.matching.match`.
      claim: Likewise.
      window: Rows and columns in which the share in regions to ignore is taken, for anchors that
        lie mostly beside the picture; None takes that of all of a candidate.
    """
    boxes, usable = truth.boxes, usable & (candidates[:, 2:] > candidates[:, :2]).all(-1)
    overlap = jnp.where(usable[None], iou(boxes, candidates), 0.0)
    options = {"positive": positive, "negative": negative, "force": force, "claim": claim}
    found = match(overlap, truth.person, **options)
    shown = candidates if window is None else clip_boxes(candidates, window)
    inside = jnp.where(truth.ignore[None], intersection_over_area(shown, boxes), 0.0)
    unknown = (inside >= _IGNORED_SHARE).any(1)
    return Labels(found.index, found.positive & usable, found.negative & ~unknown & usable)


def all_targets(labels: Labels, candidates: Float[Array, "A 4"], truth: DetectionBatch) -> Targets:
    """What every candidate is to learn, in the candidates' order."""
    valid = labels.positive | labels.negative
    return _targets(labels, jnp.arange(len(candidates)), valid, candidates, truth)


def sample_targets(
    key: PRNGKeyArray,
    candidates: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    truth: DetectionBatch,
    *,
    size: int,
    positive_share: float,
    even: bool = False,
    **options: Any,
) -> Targets:
    """Labels candidates and draws those that enter the loss.

    Args:
      key: Of the draw.
      candidates: The boxes that learn.
      usable: Those that take part.
      truth: One picture's.
      size: S.
      positive_share: Largest share of people in the sample.
      even: Each person has the same chance of a place in the sample, however many candidates meet
        it; else each of these candidates has.
      options: Of `label`.
    """
    labels = label(candidates, usable, truth, **options)
    share = None
    if even:
        count = jnp.zeros(len(truth.boxes), jnp.int32)
        count = count.at[labels.index].add(labels.positive.astype(jnp.int32))
        share = 1 / jnp.maximum(count, 1)[labels.index].astype(jnp.float32)
    drawn = {"size": size, "positive_share": positive_share, "share": share}
    index, valid = sample(key, labels.positive, labels.negative, **drawn)
    return _targets(labels, index, valid, candidates, truth)


def _targets(labels, index, valid, candidates, truth) -> Targets:
    person = labels.positive[index] & valid
    deltas = encode_boxes(truth.boxes[labels.index[index]], candidates[index])
    classes = None if truth.classes is None else truth.classes[labels.index[index]]
    return Targets(index, valid, person, jnp.where(person[:, None], deltas, 0.0), classes)


def hardest(
    losses: Float[Array, " S"], valid: Bool[Array, " S"], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Rows with the highest losses, ties by the lowest index; which of them count.

    A loss that is not a number is the highest: left out, it would hide that training went wrong.
    """
    return best(jnp.where(jnp.isnan(losses), jnp.inf, losses), valid, count)


def jitter_boxes(
    key: PRNGKeyArray, boxes: Float[Array, "N 4"], *, deviation: float
) -> Float[Array, "N 4"]:
    """Moves and stretches boxes at random: from exact ones no correction is learned.

    `deviation` is the standard deviation of the centre in sides of the box, and of the logarithm of
    the sides.
    """
    deltas = deviation * jax.random.normal(key, boxes.shape)
    return decode_boxes(deltas, boxes, scales=(1.0, 1.0, 1.0, 1.0))
