"""From candidates to people: limits, ties, boxes without area, scores that are no numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.detector.detector import Candidates, each_class, select
from tests.oracles import nms as oracle
from tests.oracles.boxes import decode_boxes, iou

SIZE = np.array([40, 100])
run = jax.jit(select, static_argnames=("count", "iou", "candidates"))


def apart(scores, usable=True, deltas=0.0):
    """As many regions that do not touch."""
    x = 20 * np.arange(len(scores), dtype=np.float32)
    regions = np.stack([x, 0 * x, x + 10, 0 * x + 30], -1)
    everywhere = np.broadcast_to(np.float32(deltas), regions.shape)
    return Candidates(
        np.array(scores, np.float32),
        np.array(everywhere),
        regions,
        np.broadcast_to(usable, len(scores)),
    )


@pytest.mark.parametrize(
    ("scores", "usable", "candidates", "count", "found"),
    [
        ([0.7, np.nan, 0.9, 0.7, 1.0], [1, 1, 1, 1, 0], 2, 3, [2, 0]),  # a NaN takes nobody's place
        ([0.7, np.nan, 0.9, 0.7, 1.0], [1, 1, 1, 1, 0], None, 3, [2, 0, 3]),
        ([0.5] * 5, [1] * 5, None, 2, [0, 1]),  # ties: the lowest index
        ([0.5] * 5, [0, 1, 1, 1, 1], 3, 2, [1, 2]),
        ([0.1, 0.2], [1, 1], 9, 4, [1, 0]),  # fewer than the limits
        ([np.nan] * 3, [1] * 3, 2, 2, []),
        ([0.4, 0.3], [0, 0], None, 2, []),
    ],
)
def test_the_best_are_found(scores, usable, candidates, count, found):
    seen = apart(scores, np.array(usable, bool))
    boxes, best, valid, _ = run(seen, SIZE, count=count, iou=0.5, candidates=candidates)
    assert len(valid) == count
    np.testing.assert_array_equal(valid, np.arange(count) < len(found))
    np.testing.assert_allclose(boxes[: len(found)], seen.regions[found], atol=1e-4)
    np.testing.assert_allclose(best[: len(found)], seen.scores[found])
    assert not np.any(boxes[len(found) :])
    assert not np.any(best[len(found) :])


def test_equal_boxes_of_equal_scores_leave_the_first():
    seen = apart([0.5] * 6)
    seen = seen._replace(regions=seen.regions[[0, 0, 3, 3, 3, 1]])
    boxes, _, valid, _ = run(seen, SIZE, count=5, iou=0.5)
    np.testing.assert_array_equal(valid, np.arange(5) < 3)
    np.testing.assert_allclose(boxes[:3], seen.regions[[0, 2, 5]], atol=1e-4)


@pytest.mark.parametrize(
    "region",
    [
        [5, 5, 5, 30],  # no width
        [5, 5, 30, 5],
        [0, 0, 0, 0],
        [200, 5, 240, 30],  # beside the picture
        [5, -30, 30, -1],
        [np.nan, 0, 10, 10],
    ],
)
def test_a_region_without_area_in_the_picture_is_nobody(region):
    seen = apart([0.9, 0.8])
    seen.regions[0] = region
    boxes, scores, valid, _ = run(seen, SIZE, count=2, iou=0.5)
    np.testing.assert_array_equal(valid, [True, False])
    np.testing.assert_allclose(boxes[0], seen.regions[1], atol=1e-4)
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("delta", [1e30, -1e30, np.inf, np.nan])
def test_impossible_deltas_leave_finite_boxes_in_the_picture(delta):
    boxes, scores, *_ = run(apart([0.9, 0.8], deltas=delta), SIZE, count=2, iou=0.5)
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()
    assert (np.asarray(boxes) <= [100, 40, 100, 40]).all()


@pytest.mark.parametrize("seed", range(3))
def test_crowded_candidates_equal_the_loop(seed):
    """More than the limits, many alike, rounded scores: decoding, clipping, order, suppression."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-10, [90, 30], (60, 2))
    regions = np.concatenate([corner, corner + rng.uniform(8, 40, (60, 2))], -1).astype(np.float32)
    scores = (rng.integers(0, 20, 60) / 20).astype(np.float32)
    deltas = rng.normal(size=(60, 4)).astype(np.float32)
    usable = rng.uniform(size=60) < 0.8
    seen = Candidates(scores, deltas, regions, usable)
    boxes, best, valid, _ = run(seen, SIZE, count=10, iou=0.4, candidates=40)
    order = [i for i in np.argsort(-scores, kind="stable") if usable[i]][:40]
    theirs = np.clip(decode_boxes(deltas, regions), 0, [100, 40, 100, 40])
    part = np.isin(np.arange(60), order) & (theirs[:, 2:] > theirs[:, :2]).all(1)
    kept = oracle.greedy_nms(iou(theirs, theirs), scores, part, threshold=0.4)
    keep = [i for i in order if kept[i]][:10]
    np.testing.assert_array_equal(valid, np.arange(10) < len(keep))
    np.testing.assert_allclose(boxes[: len(keep)], theirs[keep], atol=1e-3)
    np.testing.assert_allclose(best[: len(keep)], scores[keep])


@pytest.mark.parametrize("seed", range(3))
def test_each_class_is_selected_as_if_alone(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, [60, 20], (12, 2))
    regions = np.concatenate([corner, corner + rng.uniform(8, 40, (12, 2))], -1).astype(np.float32)
    deltas = rng.normal(size=(12, 4)).astype(np.float32)
    usable, scores = rng.uniform(size=12) < 0.8, rng.uniform(size=(12, 3)).astype(np.float32)
    batch = (jnp.asarray(x)[None] for x in (scores, deltas, regions, usable))
    seen = jax.tree.map(lambda x: x[0], each_class(*batch))
    boxes, best, valid, classes = map(np.asarray, run(seen, SIZE, count=36, iou=0.4))
    assert (np.diff(best[valid]) <= 0).all()
    for number in range(3):
        alone = Candidates(scores[:, number], deltas, regions, usable)
        their_boxes, their_scores, theirs, none = run(alone, SIZE, count=36, iou=0.4)
        own = valid & (classes == number)
        assert none is None
        assert own.sum() > 1
        np.testing.assert_array_equal(best[own], their_scores[theirs])
        np.testing.assert_array_equal(boxes[own], their_boxes[theirs])
    assert not classes[~valid].any()
