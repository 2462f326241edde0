"""What Faster R-CNN alone does; what all detectors promise is in test_detectors.py."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.detector.faster_rcnn.network import crop_regions
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.detector.proposals import Proposals
from g_rmi.detector.targets import jitter_boxes
from g_rmi.ops.boxes import decode_boxes
from g_rmi.types import DetectionBatch
from tests.networks import DETECTOR

CONFIG = dataclasses.replace(DETECTOR.model, canvas=(64, 96), rpn_channels=16, rpn_samples=32)


@pytest.mark.parametrize("roi", ["crop", "align"])
def test_regions_show_what_lies_in_the_box(roi):
    config = dataclasses.replace(CONFIG, roi=roi, roi_size=8)
    # Features that say where they are: a box's cells must grow from its corner to its corner.
    y, x = np.mgrid[:20, :30].astype(np.float32) * config.output_stride
    boxes = jnp.array([[64.0, 32.0, 320.0, 224.0]])
    regions = crop_regions(jnp.asarray(np.stack([x, y], -1)), boxes, config=config)[0]
    assert regions.shape == (4, 4, 2)
    cell = np.array([64.0, 48.0])
    expected = np.array([64.0, 32.0]) + (np.mgrid[:4, :4][::-1].transpose(1, 2, 0) + 0.5) * cell
    error = np.abs(np.asarray(regions) - expected)
    # Max-pooling of a slope takes the far sample of each pair.
    assert error.max() < (1e-3 if roi == "align" else cell.max() / 2 + 1)


@pytest.mark.parametrize("roi", ["crop", "align"])
def test_regions_without_area_are_finite(roi):
    config = dataclasses.replace(CONFIG, roi=roi, roi_size=4)
    features = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    boxes = [[20, 30, 20, 30], [0, 0, 0, 0], [-90, -90, -80, -80], [500, 0, 600, 40]]
    regions = crop_regions(jnp.asarray(features), jnp.asarray(boxes, jnp.float32), config=config)
    assert regions.shape == (4, 2, 2, 2)
    assert np.isfinite(regions).all()
    assert not np.any(regions[2:])  # beside the picture


def test_jitter_moves_and_stretches_boxes():
    boxes = jnp.tile(jnp.array([[10.0, 20.0, 30.0, 80.0]]), (4_000, 1))
    moved = np.asarray(jitter_boxes(jax.random.key(0), boxes, deviation=0.1))
    centre, side = (moved[:, 2:] + moved[:, :2]) / 2, moved[:, 2:] - moved[:, :2]
    shift, stretch = (centre - [20, 50]) / [20, 60], np.log(side / [20, 60])
    for noise in (shift, stretch):
        np.testing.assert_allclose(noise.mean(0), 0, atol=0.01)
        np.testing.assert_allclose(noise.std(0), 0.1, atol=0.01)
    assert np.isfinite(jitter_boxes(jax.random.key(0), jnp.zeros((3, 4)), deviation=9.0)).all()


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_jittered_boxes_teach_a_correction(deviation):
    """Without proposals only the annotated boxes are left: exact ones ask for no correction."""
    task = FasterRCNN(dataclasses.replace(CONFIG, box_jitter=deviation, box_samples=8))
    boxes = jnp.array([[10.0, 10, 30, 50], [40, 5, 60, 60], [0, 0, 0, 0]])
    person = jnp.array([True, True, False])
    nobody = Proposals(jnp.zeros((4, 4)), jnp.zeros(4, bool))
    image, size = jnp.zeros((64, 96, 3), jnp.uint8), jnp.array([64, 90])
    truth = DetectionBatch(image, size, boxes, person, jnp.zeros(3, bool), jnp.ones(()))
    regions, targets = task._box_targets(jax.random.key(0), nobody, truth)
    assert targets.person.sum() == 2
    deltas, regions = np.asarray(targets.deltas[:2]), np.asarray(regions[:2])
    decoded = np.asarray(decode_boxes(deltas, regions))
    np.testing.assert_allclose(decoded[np.argsort(decoded[:, 0])], boxes[:2], atol=1e-3)
    assert (np.abs(deltas) > 0.01).any() == (deviation > 0)
