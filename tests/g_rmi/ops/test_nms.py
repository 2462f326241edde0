"""Suppression against the sequential oracle, on every kind of input that breaks parallel ones."""

from functools import partial

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from g_rmi.ops import nms
from g_rmi.ops.nms import box_nms, greedy_nms, oks_nms
from g_rmi.skeleton import COCO
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import boxes as box_oracle
from tests.oracles import nms as oracle
from tests.oracles import oks as oks_oracle

greedy = jax.jit(greedy_nms)
by_box = jax.jit(box_nms)


def random_boxes(rng, n):
    corner, size = rng.uniform(0, 30, (n, 2)), rng.uniform(5, 20, (n, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def random_similarity(rng, n, ties=False):
    similarity = rng.uniform(size=(n, n)).astype(np.float32)
    return np.round(4 * similarity) / 4 if ties else similarity


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("threshold", [-0.1, 0.1, 0.3, 0.5, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_sequential_algorithm(n, threshold, ties):
    rng = np.random.default_rng(n)
    similarity = random_similarity(rng, n, ties)  # neither symmetric nor 1 on the diagonal
    scores = rng.integers(0, 4, n).astype(np.float32) if ties else rng.normal(size=n)
    valid = rng.uniform(size=n) < 0.8
    ours = greedy(similarity, scores, valid, threshold=threshold)
    np.testing.assert_array_equal(
        ours, oracle.greedy_nms(similarity, scores, valid, threshold=threshold)
    )


@pytest.mark.parametrize("block", [1, 3, 8])
def test_blocks_do_not_change_the_result(block, monkeypatch):
    monkeypatch.setattr(nms, "_BLOCK", block)
    rng = np.random.default_rng(block)
    boxes, scores, valid = random_boxes(rng, 20), rng.normal(size=20), rng.uniform(size=20) < 0.8
    overlap, other = box_oracle.iou(boxes, boxes), random_similarity(rng, 20)
    # New functions, so that nothing traced with another block is used again.
    in_blocks = [jax.jit(lambda *x, f=f, **o: f(*x, **o)) for f in (box_nms, greedy_nms)]
    for threshold in (0.1, 0.4, 0.8):
        for kernel, first, similarity in zip(in_blocks, (boxes, other), (overlap, other)):
            ours = kernel(first, scores, valid, threshold=threshold)
            theirs = oracle.greedy_nms(similarity, scores, valid, threshold=threshold)
            np.testing.assert_array_equal(ours, theirs)


def test_a_chain_is_not_dropped_as_a_whole():
    # Neighbours have IoU 1/3, others 0: every second link stays.
    x = 5.0 * np.arange(300)
    boxes = np.stack([x, np.zeros(300), x + 10, np.ones(300)], axis=1)
    scores = -np.arange(300.0)
    everybody = np.ones(300, bool)
    np.testing.assert_array_equal(by_box(boxes, scores, everybody, threshold=0.3), x % 10 == 0)
    assert by_box(boxes, scores, everybody, threshold=0.34).all()
    # The three-link chain on which "dropped by anybody better" goes wrong at thresholds below .5.
    similarity = np.array([[1, 0.4, 0], [0.4, 1, 0.4], [0, 0.4, 1]])
    keep = greedy(similarity, np.array([3.0, 2.0, 1.0]), np.ones(3, bool), threshold=0.3)
    np.testing.assert_array_equal(keep, [True, False, True])


def test_ties_go_to_the_lowest_index_and_equal_is_not_greater():
    similarity = np.full((3, 3), 0.5)
    scores, everybody = np.zeros(3), np.ones(3, bool)
    np.testing.assert_array_equal(
        greedy(similarity, scores, everybody, threshold=0.4), [True, False, False]
    )
    assert greedy(similarity, scores, everybody, threshold=0.5).all()
    np.testing.assert_array_equal(  # -0 and 0 are equal scores
        greedy(similarity, np.array([-0.0, 0.0, -0.0]), everybody, threshold=0.4),
        [True, False, False],
    )


def test_invalid_rows_neither_keep_nor_drop():
    similarity = np.ones((4, 4))
    scores = np.array([np.nan, 9.0, 1.0, 2.0])
    valid = np.array([True, False, True, True])
    keep = greedy(similarity, scores, valid, threshold=0.5)
    np.testing.assert_array_equal(keep, [False, False, False, True])
    assert not greedy(similarity, scores, np.zeros(4, bool), threshold=0.5).any()
    keep = greedy(np.zeros((4, 4)), scores, valid, threshold=0.5)
    np.testing.assert_array_equal(keep, [False, False, True, True])
    only = np.array([False, False, True, False])
    np.testing.assert_array_equal(greedy(similarity, scores, only, threshold=0.5), only)
    infinite = np.array([-np.inf, np.inf, -np.inf, 0.0])
    np.testing.assert_array_equal(
        greedy(np.zeros((4, 4)), infinite, valid, threshold=0.5), [True, False, True, True]
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3, 0.6]))
def test_permutations_and_invalid_rows(seed, threshold):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 12), rng.permutation(12).astype(np.float32)
    everybody = np.ones(12, bool)
    keep = np.asarray(by_box(boxes, scores, everybody, threshold=threshold))
    order = rng.permutation(12)
    permuted = by_box(boxes[order], scores[order], everybody, threshold=threshold)
    np.testing.assert_array_equal(permuted, keep[order])
    masked = everybody.copy()
    masked[11] = False
    without = by_box(boxes[:11], scores[:11], masked[:11], threshold=threshold)
    with_row = by_box(boxes, scores, masked, threshold=threshold)
    np.testing.assert_array_equal(with_row, [*np.asarray(without), False])


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.9])
def test_poses(threshold):
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 100, (1, 17, 2))
    poses = (base + rng.normal(scale=9, size=(24, 17, 2))).astype(np.float32)
    poses[7] = poses[3]  # a duplicate
    areas = rng.uniform(2000, 6000, 24).astype(np.float32)
    scores, valid = rng.normal(size=24), rng.uniform(size=24) < 0.9
    ours = jax.jit(partial(oks_nms, sigmas=COCO.sigmas))(
        poses, scores, areas, valid, threshold=threshold
    )
    similarity = oks_oracle.pairwise_oks(poses, areas, sigmas=COCO.sigmas)
    theirs = oracle.greedy_nms(similarity, scores, valid, threshold=threshold)
    np.testing.assert_array_equal(ours, theirs)


