import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.detector.proposals import Proposals
from g_rmi.detector.targets import jitter_boxes
from g_rmi.ops.boxes import decode_boxes
from g_rmi.types import DetectionBatch
from tests.networks import DETECTOR

CONFIG = dataclasses.replace(
    DETECTOR.model,
    canvas=(64, 96),
    rpn_channels=16,
    rpn_samples=32,
    candidates=60,
    box_samples=16,
)
TASK = FasterRCNN(CONFIG)


@functools.cache
def variables():
    """Statistics and scales far from zeros and ones, so that padding could do harm."""
    made = jax.jit(TASK.init)(jax.random.key(0))
    random = np.random.default_rng(0)

    def draw(path, value):
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.asarray(random.uniform(0.5, 1.5, value.shape), jnp.float32)
        if name in ("bias", "mean"):
            return jnp.asarray(random.normal(0, 0.3, value.shape), jnp.float32)
        return value

    return jax.tree_util.tree_map_with_path(draw, made)


loss = jax.jit(functools.partial(TASK.loss, train=True))
predict = jax.jit(TASK.predict)
flip_test = jax.jit(functools.partial(TASK.predict, flip_test=True))


def make_batch(boxes, *, person=None, ignore=None, canvas=(64, 96), size=(64, 90)):
    """One row per list of boxes."""
    random = np.random.default_rng(1)
    count = len(boxes)
    image = np.zeros((count, *canvas, 3), np.uint8)
    image[:, : size[0], : size[1]] = random.integers(0, 256, (count, *size, 3))
    table = np.zeros((count, 6, 4), np.float32)
    given = np.zeros((count, 6), bool)
    for i, rows in enumerate(boxes):
        table[i, : len(rows)] = np.reshape(rows, (-1, 4))
        given[i, : len(rows)] = True
    return DetectionBatch(
        jnp.asarray(image),
        jnp.asarray([size] * count, jnp.int32),
        jnp.asarray(table),
        jnp.asarray(given if person is None else person),
        jnp.asarray(np.zeros_like(given) if ignore is None else ignore),
        jnp.ones(count, jnp.float32),
    )


def run_loss(batch, seed=0):
    state = {"batch_stats": variables()["batch_stats"]}
    value, (_, metrics) = loss(variables()["params"], state, batch, jax.random.key(seed))
    return float(value), {name: float(m.compute()) for name, m in metrics.items()}


def test_padding_changes_nothing():
    size = (40, 53)
    small = make_batch([[]], canvas=size, size=size)
    large = make_batch([[]], canvas=(64, 96), size=size)
    noisy = np.array(large.image)
    noisy[0, size[0] :] = 255
    found = [predict(variables(), i, small.size) for i in (small.image, large.image, noisy)]
    assert found[0].valid.sum() > 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].valid, other.valid)
        np.testing.assert_allclose(found[0].boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(found[0].scores, other.scores, atol=1e-5)


def test_detections_are_sorted_inside_the_picture_and_not_alike():
    batch = make_batch([[], []], size=(50, 80))
    boxes, scores, valid = map(np.asarray, predict(variables(), batch.image, batch.size))
    assert boxes.shape == (2, CONFIG.detections, 4)
    assert valid.any(1).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes[..., 2] <= 80).all()
    assert (boxes[..., 3] <= 50).all()
    assert not boxes[~valid].any()
    assert not scores[~valid].any()


def test_pictures_of_a_batch_do_not_meet():
    batch = make_batch([[], []])
    together = predict(variables(), batch.image, batch.size)
    again = predict(variables(), batch.image[::-1], batch.size)
    np.testing.assert_allclose(together.boxes, again.boxes[::-1], atol=1e-3)


def mirrored(image, size):
    """By hand, picture by picture."""
    image = np.array(image)
    for row, (height, width) in zip(image, size):
        row[:height, :width] = row[:height, :width][:, ::-1]
    return image


