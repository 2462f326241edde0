"""SSD's anchors, its loss against a loop, and numbers by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.detector.ssd.anchors import anchor_sides, picture_anchors
from g_rmi.detector.ssd.config import SSDConfig
from g_rmi.detector.ssd.task import picture_loss
from g_rmi.ops.boxes import clip_boxes, encode_boxes, intersection_over_area, iou
from g_rmi.types import DetectionBatch, Grid
from tests.oracles import anchors as anchors_oracle
from tests.oracles import matching as matching_oracle
from tests.oracles import mining as oracle

CONFIG = SSDConfig()
loss = jax.jit(partial(picture_loss, config=CONFIG))


def grids(height, width):
    first = Grid(height, width).every(16)
    maps = [first]
    for _ in range(5):
        maps.append(maps[-1].every(2))
    return maps


def anchors_of(height, width, size):
    boxes, usable = picture_anchors(CONFIG, grids(height, width), jnp.array([size]))
    return np.asarray(boxes[0]), np.asarray(usable[0])


def test_a_square_picture_has_1917_anchors():
    boxes, usable = anchors_of(300, 300, (300, 300))
    assert [g.height for g in grids(300, 300)] == [19, 10, 5, 3, 2, 1]
    assert len(boxes) == 1083 + 600 + 150 + 54 + 24 + 6 == 1917
    assert usable.all()
    theirs = []
    for grid, sides in zip(grids(300, 300), anchors_oracle.multiple_grids(300)):
        # Relative centres, as the article has them.
        n = grid.height
        for i, j in np.ndindex(n, n):
            x, y = 300 * (j + 0.5) / n, 300 * (i + 0.5) / n
            theirs += [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for h, w in sides]
    np.testing.assert_allclose(boxes, theirs, atol=1e-3)


def test_anchors_by_hand():
    """The first cell, the first of the second map (scale .35), and the only one of the last."""
    boxes, _ = anchors_of(300, 300, (300, 300))
    c = 150 / 19
    np.testing.assert_allclose(boxes[0], [c - 15, c - 15, c + 15, c + 15], atol=1e-3)
    np.testing.assert_allclose(boxes[1, 2:] - boxes[1, :2], [84.8528, 42.4264], atol=1e-3)
    np.testing.assert_allclose(boxes[2, 2:] - boxes[2, :2], [42.4264, 84.8528], atol=1e-3)
    np.testing.assert_allclose(boxes[1083], [15 - 52.5, 15 - 52.5, 67.5, 67.5], atol=1e-3)
    np.testing.assert_allclose(boxes[1088, 2] - boxes[1088, 0], 300 * 0.4183, atol=0.01)
    np.testing.assert_allclose(boxes[1911], [7.5, 7.5, 292.5, 292.5], atol=1e-3)
    np.testing.assert_allclose(boxes[1916, 2] - boxes[1916, 0], 300 * 0.9747, atol=0.01)


def test_600_pixels_have_7326_anchors():
    sides = anchor_sides(SSDConfig(canvas=(600, 600)))
    cells = [g.height**2 for g in grids(600, 600)]
    assert cells == [38**2, 19**2, 100, 25, 9, 4]
    assert sum(n * len(s) for n, s in zip(cells, sides)) == 7326


def test_the_canvas_beside_the_picture_has_no_anchors():
    size = (200, 283)
    small, large = anchors_of(*size, size), anchors_of(300, 300, size)
    assert small[1].all()
    np.testing.assert_allclose(large[0][large[1]], small[0], atol=1e-3)


def truth_of(people, ignored=(), size=(300, 300), rows=6):
    table = np.zeros((rows, 4), np.float32)
    table[: len(people) + len(ignored)] = np.reshape([*people, *ignored], (-1, 4))
    place = np.arange(rows)
    person = place < len(people)
    return DetectionBatch(
        image=np.zeros((*size, 3), np.uint8),
        size=np.array(size, np.int32),
        boxes=table,
        person=person,
        ignore=~person & (place < len(people) + len(ignored)),
        weight=np.ones((), np.float32),
    )


@pytest.mark.parametrize(
    ("people", "ignored"),
    [
        ([], []),
        ([], [[0, 0, 300, 300]]),
        ([[20, 20, 100, 280]], []),
        ([[20, 20, 100, 280], [22, 20, 100, 280], [250, 5, 258, 25]], [[150, 0, 300, 150]]),
        ([[400, 400, 500, 500], [50, 50, 50, 50], [10, 10, 10.5, 200]], []),  # nobody to learn
    ],
)
def test_the_loss_equals_the_loop(people, ignored):
    rng = np.random.default_rng(len(people))
    anchors, usable = anchors_of(300, 300, (300, 300))
    truth = truth_of(people, ignored)
    logits = rng.normal(size=len(anchors)).astype(np.float32)
    logits = np.round(4 * logits) / 4  # ties
    deltas = rng.normal(size=(len(anchors), 4)).astype(np.float32)
    found = loss(logits, deltas, anchors, usable, truth)

    overlap = np.asarray(iou(truth.boxes, anchors))
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    known = truth.person & (sides >= 1).all(1)
    options = {"positive": 0.5, "negative": 0.5, "force": False, "claim": True}
    rows = matching_oracle.match(overlap, known, anchors=len(anchors), **options)
    seen = clip_boxes(anchors, np.array([300, 300]))
    share = np.asarray(intersection_over_area(seen, truth.boxes))
    labels, targets = [], np.zeros_like(deltas)
    for a, (index, positive, _) in enumerate(rows):
        unknown = any(share[a, g] >= 0.5 for g in np.flatnonzero(truth.ignore))
        labels.append(1 if positive else -1 if unknown else 0)
        if positive:
            targets[a] = encode_boxes(truth.boxes[index : index + 1], anchors[a : a + 1])[0]
    theirs = oracle.multibox_loss(logits, deltas, labels, targets, ratio=3, least=3)
    ours = [float(found[name]) for name in ("class", "box", "positives", "negatives")]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    if not len(ignored):
        assert theirs[3] == max(3, 3 * theirs[2])
    if not known.any():
        assert theirs[2] == 0
    assert float(found["people_missed"]) == (known & ~(overlap > 0).any(1)).sum()


def test_the_losses_of_a_batch_share_one_count():
    """One positive (.4) with negatives .9 .7 .7, a picture without people: (2.7 + 2.3) / 1."""
    probabilities = [np.exp(-0.4), *(1 - np.exp(-np.array([0.9, 0.7, 0.7, 0.1, 0.05])))]
    logits = np.log(np.array(probabilities) / (1 - np.array(probabilities))).astype(np.float32)
    anchors = np.array([[0, 0, 10, 10]] + [[x, 100, x + 10, 110] for x in range(20, 70, 10)])
    anchors = anchors.astype(np.float32)
    terms = []
    for i, people in ((0, [[0, 0, 10, 10]]), (1, [])):
        deltas, usable = np.zeros((6 - i, 4), np.float32), np.ones(6 - i, bool)
        terms.append(loss(logits[i:], deltas, anchors[i:], usable, truth_of(people)))
    np.testing.assert_allclose([t["class"] for t in terms], [2.7, 2.3], rtol=1e-4)
    assert [float(t["negatives"]) for t in terms] == [3, 3]
    assert sum(float(t["positives"]) for t in terms) == 1