def test_thousands_of_boxes():
    rng = np.random.default_rng(0)
    n = 6000
    corner, size = rng.uniform(0, 800, (n, 2)), rng.uniform(20, 200, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores, valid = rng.normal(size=n), np.ones(n, bool)
    keep = np.asarray(by_box(boxes, scores, valid, threshold=0.5))
    kept = boxes[keep]
    similarity = np.asarray(jax.jit(lambda a, b: nms.iou(a, b))(boxes, kept))
    better = scores[:, None] < scores[keep][None]
    dropped = np.any((similarity > 0.5) & better, axis=1)
    np.testing.assert_array_equal(keep, ~dropped)  # the property that defines greedy suppression


@pytest.mark.parametrize("limit", [0, 1, 5, 99])
def test_a_limit_keeps_the_best_of_the_kept(limit, monkeypatch):
    monkeypatch.setattr(nms, "_BLOCK", 3)
    rng = np.random.default_rng(limit)
    boxes, valid = random_boxes(rng, 20), rng.uniform(size=20) < 0.8
    scores = rng.integers(0, 8, 20).astype(np.float32)  # ties
    similarity = box_oracle.iou(boxes, boxes)
    everything = oracle.greedy_nms(similarity, scores, valid, threshold=0.4)
    best = [i for i in np.argsort(-scores, kind="stable") if everything[i]][:limit]
    ours = jax.jit(partial(box_nms, threshold=0.4, limit=limit))(boxes, scores, valid)
    np.testing.assert_array_equal(np.flatnonzero(ours), np.sort(best))


def test_thousands_of_links():
    # Every second link stays, whatever the order of the boxes; a limit stops early.
    n = 6000
    order = np.random.default_rng(0).permutation(n)
    x = 5.0 * order
    boxes = np.stack([x, np.zeros(n), x + 10, np.ones(n)], axis=1)
    scores, everybody = -order.astype(np.float32), np.ones(n, bool)
    np.testing.assert_array_equal(by_box(boxes, scores, everybody, threshold=0.3), order % 2 == 0)
    some = jax.jit(partial(box_nms, threshold=0.3, limit=300))(boxes, scores, everybody)
    np.testing.assert_array_equal(some, (order % 2 == 0) & (order < 600))


def test_contract():
    rng = np.random.default_rng(0)

    def inputs():
        valid = rng.uniform(size=6) < 0.8
        return random_boxes(rng, 6), rng.normal(size=6).astype(np.float32), valid

    check_contract(
        partial(box_nms, threshold=0.3, limit=2), inputs(), inputs(), eager=False, coarse=False
    )

    def poses(boxes, scores, valid):
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        points = boxes.reshape(6, 2, 2)
        return oks_nms(points, scores, areas, valid, sigmas=(0.5, 0.5), threshold=0.3)

    check_contract(poses, inputs(), inputs())
