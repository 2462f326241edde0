"""Resizing and cropping against the loop oracle, OpenCV, PyTorch and their own symmetries."""

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.geometry import box_to_crop
from g_rmi.ops import image as image_ops
from g_rmi.ops.image import crop_boxes, resize_align_corners, sample_grid, sample_points
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import image as oracle
from tests.oracles import onnx_ops

SHAPES = [
    ((5, 4), (33, 25)),
    ((5, 7), (13, 10)),
    ((6, 5), (4, 3)),
    ((1, 4), (3, 9)),
    ((4, 3), (1, 1)),
    ((1, 1), (2, 1)),
]


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_resize_equals_the_oracle(source, target):
    x = np.random.default_rng(0).normal(size=(*source, 3))
    size = {"height": target[0], "width": target[1]}
    ours = jax.jit(partial(resize_align_corners, **size))(x)
    np.testing.assert_allclose(ours, oracle.resize_align_corners(x, **size), atol=1e-5)


def test_resize_is_exact_on_constants_linears_and_mirrors():
    size = {"height": 33, "width": 25}
    rows, columns = np.mgrid[:5, :4]
    x = np.stack([np.full((5, 4), 0.7), 8 * rows, 8 * columns - 3 * 8 * rows], axis=-1)
    rows, columns = np.mgrid[:33, :25]
    expected = np.stack([np.full((33, 25), 0.7), rows, columns - 3 * rows], axis=-1)
    np.testing.assert_array_equal(resize_align_corners(x, **size), expected.astype(np.float32))
    noise = np.random.default_rng(0).normal(size=(5, 4, 6))
    mirrored = resize_align_corners(noise[:, ::-1], **size)
    np.testing.assert_allclose(mirrored[:, ::-1], resize_align_corners(noise, **size), atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 5, 4), (3, 2, 0)])
def test_empty_batches_of_channels(shape):
    n, h, c = shape
    assert crop_boxes(np.zeros((4, h, c)), np.zeros((n, 4)), height=3, width=2).shape == (
        n,
        3,
        2,
        c,
    )
    assert resize_align_corners(np.zeros((h, h, c)), height=3, width=2).shape == (3, 2, c)


@pytest.mark.parametrize(
    ("n", "size", "dtype"),
    [
        (1, (7, 5), np.uint8),
        (2, (1, 5), np.float32),
        (7, (4, 1), np.uint8),
        (7, (1, 1), np.float32),
        (64, (7, 5), np.float32),
    ],
)
def test_crops_equal_the_oracle(n, size, dtype):
    rng = np.random.default_rng(n)
    image = rng.integers(0, 255, (11, 9, 3)).astype(dtype)
    boxes = rng.uniform(-6, 16, (n, 4)).astype(np.float32)  # any order of corners, in and out
    size = {"height": size[0], "width": size[1]}
    ours = jax.jit(partial(crop_boxes, **size))(image, boxes)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, oracle.crop_boxes(image, boxes, **size), atol=2e-3)


def test_crops_fade_out_like_opencv():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 60, 3)).astype(np.float32)
    boxes = np.array([[3.2, 4.1, 50.3, 37.7], [-9, -7.5, 30, 33], [20, 10, 75, 52.5]], np.float32)
    ours = crop_boxes(image, boxes, height=33, width=25)
    for box, crop in zip(boxes, ours):
        matrix = box_to_crop(box, height=33, width=25)
        theirs = cv2.warpAffine(image, matrix, (25, 33), flags=cv2.INTER_LINEAR)
        # OpenCV rounds positions to 1/32 pixel.
        assert np.abs(crop - theirs).max() < 0.05 * 255
        assert np.abs(crop - theirs).mean() < 0.01 * 255


def test_impossible_boxes_give_zeros_and_leave_the_others_alone():
    image = np.ones((6, 6, 1), np.float32)
    good = [1.0, 1.0, 4.0, 4.0]
    boxes = np.array(
        [good, [np.nan, 0, 3, 3], [0, 0, np.inf, 3], [1e30, 0, 2e30, 3], [-1e9, 0, 1e9, 3]]
    )
    crops = np.asarray(crop_boxes(image, boxes, height=4, width=4))
    np.testing.assert_allclose(crops[0], 1, rtol=1e-6)
    assert not crops[1:].any()


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64])
def test_grids_equal_the_oracle(n):
    rng = np.random.default_rng(n)
    image = rng.normal(size=(6, 5, 2)).astype(np.float32)
    rows = rng.uniform(-2, 7, (n, 4)).astype(np.float32)
    columns = rng.uniform(-2, 7, (n, 3)).astype(np.float32)
    columns[::2, 0] = np.round(columns[::2, 0])
    ours = jax.jit(sample_grid)(image, rows, columns)
    assert ours.shape == (n, 4, 3, 2)
    for grid, ys, xs in zip(ours, rows, columns):
        theirs = [[oracle.bilinear(image, x, y) for x in xs] for y in ys]
        np.testing.assert_allclose(grid, theirs, atol=1e-5)
    ys, xs = np.array([[np.nan, 1.0]]), np.array([[2.0, np.inf]])
    single = sample_grid(image, ys, xs)[0]
    np.testing.assert_allclose(single[1, 0], image[1, 2], atol=1e-6)
    assert not single[0].any()
    assert not single[:, 1].any()
    assert not sample_grid(np.ones((0, 5, 2)), rows, columns).any()