def test_a_picture_and_its_mirror_image_get_the_same_flip_test():
    sizes = jnp.array([[50, 80], [64, 96], [20, 33]])
    image = np.random.default_rng(3).integers(0, 256, (3, 64, 96, 3), np.uint8)
    here = flip_test(variables(), image, sizes)
    there = flip_test(variables(), mirrored(image, sizes), sizes)
    assert here.valid.sum() > 10
    np.testing.assert_array_equal(here.valid, there.valid)
    np.testing.assert_allclose(here.scores, there.scores, atol=1e-5)
    x0, y0, x1, y1 = np.moveaxis(np.asarray(there.boxes), -1, 0)
    width = np.asarray(sizes)[:, 1:]
    back = np.stack([width - x1, y0, width - x0, y1], -1)
    np.testing.assert_allclose(here.boxes[here.valid], back[here.valid], atol=1e-3)


def test_the_flip_test_keeps_the_best_of_both_views():
    sizes = jnp.array([[50, 80], [64, 96], [20, 33]])
    image = np.random.default_rng(4).integers(0, 256, (3, 64, 96, 3), np.uint8)
    views = [predict(variables(), x, sizes).scores for x in (image, mirrored(image, sizes))]
    best = np.max([np.asarray(view) for view in views], axis=0)[:, 0]
    both = flip_test(variables(), image, sizes)
    np.testing.assert_allclose(both.scores[:, 0], best, atol=1e-5)
    assert (np.abs(np.subtract(*views))[:, 0] > 1e-4).any()  # what they see differs


def test_a_picture_without_people_has_a_finite_loss_and_gradient():
    batch = make_batch([[], []])
    value, metrics = run_loss(batch)
    assert np.isfinite(value)
    assert metrics["proposal"] == metrics["box"] == metrics["people_sampled"] == 0
    assert metrics["objectness"] > 0
    assert metrics["class"] > 0

    def scalar(params):
        state = {"batch_stats": variables()["batch_stats"]}
        return TASK.loss(params, state, batch, jax.random.key(0), train=True)[0]

    gradient = jax.jit(jax.grad(scalar))(variables()["params"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_what_is_not_labelled_teaches_nothing():
    whole = [[0, 0, 90, 64]]
    no = np.zeros((1, 6), bool)
    yes = no.copy()
    yes[0, 0] = True
    _, metrics = run_loss(make_batch([whole], person=no, ignore=yes))
    # All that remains is what lies mostly beside the picture.
    _, background = run_loss(make_batch([whole], person=no, ignore=no))
    assert metrics["class"] == 0 < background["class"]
    assert metrics["people_sampled"] == 0
    # A labelled person in such a picture is learnt all the same.
    both = [[0, 0, 90, 64], [20, 10, 44, 58]]
    person, ignore = no.copy(), yes.copy()
    person[0, 1] = True
    _, metrics = run_loss(make_batch([both], person=person, ignore=ignore))
    assert metrics["people_sampled"] >= 1
    assert metrics["class"] > 0
    assert metrics["box"] > 0


def test_filling_rows_do_not_count():
    batch = make_batch([[[20, 10, 44, 58]], []])
    frozen = FasterRCNN(dataclasses.replace(CONFIG, norm="frozen"))
    state = {"batch_stats": variables()["batch_stats"]}
    half = batch._replace(weight=jnp.array([1.0, 0.0]))
    run = jax.jit(functools.partial(frozen.loss, train=True))
    key = jax.random.key(0)
    value, (_, metrics) = run(variables()["params"], state, half, key)
    noisy = half._replace(image=half.image.at[1].set(255))
    assert run(variables()["params"], state, noisy, key)[0] == value
    assert metrics["loss"].count == 1
    none = batch._replace(weight=jnp.zeros(2))
    assert run(variables()["params"], state, none, key)[0] == 0


@pytest.mark.parametrize("roi", ["crop", "align"])
def test_regions_show_what_lies_in_the_box(roi):
    from g_rmi.detector.faster_rcnn.network import crop_regions

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
