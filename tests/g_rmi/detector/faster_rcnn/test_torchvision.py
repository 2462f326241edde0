"""The detector's mathematics against numbers that torchvision's detection code gave once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.detector.detector import Candidates, select
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.losses import class_loss, localisation_loss, objectness_loss
from g_rmi.detector.proposals import propose
from g_rmi.detector.targets import sample_targets
from g_rmi.detector.two_stage.task import person_scores
from g_rmi.ops.anchors import anchor_boxes
from g_rmi.ops.boxes import decode_boxes, iou
from g_rmi.ops.matching import match
from g_rmi.ops.sampling import sample
from g_rmi.types import DetectionBatch
from tests.oracles.torchvision_detection import (
    CANVAS,
    COUNTS,
    FIXTURE,
    OPTIONS,
    PEOPLE,
    PICTURE,
    RATIOS,
    SAMPLES,
    SCALES,
    STRIDE,
)

# Torchvision leaves low scores out here, we when people are looked for.
LEAST = OPTIONS["min_score"]
CONFIG = FasterRCNNConfig(**{name: x for name, x in OPTIONS.items() if name != "min_score"})
ROWS = 8  # of annotated boxes; the rest is padding
# torchvision divides the Huber loss by its delta.
DELTA = 1 / 9

targets_of = jax.jit(
    partial(sample_targets, size=SAMPLES, positive_share=0.5),
    static_argnames=("positive", "negative", "force"),
)
huber_loss = jax.jit(partial(localisation_loss, delta=DELTA))


@pytest.fixture(params=range(len(PEOPLE)))
def theirs(request):
    """Everything about one picture."""
    with np.load(FIXTURE) as arrays:
        start = f"{request.param}/"
        return {k.removeprefix(start): arrays[k] for k in arrays if k.startswith(start)}


def targets(candidates, boxes, **thresholds):
    """Everybody's targets, by rising index: valid rows only."""
    everybody = np.ones(len(candidates), bool)
    person = np.arange(ROWS) < len(boxes)
    padded = np.zeros((ROWS, 4), np.float32)
    padded[: len(boxes)] = boxes
    image, size = np.zeros((*CANVAS, 3), np.uint8), np.array(PICTURE, np.int32)
    truth = DetectionBatch(image, size, padded, person, np.zeros(ROWS, bool), np.ones(()))
    return targets_of(jax.random.key(0), candidates, everybody, truth, **thresholds)


def deltas_by_index(found):
    """The deltas of people in the order of the candidates."""
    person = np.asarray(found.person)
    return np.asarray(found.deltas)[person][np.argsort(np.asarray(found.index)[person])]


def test_anchors(theirs):
    ours = anchor_boxes(
        height=CANVAS[0] // STRIDE,
        width=CANVAS[1] // STRIDE,
        stride=STRIDE,
        base=16.0,
        scales=[scale / 16 for scale in SCALES],
        ratios=RATIOS,
    )
    np.testing.assert_array_equal(ours, theirs["anchors"])


def test_decoded_deltas(theirs):
    ours = decode_boxes(theirs["codes"], theirs["anchors"])
    np.testing.assert_allclose(ours[::16], theirs["decoded"], atol=1e-4)


def test_matches(theirs):
    overlap = iou(theirs["boxes"], theirs["anchors"])
    thresholds = {"positive": CONFIG.rpn_positive, "negative": CONFIG.rpn_negative}
    ours = match(overlap, np.ones(len(theirs["boxes"]), bool), **thresholds, force=True)
    np.testing.assert_array_equal(ours.positive, theirs["labels"] == 1)
    np.testing.assert_array_equal(ours.negative, theirs["labels"] == 0)


def test_sampled_counts():
    with np.load(FIXTURE) as arrays:
        counts = arrays["counts"]
    for (positives, negatives, size, share), drawn in zip(COUNTS, counts):
        label = np.repeat([1, 0, -1], [positives, negatives, 7])
        index, valid = sample(
            jax.random.key(0), label == 1, label == 0, size=size, positive_share=share
        )
        chosen = label[np.asarray(index)[np.asarray(valid)]]
        np.testing.assert_array_equal([np.sum(chosen == 1), np.sum(chosen == 0)], drawn)


def used(targets):
    """Torchvision divides by the rows in use, we by all rows of the sample."""
    return np.mean(np.asarray(targets.valid))


def test_targets_and_losses_of_anchors(theirs):
    found = targets(
        theirs["anchors"],
        theirs["boxes"],
        positive=CONFIG.rpn_positive,
        negative=CONFIG.rpn_negative,
        force=True,
    )
    assert np.sum(found.valid) == np.sum(theirs["labels"] >= 0)
    np.testing.assert_allclose(deltas_by_index(found), theirs["target_codes"], atol=1e-4)
    objectness = objectness_loss(jnp.asarray(theirs["objectness"])[found.index], found)
    assert objectness == pytest.approx(used(found) * theirs["objectness_loss"], rel=1e-5)
    boxes = huber_loss(jnp.asarray(theirs["codes"])[found.index], found) / DELTA
    assert boxes == pytest.approx(used(found) * theirs["proposal_loss"], rel=1e-5)


def test_targets_and_losses_of_regions(theirs):
    found = targets(
        theirs["regions"],
        theirs["boxes"],
        positive=CONFIG.box_positive,
        negative=CONFIG.box_positive,
        force=False,
    )
    valid = np.asarray(found.valid)
    assert valid.sum() == len(theirs["regions"])
    labels = np.zeros(len(theirs["regions"]), bool)
    labels[np.asarray(found.index)[valid]] = np.asarray(found.person)[valid]
    np.testing.assert_array_equal(labels, theirs["box_labels"] == 1)
    np.testing.assert_allclose(deltas_by_index(found), theirs["box_target_codes"], atol=1e-4)
    classes = class_loss(jnp.asarray(theirs["box_logits"])[found.index], found)
    assert classes == pytest.approx(used(found) * theirs["class_loss"], rel=1e-5)
    boxes = huber_loss(jnp.asarray(theirs["box_codes"])[found.index], found) / DELTA
    assert boxes == pytest.approx(used(found) * theirs["box_loss"], rel=1e-5)


def test_proposals(theirs):
    everybody = jnp.ones(len(theirs["anchors"]), bool)
    given = [jnp.asarray(theirs[k]) for k in ("objectness", "codes", "anchors")]
    ours = propose(*given, everybody, jnp.asarray(PICTURE), config=CONFIG)
    count = len(theirs["proposals"])
    np.testing.assert_array_equal(ours.valid, np.arange(CONFIG.proposals) < count)
    np.testing.assert_allclose(ours.boxes[:count], theirs["proposals"], atol=1e-4)
    assert not np.any(ours.boxes[count:])


def test_detections(theirs):
    regions = jnp.asarray(theirs["regions"])
    logits, deltas = (jnp.asarray(theirs[k]) for k in ("box_logits", "box_codes"))
    seen = Candidates(person_scores(logits), deltas, regions, jnp.ones(len(regions), bool))
    ours = select(seen, jnp.asarray(PICTURE), count=CONFIG.detections, iou=CONFIG.box_nms_iou)
    count = len(theirs["scores"])
    np.testing.assert_array_equal(ours.scores >= LEAST, np.arange(CONFIG.detections) < count)
    np.testing.assert_allclose(ours.scores[:count], theirs["scores"], atol=1e-6)
    np.testing.assert_allclose(ours.boxes[:count], theirs["detections"], atol=1e-4)
    assert not np.any(ours.boxes[~np.asarray(ours.valid)])
    assert not np.any(ours.scores[~np.asarray(ours.valid)])
