"""Resizing and cropping against the loop oracle, OpenCV, PyTorch and their own symmetries."""

from functools import partial

import cv2
import jax
import numpy as np
import pytest

from g_rmi.geometry import box_to_crop
from g_rmi.ops.image import crop_boxes, resize_align_corners
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import image as oracle

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
