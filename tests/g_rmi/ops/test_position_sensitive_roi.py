"""Position-sensitive pooling against a loop, onnxruntime, RoIAlign, and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.ops.roi import position_sensitive_roi, roi_align
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import onnx_ops
from tests.oracles import roi as oracle

OPTIONS = {"spatial_scale": 0.25, "sampling_ratio": 2}


def random_inputs(rng, n, bins, channels=2):
    maps = rng.normal(size=(9, 7, bins * bins * channels)).astype(np.float32)
    return maps, rng.uniform(-12, 48, (n, 4)).astype(np.float32)  # any order of corners


@pytest.mark.parametrize(("n", "bins"), [(0, 3), (1, 1), (2, 2), (7, 3), (64, 2)])
def test_equals_the_oracle(n, bins):
    maps, boxes = random_inputs(np.random.default_rng(n), n, bins)
    ours = jax.jit(partial(position_sensitive_roi, bins=bins, **OPTIONS))(maps, boxes)
    assert ours.shape == (n, bins, bins, 2)
    assert ours.dtype == jnp.float32
    theirs = oracle.position_sensitive_roi(maps, boxes, bins=bins, **OPTIONS)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("case", range(len(onnx_ops.POSITION_SENSITIVE)))
def test_equals_onnxruntimes_numbers(case):
    bins, classes, scale, samples = onnx_ops.POSITION_SENSITIVE[case]
    with np.load(onnx_ops.FIXTURE) as stored:
        boxes, maps, theirs = (stored[n] for n in ("boxes", f"maps_{case}", f"cells_{case}"))
    assert theirs.shape == (len(boxes), bins, bins, classes)
    options = {"bins": bins, "spatial_scale": scale, "sampling_ratio": samples}
    np.testing.assert_allclose(position_sensitive_roi(maps, boxes, **options), theirs, atol=1e-4)


def test_equal_groups_are_roi_align():
    maps, boxes = random_inputs(np.random.default_rng(0), 20, 1, channels=3)
    ours = position_sensitive_roi(np.tile(maps, 16), boxes, bins=4, **OPTIONS)
    theirs = roi_align(maps, boxes, output_size=4, **OPTIONS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_channels_lie_bin_by_bin_then_class_by_class():
    """Constant maps: a cell shows the number of its own channel, row by row, classes innermost."""
    maps = np.broadcast_to(np.arange(12.0), (6, 6, 12))
    cells = position_sensitive_roi(
        maps, np.array([[1.0, 1, 5, 5]]), bins=2, spatial_scale=1.0, sampling_ratio=3
    )
    by_hand = [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    np.testing.assert_allclose(cells[0], by_hand, rtol=1e-6)


def test_impossible_boxes_give_zeros_and_leave_the_others_alone():
    boxes = np.array([[2.0, 1, 6, 4], [np.nan, 0, 3, 3], [1e30, 0, 2e30, 3]], np.float32)
    pool = partial(position_sensitive_roi, bins=2, spatial_scale=1.0, sampling_ratio=2)
    cells = pool(np.ones((6, 6, 4), np.float32), boxes)
    np.testing.assert_allclose(cells[0], 1, rtol=1e-6)
    assert not cells[1:].any()


def test_the_gradient_reaches_only_the_cells_own_group():
    maps, _ = random_inputs(np.random.default_rng(1), 0, 2, channels=1)
    box = np.array([[4.0, 4, 20, 24]], np.float32)

    def cell(maps):
        return position_sensitive_roi(maps, box, bins=2, **OPTIONS)[0, 1, 0, 0]

    gradient = jax.grad(cell)(maps).sum((0, 1))
    np.testing.assert_allclose(gradient, [0, 0, 1, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"bins": 0}, "bins = 0"), ({"bins": 3}, "8 channels"), ({"sampling_ratio": 0}, "sampling")],
)
def test_impossible_options(options, text):
    options = {"bins": 2, **OPTIONS, **options}
    with pytest.raises(ValueError, match=text):
        position_sensitive_roi(np.zeros((4, 4, 8)), np.zeros((1, 4)), **options)


def test_contract():
    rng = np.random.default_rng(3)
    kernel = partial(position_sensitive_roi, bins=2, **OPTIONS)
    check_contract(kernel, random_inputs(rng, 5, 2), random_inputs(rng, 5, 2))
