"""RoIAlign against the loop oracle and onnxruntime: values, gradients, borders."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.ops.roi import roi_align
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import onnx_ops
from tests.oracles import roi as oracle


def random_inputs(rng, n, size=(9, 7)):
    features = rng.normal(size=(*size, 3)).astype(np.float32)
    return features, rng.uniform(-12, 48, (n, 4)).astype(np.float32)  # any order of corners


@pytest.mark.parametrize(
    ("n", "size", "samples"),
    [(0, (7, 7), 2), (1, (1, 1), 1), (2, (2, 5), 3), (7, (7, 7), 2), (64, (3, 2), 2)],
)
def test_equals_the_oracle(n, size, samples):
    features, boxes = random_inputs(np.random.default_rng(n), n)
    options = {"output_size": size, "spatial_scale": 0.25, "sampling_ratio": samples}
    ours = jax.jit(partial(roi_align, **options))(features, boxes)
    assert ours.shape == (n, *size, 3)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, oracle.roi_align(features, boxes, **options), atol=1e-4)


@pytest.mark.parametrize("case", range(len(onnx_ops.ROI_ALIGN)))
def test_equals_onnxruntimes_numbers(case):
    size, scale, samples = onnx_ops.ROI_ALIGN[case]
    with np.load(onnx_ops.FIXTURE) as stored:
        ours = roi_align(
            stored["features"],
            stored["boxes"],
            output_size=size,
            spatial_scale=scale,
            sampling_ratio=samples,
        )
        np.testing.assert_allclose(ours, stored[f"roi_align_{case}"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(14, 14), (5, 3)])
def test_equals_onnxruntime(size):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    features, boxes = random_inputs(np.random.default_rng(0), 64, size=(38, 25))
    boxes *= 4
    options = {"output_size": size, "spatial_scale": 0.125, "sampling_ratio": 2}
    theirs = onnx_ops.roi_align(features, boxes, **options)
    np.testing.assert_allclose(roi_align(features, boxes, **options), theirs, atol=1e-4)


def test_by_hand():
    features = np.arange(4.0)[None, :, None] * np.ones((3, 1, 1))  # the value is the column
    align = partial(roi_align, features, spatial_scale=0.5, sampling_ratio=2)
    # Columns 1 to 3 of the cells' frame; its samples at 1.25 .. 2.75 are at 0.75 .. 2.25 here.
    cells = align(np.array([[2.0, 2.0, 6.0, 4.0]]), output_size=(1, 2))
    np.testing.assert_allclose(cells[0, 0, :, 0], [1.0, 2.0], atol=1e-6)
    whole = align(np.array([[0.0, 0.0, 8.0, 6.0]]), output_size=1)
    np.testing.assert_allclose(whole[0, 0, 0], [1.5], atol=1e-6)
    # The last of four columns goes on for a pixel: samples at 3.375, 3.625, 3.875; then 4.125 ..
    beyond = align(np.array([[7.5, 1.0, 11.5, 5.0]]), output_size=(1, 4))
    np.testing.assert_allclose(beyond[0, 0, :, 0], [3, 1.5, 0, 0], atol=1e-6)


def test_impossible_boxes_give_zeros_and_leave_the_others_alone():
    good = [2.0, 1.0, 6.0, 4.0]
    boxes = np.array([good, [np.nan, 0, 3, 3], [0, 0, np.inf, 3], [1e30, 0, 2e30, 3]], np.float32)
    features = np.ones((6, 6, 1), np.float32)
    cells = roi_align(features, boxes, output_size=2, spatial_scale=1.0, sampling_ratio=2)
    np.testing.assert_allclose(cells[0], 1, rtol=1e-6)
    assert not cells[1:].any()


def test_sizes_without_channels_or_pixels():
    boxes = np.ones((3, 4), np.float32)
    for shape in ((4, 5, 0), (0, 5, 2), (4, 0, 2)):
        cells = roi_align(
            np.ones(shape), boxes, output_size=(2, 3), spatial_scale=1.0, sampling_ratio=2
        )
        assert cells.shape == (3, 2, 3, shape[2])
        assert not cells.any()


@pytest.mark.parametrize("samples", [0, -1])
def test_adaptive_sampling_is_refused(samples):
    with pytest.raises(ValueError, match=f"sampling_ratio = {samples}: must be at least 1"):
        roi_align(
            np.ones((3, 3, 1)),
            np.ones((1, 4)),
            output_size=2,
            spatial_scale=1.0,
            sampling_ratio=samples,
        )


def test_gradients_equal_the_oracles_finite_differences():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(5, 4, 2)).astype(np.float32)
    boxes = np.array([[1.3, 2.1, 6.8, 9.2], [-2.3, 0.7, 3.1, 12.2]], np.float32)
    options = {"output_size": (3, 2), "spatial_scale": 0.5, "sampling_ratio": 2}
    weight = rng.normal(size=(2, 3, 2, 2)).astype(np.float32)

    def loss(features, boxes):
        return jnp.sum(weight * roi_align(features, boxes, **options))

    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(features, boxes)

    def slope(inputs, index, step=1e-4):
        ends = []
        for sign in (-1, 1):
            moved = [np.array(x, np.float64) for x in (features, boxes)]
            moved[inputs][index] += sign * step
            ends.append(np.sum(weight * oracle.roi_align(*moved, **options)))
        return (ends[1] - ends[0]) / (2 * step)

    for inputs, shape in enumerate((features.shape, boxes.shape)):
        for index in np.ndindex(shape):
            assert slopes[inputs][index] == pytest.approx(slope(inputs, index), abs=2e-3)


def test_contract():
    rng = np.random.default_rng(0)
    kernel = partial(roi_align, output_size=(3, 2), spatial_scale=0.25, sampling_ratio=2)
    check_contract(kernel, random_inputs(rng, 3), random_inputs(rng, 3))
