"""Overlaps, deltas and clipping against the loop oracles and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.geometry import pose_box
from g_rmi.ops import boxes as kernels
from g_rmi.ops.boxes import (
    clip_boxes,
    decode_boxes,
    encode_boxes,
    extend_boxes,
    intersection_over_area,
    iou,
)
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import boxes as oracle

encode = jax.jit(encode_boxes, static_argnames="scales")
decode = jax.jit(decode_boxes, static_argnames="scales")


def test_extended_boxes_are_those_of_the_host():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([random_boxes(rng, 7), [[3, 4, 3, 4], [0, 0, 9, 0]]]).astype(np.float32)
    for aspect, scale in ((353 / 257, 1.25), (1.0, 1.0)):
        ours = jax.jit(lambda b, a=aspect, s=scale: extend_boxes(b, aspect=a, scale=s))(boxes)
        np.testing.assert_allclose(ours, pose_box(boxes, aspect=aspect, scale=scale), atol=1e-4)
    check_contract(
        lambda b: extend_boxes(b, aspect=1.5, scale=1.25),
        (random_boxes(rng, 7),),
        (random_boxes(rng, 7),),
    )


def random_boxes(rng, n, size=20.0):
    corners = rng.uniform(0, size, (n, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


@pytest.mark.parametrize("name", ["iou", "intersection_over_area"])
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 7), (1, 2), (2, 1), (7, 0), (7, 64), (64, 7)])
def test_overlaps_equal_the_oracle(name, n, m):
    rng = np.random.default_rng(10 * n + m)
    a, b = random_boxes(rng, n), random_boxes(rng, m)
    ours = jax.jit(getattr(kernels, name))(a, b)
    np.testing.assert_allclose(ours, getattr(oracle, name)(a, b), atol=1e-6)


def test_overlaps_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 5], [4, 4, 1, 1], [0, 0, np.nan, 1]], np.float32)
    b = np.array([[1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 2, 2], [0, 0, 0, 5]], np.float32)
    expected = [[1 / 7, 0, 1, 0], [0] * 4, [0] * 4, [0] * 4]  # touching, empty, inverted, NaN: 0
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-7)
    expected[0][0] = 1 / 4
    np.testing.assert_allclose(intersection_over_area(a, b), expected, atol=1e-7)
    everything = np.array([[-9, -9, 9, 9]])
    np.testing.assert_array_equal(intersection_over_area(a, everything), [[1], [0], [0], [0]])


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("scales", [(10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)])
def test_deltas_equal_the_oracle(n, scales):
    rng = np.random.default_rng(n)
    boxes, anchors = random_boxes(rng, n), random_boxes(rng, n)
    deltas = encode(boxes, anchors, scales=scales)
    theirs = oracle.encode_boxes(boxes, anchors, scales=scales)
    np.testing.assert_allclose(deltas, theirs, rtol=1e-4, atol=1e-4)
    deltas = rng.normal(scale=8, size=(n, 4)).astype(np.float32)
    decoded = decode(deltas, anchors, scales=scales)
    theirs = oracle.decode_boxes(deltas, anchors, scales=scales)
    np.testing.assert_allclose(decoded, theirs, rtol=1e-4, atol=1e-4)


def test_deltas_by_hand():
    anchor = np.array([[0.0, 0.0, 10.0, 20.0]])  # centre (5, 10)
    box = np.array([[4.0, 2.0, 10.0, 10.0]])  # centre (7, 6)
    expected = [[10 * 0.2, 10 * -0.2, 5 * np.log(0.6), 5 * np.log(0.4)]]
    np.testing.assert_allclose(encode_boxes(box, anchor), expected, rtol=1e-6)
    np.testing.assert_allclose(decode_boxes(np.array(expected), anchor), box, rtol=1e-6)


def test_decoding_inverts_encoding():
    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, 64), random_boxes(rng, 64)
    boxes[:, 2:] += 1
    anchors[:, 2:] += 1
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-4)


def test_impossible_deltas_and_boxes_stay_finite():
    box = np.array([[3.0, 3.0, 4.0, 5.0]])
    slope = jax.jit(jax.grad(lambda b, a: jnp.sum(encode_boxes(b, a))))
    for poor in ([2.0, 2.0, 2.0, 2.0], [5.0, 5.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]):
        poor = np.array([poor])
        for boxes, anchors in ((poor, box), (box, poor), (poor, poor)):
            deltas = encode(boxes, anchors)
            assert np.isfinite(deltas).all()
            assert np.isfinite(slope(boxes, anchors)).all()
    huge = decode_boxes(np.array([[0.0, 0.0, 1e6, -1e6]]), box)
    np.testing.assert_allclose(huge, [[3.5 - 31.25, 4, 3.5 + 31.25, 4]], rtol=1e-6)


def test_clipping_by_hand():
    boxes = np.array([[-3.0, 2.0, 30.0, 50.0], [40.0, -9.0, 50.0, -1.0], [1.0, 2.0, 3.0, 4.0]])
    expected = [[0, 2, 20, 10], [20, 0, 20, 0], [1, 2, 3, 4]]
    for size in (np.array([10, 20]), np.array([10.0, 20.0])):  # rows, columns
        np.testing.assert_array_equal(clip_boxes(boxes, size), expected)
    assert clip_boxes(np.zeros((0, 4)), np.array([10, 20])).shape == (0, 4)


def test_contract():
    rng = np.random.default_rng(0)
    first, second = ((random_boxes(rng, 5), random_boxes(rng, 4)) for _ in range(2))
    check_contract(iou, first, second)
    check_contract(intersection_over_area, first, second)
    first, second = ((random_boxes(rng, 5), random_boxes(rng, 5) + 1) for _ in range(2))
    check_contract(encode_boxes, first, second)
    check_contract(decode_boxes, first, second)
    size = np.array([9, 7], np.int32)
    check_contract(clip_boxes, (first[0], size), (second[0], size + 3))