@pytest.mark.parametrize("shape", [(), (7,), (0,), (3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_points_equal_the_oracle(shape, dtype):
    rng = np.random.default_rng(len(shape))
    image = rng.uniform(0, 255, (6, 5, 2)).astype(dtype)
    points = rng.uniform(-2, 7, (*shape, 2)).astype(np.float32)
    ours = jax.jit(sample_points)(image, points)
    assert ours.shape == (*shape, 2)
    theirs = [oracle.bilinear(image, x, y) for x, y in points.reshape(-1, 2)]
    np.testing.assert_allclose(ours, np.reshape(theirs, ours.shape), atol=1e-3)
    assert not sample_points(image, np.array([[np.nan, 1], [2, np.inf], [-1, 2]])).any()
    assert not sample_points(np.ones((0, 5, 2)), points).any()


@pytest.mark.parametrize("together", [1, 32])
def test_all_platforms_sample_the_same(together, monkeypatch):
    # What other platforms than the CPU run, on the CPU.
    monkeypatch.setattr(image_ops, "_TOGETHER", together)
    monkeypatch.setattr(
        image_ops.lax, "platform_dependent", lambda *args, cpu, default: default(*args)
    )
    rng = np.random.default_rng(0)
    image = rng.normal(size=(11, 9, 3)).astype(np.float32)
    boxes = rng.uniform(-6, 16, (40, 4)).astype(np.float32)
    ours = jax.jit(partial(crop_boxes, height=7, width=5))(image, boxes)
    theirs = oracle.crop_boxes(image, boxes, height=7, width=5)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("case", range(len(onnx_ops.CROPS)))
def test_crops_equal_onnxruntimes_numbers(case):
    height, width = onnx_ops.CROPS[case]
    with np.load(onnx_ops.FIXTURE) as stored:
        ours = crop_boxes(stored["features"], stored["inside"], height=height, width=width)
        np.testing.assert_allclose(ours, stored[f"crop_{case}"], atol=1e-4)


@pytest.mark.slow
def test_crops_equal_onnxruntime():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    image = rng.normal(size=(38, 57, 5)).astype(np.float32)
    boxes = (rng.uniform(size=(64, 4)) * [56, 37, 56, 37]).astype(np.float32)
    theirs = onnx_ops.crop_boxes(image, boxes, height=14, width=14)
    np.testing.assert_allclose(crop_boxes(image, boxes, height=14, width=14), theirs, atol=1e-4)


@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_gradients_of_crops_equal_the_oracles_finite_differences(platform, monkeypatch):
    monkeypatch.setattr(
        image_ops.lax, "platform_dependent", lambda *args, **run: run[platform](*args)
    )
    rng = np.random.default_rng(1)
    image = rng.normal(size=(5, 4, 2)).astype(np.float32)
    boxes = np.array([[0.3, 1.1, 2.8, 3.2], [-1.3, 0.7, 1.4, 6.2]], np.float32)
    weight = rng.normal(size=(2, 4, 3, 2)).astype(np.float32)
    size = {"height": 4, "width": 3}

    def loss(image, boxes):
        return jnp.sum(weight * crop_boxes(image, boxes, **size))

    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(image, boxes)

    def slope(inputs, index, step=1e-4):
        ends = []
        for sign in (-1, 1):
            moved = [np.array(x, np.float64) for x in (image, boxes)]
            moved[inputs][index] += sign * step
            ends.append(np.sum(weight * oracle.crop_boxes(*moved, **size)))
        return (ends[1] - ends[0]) / (2 * step)

    for inputs, shape in enumerate((image.shape, boxes.shape)):
        for index in np.ndindex(shape):
            assert slopes[inputs][index] == pytest.approx(slope(inputs, index), abs=2e-3)


def test_boxes_have_gradients_in_photographs_too():
    image = np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(np.uint8)
    boxes = np.array([[0.3, 1.1, 5.8, 6.2]], np.float32)
    slope = jax.grad(lambda boxes, image: crop_boxes(image, boxes, height=3, width=4).sum())
    wanted = slope(boxes, image.astype(np.float32))
    assert np.abs(wanted).min() > 1
    np.testing.assert_allclose(slope(boxes, image), wanted, rtol=1e-5)


def test_contract():
    rng = np.random.default_rng(0)
    maps = [(rng.normal(size=(5, 4, 2)).astype(np.float32),) for _ in range(2)]
    check_contract(partial(resize_align_corners, height=9, width=7), *maps)
    cases = [
        (
            rng.integers(0, 255, (9, 8, 3)).astype(np.uint8),
            rng.uniform(-2, 10, (3, 4)).astype(np.float32),
        )
        for _ in range(2)
    ]
    check_contract(partial(crop_boxes, height=5, width=4), *cases)
    points = [(image, boxes.reshape(6, 2)) for image, boxes in cases]
    check_contract(sample_points, *points)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [s for s in SHAPES if 1 not in s[1]])
def test_resize_equals_pytorch(source, target):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(*source, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(x).permute(2, 0, 1)[None], target, mode="bilinear", align_corners=True
    )
    theirs = theirs[0].permute(1, 2, 0).numpy()
    ours = resize_align_corners(x, height=target[0], width=target[1])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
