"""Anchors against the loop oracle and by hand."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.ops.anchors import anchor_boxes, default_boxes
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import anchors as oracle

PAPER = FasterRCNNConfig()
SHAPES = {
    "base": PAPER.anchor_base,
    "scales": PAPER.anchor_scales,
    "ratios": PAPER.anchor_ratios,
}


@pytest.mark.parametrize(("height", "width"), [(0, 3), (1, 1), (2, 1), (7, 64)])
def test_equals_the_oracle(height, width):
    grid = {"height": height, "width": width, "stride": 8}
    ours = anchor_boxes(**grid, **SHAPES)
    assert ours.shape == (height * width * 12, 4)
    assert ours.dtype == np.float32
    theirs = np.reshape(oracle.anchor_boxes(**grid, **SHAPES), (-1, 4))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_by_hand():
    anchors = anchor_boxes(
        height=2, width=2, stride=16, base=8.0, scales=(1.0, 3.0), ratios=(0.25, 1.0)
    )
    around_zero = np.array(  # ratio .25 is four times as wide as high
        [[-8, -2, 8, 2], [-24, -6, 24, 6], [-4, -4, 4, 4], [-12, -12, 12, 12]]
    )
    for cell, (x, y) in enumerate([(0, 0), (16, 0), (0, 16), (16, 16)]):
        expected = around_zero + np.array([x, y, x, y])
        np.testing.assert_array_equal(anchors[4 * cell : 4 * cell + 4], expected)


def test_contract():
    kernel = partial(anchor_boxes, height=2, width=3, stride=8, **SHAPES)
    boxes = np.zeros((72, 4), np.float32)
    check_contract(lambda moved: kernel() + moved, (boxes,), (boxes + 1,), coarse=False)
    traced = jax.make_jaxpr(kernel)()
    assert sum(np.size(constant) for constant in traced.consts) < 100  # made on the device


SIDES = np.array([[30.0, 30.0], [20.0, 40.0]])


@pytest.mark.parametrize(("height", "width"), [(0, 3), (1, 1), (2, 1), (7, 12)])
@pytest.mark.parametrize("size", [(1, 1), (16, 17), (50, 91)])
def test_default_boxes_equal_the_oracle(height, width, size):
    grid = {"height": height, "width": width, "stride": 8, "sides": SIDES}
    boxes, inside = default_boxes(np.array(size), **grid)
    assert boxes.dtype == np.float32
    theirs, theirs_inside = oracle.default_boxes(size, **grid)
    np.testing.assert_allclose(boxes, np.reshape(theirs, (-1, 4)), atol=1e-4)
    np.testing.assert_array_equal(inside, np.array(theirs_inside, bool))


def test_default_boxes_by_hand():
    boxes, inside = default_boxes(np.array([24, 30]), height=2, width=3, stride=16, sides=SIDES)
    assert inside.tolist() == [True] * 4 + [False] * 2 + [True] * 4 + [False] * 2
    first = [[7.5 - 15, 6 - 15, 7.5 + 15, 6 + 15], [7.5 - 20, 6 - 10, 7.5 + 20, 6 + 10]]
    np.testing.assert_array_equal(boxes[:2], first)
    np.testing.assert_array_equal(boxes[8:10], np.add(first, [15, 12, 15, 12]))


def test_default_boxes_keep_the_contract():
    kernel = partial(default_boxes, height=3, width=4, stride=8, sides=SIDES)
    sizes = [(np.array(size, np.int32),) for size in ([20, 25], [9, 32])]
    check_contract(kernel, *sizes)
