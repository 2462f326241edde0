"""What every detector promises: canvases, mirrors, filling rows, odd pictures, odd numbers."""

import dataclasses
import functools
import typing
from functools import partial

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.config import from_dict, to_dict
from g_rmi.detector import DetectorConfig
from g_rmi.training import sharding
from g_rmi.types import DetectionBatch
from tests.networks import DETECTORS

KINDS = [kind.kind for kind in typing.get_args(DetectorConfig)]
CHANGES = {
    "faster_rcnn": {"rpn_channels": 16, "rpn_samples": 32, "candidates": 60, "box_samples": 16},
    "rfcn": {"rpn_channels": 16, "rpn_samples": 32, "candidates": 60, "hard_examples": 16},
    "ssd": {},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def task(kind, **changes):
    config = dataclasses.replace(DETECTORS[kind].model, canvas=(64, 96), **CHANGES[kind])
    return dataclasses.replace(config, **changes).task()


@functools.cache
def variables(kind, **changes):
    """Statistics and scales far from zeros and ones, so that padding could do harm."""
    shapes = jax.eval_shape(task(kind, **changes).init, jax.random.key(0))
    random = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        if name in ("bias", "mean"):
            return jnp.asarray(random.normal(0, 0.3, leaf.shape), jnp.float32)
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        head = any("class" in str(k.key) or "codes" in str(k.key) for k in path)
        return jnp.asarray(
            random.normal(0, 0.1 * scale if head else scale, leaf.shape), jnp.float32
        )

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def predict(kind, **options):
    return jax.jit(functools.partial(task(kind).predict, **options))


@functools.cache
def loss(kind):
    """With group norm, where pictures of a batch do not meet: values, metrics, gradients."""
    group = task(kind, norm="group")
    run = jax.value_and_grad(
        functools.partial(group.loss, model_state={}, train=True), has_aux=True
    )
    return jax.jit(lambda params, batch, key: run(params, batch=batch, key=key))


def run_loss(kind, batch, params=None):
    params = variables(kind, norm="group")["params"] if params is None else params
    (value, (_, metrics)), gradient = loss(kind)(params, batch, jax.random.key(0))
    return float(value), metrics, gradient


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


@every_kind
def test_padding_changes_nothing(kind):
    size = (40, 53)
    small = make_batch([[]], canvas=size, size=size)
    large = make_batch([[]], canvas=(64, 96), size=size)
    noisy = np.array(large.image)
    noisy[0, size[0] :] = 255
    v, run = variables(kind), predict(kind)
    found = [run(v, i, small.size) for i in (small.image, large.image, noisy)]
    assert found[0].valid.sum() > 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].valid, other.valid)
        np.testing.assert_allclose(found[0].boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(found[0].scores, other.scores, atol=1e-5)


@every_kind
def test_detections_are_sorted_inside_the_picture_and_not_alike(kind):
    batch = make_batch([[], [], []], size=(50, 80))
    found = predict(kind)(variables(kind), batch.image, batch.size)
    boxes, scores, valid = map(np.asarray, found[:3])
    assert found.classes is None
    assert boxes.shape == (3, task(kind).config.detections, 4)
    assert valid.any(1).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes[..., 2] <= 80).all()
    assert (boxes[..., 3] <= 50).all()
    assert not boxes[~valid].any()
    assert not scores[~valid].any()


@every_kind
def test_pictures_of_a_batch_do_not_meet(kind):
    batch = make_batch([[], [], []])
    together = predict(kind)(variables(kind), batch.image, batch.size)
    again = predict(kind)(variables(kind), batch.image[::-1], batch.size)
    np.testing.assert_allclose(together.boxes, again.boxes[::-1], atol=1e-3)


def mirrored(image, size):
    """By hand, picture by picture."""
    image = np.array(image)
    for row, (height, width) in zip(image, size):
        row[:height, :width] = row[:height, :width][:, ::-1]
    return image


@every_kind
def test_a_picture_and_its_mirror_image_get_the_same_flip_test(kind):
    sizes = jnp.array([[50, 80], [64, 96], [20, 33]])
    image = np.random.default_rng(3).integers(0, 256, (3, 64, 96, 3), np.uint8)
    v, flip_test = variables(kind), predict(kind, flip_test=True)
    here, there = (flip_test(v, x, sizes) for x in (image, mirrored(image, sizes)))
    assert here.valid.sum() > 10
    np.testing.assert_array_equal(here.valid, there.valid)
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-3, atol=1e-5)
    x0, y0, x1, y1 = np.moveaxis(np.asarray(there.boxes), -1, 0)
    width = np.asarray(sizes)[:, 1:]
    back = np.stack([width - x1, y0, width - x0, y1], -1)
    np.testing.assert_allclose(here.boxes[here.valid], back[here.valid], atol=1e-3)
    # Of both views the best is kept, and what they see differs.
    views = [predict(kind)(v, x, sizes).scores for x in (image, mirrored(image, sizes))]
    best = np.max([np.asarray(view) for view in views], axis=0)[:, 0]
    np.testing.assert_allclose(here.scores[:, 0], best, atol=1e-5)
    assert (np.abs(np.subtract(*views))[:, 0] > 1e-4).any()


@every_kind
def test_a_picture_without_people_has_a_finite_loss_and_gradient(kind):
    value, metrics, gradient = run_loss(kind, make_batch([[], []]))
    assert np.isfinite(value)
    assert metrics["box"].compute() == 0
    assert metrics["class"].compute() > 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@every_kind
def test_every_parameter_learns_and_odd_boxes_do_no_harm(kind):
    """A person without area, and one whom nothing overlaps, beside one to learn."""
    odd = [[30, 30, 30, 30], [200, 200, 240, 260], [20, 10, 44, 58]]
    value, metrics, gradient = run_loss(kind, make_batch([odd, [[2, 5, 60, 62]]]))
    assert np.isfinite(value)
    assert metrics["box"].compute() > 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # Of a map of one cell and one channel a group, group norm leaves nothing but its own bias.
        norm = path[0].key.endswith("_norm") and "reduce" not in path[0].key
        alone = path[0].key.startswith("added") and not (norm and path[-1].key == "bias")
        alone |= kind == "ssd" and path[0].key.startswith("codes")  # learnt where people match
        assert alone or np.any(leaf), path
    deltas = [leaf for name, leaf in gradient.items() if "codes" in name]
    assert kind != "ssd" or any(np.any(leaf) for leaf in jax.tree.leaves(deltas))


@every_kind
def test_steps_down_the_gradient_lower_the_loss(kind):
    """The quick check of what `test_overfit.py` does to the end."""
    batch = make_batch([[[20, 10, 44, 58]], [[2, 5, 60, 62]]])
    params, values = variables(kind, norm="group")["params"], []
    for i in range(8):
        value, _, gradient = run_loss(kind, batch, params)
        values.append(value)
        norm = np.sqrt(sum(np.square(g).sum() for g in jax.tree.leaves(gradient)))
        step = jnp.float32(0.3 / norm / (1 + i))
        params = jax.tree.map(lambda p, g, step=step: p - step * g, params, gradient)
    assert values[-1] < 0.85 * values[0], values


@pytest.mark.slow
@every_kind
def test_bfloat16_learns_about_the_same(kind):
    batch = make_batch([[[20, 10, 44, 58]], [[2, 5, 60, 62]]])
    half = task(kind, norm="group", dtype="bfloat16")
    run = jax.jit(jax.value_and_grad(partial(half.loss, model_state={}, train=True), has_aux=True))
    params = variables(kind, norm="group")["params"]
    (value, _), gradient = run(params, batch=batch, key=jax.random.key(0))
    whole, _, theirs = run_loss(kind, batch)
    np.testing.assert_allclose(value, whole, rtol=0.1)
    assert {g.dtype for g in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    ours, theirs = (
        np.concatenate([np.ravel(g) for g in jax.tree.leaves(x)]) for x in (gradient, theirs)
    )
    assert ours @ theirs > 0.9 * np.linalg.norm(ours) * np.linalg.norm(theirs)


@pytest.mark.parametrize(
    "kind", [k if k == "ssd" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_several_devices_have_the_loss_of_one(kind):
    """Normalisers are those of the whole batch, not of a device's rows."""
    people = [[[20, 10, 44, 58]], [], [[2, 5, 60, 62], [50, 20, 80, 60]], []]
    batch = make_batch(people)
    mesh = sharding.data_mesh(jax.devices()[:4])
    spread = sharding.put_batch(mesh, jax.device_get(batch))
    assert len(spread.image.sharding.device_set) == 4
    group, params = task(kind, norm="group"), variables(kind, norm="group")["params"]

    @jax.jit
    def value(params, batch):
        return group.loss(params, {}, batch, jax.random.key(0), train=True)[0]

    everywhere = jax.device_put(params, sharding.replicated(mesh))
    np.testing.assert_allclose(value(everywhere, spread), value(params, batch), rtol=1e-4)


@every_kind
def test_what_is_not_labelled_teaches_nothing(kind):
    whole = [[0, 0, 90, 64]]
    no = np.zeros((2, 6), bool)
    yes = no.copy()
    yes[:, 0] = True
    _, metrics, _ = run_loss(kind, make_batch([whole] * 2, person=no, ignore=yes))
    _, background, _ = run_loss(kind, make_batch([whole] * 2, person=no, ignore=no))
    assert metrics["class"].compute() == 0 < background["class"].compute()
    # A labelled person in such a picture is learnt all the same.
    both = [[0, 0, 90, 64], [20, 10, 44, 58]]
    person = no.copy()
    person[:, 1] = True
    _, metrics, _ = run_loss(kind, make_batch([both] * 2, person=person, ignore=yes))
    assert metrics["class"].compute() > 0
    assert metrics["box"].compute() > 0


@every_kind
def test_rows_add_up_and_filling_rows_do_not_count(kind):
    batch = make_batch([[[20, 10, 44, 58]], [[2, 5, 60, 62], [50, 20, 80, 60]]])
    _, both, _ = run_loss(kind, batch)
    rows = [batch._replace(weight=jnp.array(w)) for w in ([1.0, 0.0], [0.0, 1.0])]
    sums = [run_loss(kind, row)[1]["loss"] for row in rows]
    assert all(s.count >= 1 for s in sums)
    np.testing.assert_allclose(both["loss"].total, sums[0].total + sums[1].total, rtol=1e-4)
    np.testing.assert_allclose(both["loss"].count, sums[0].count + sums[1].count)
    noisy = rows[0]._replace(image=batch.image.at[1].set(255))
    assert run_loss(kind, noisy)[0] == run_loss(kind, rows[0])[0]
    value, metrics, gradient = run_loss(kind, batch._replace(weight=jnp.zeros(2)))
    assert value == metrics["loss"].count == 0
    assert not any(np.any(g) for g in jax.tree.leaves(gradient))


@every_kind
def test_values_that_are_not_numbers_are_no_detections(kind):
    """A weight that is not a number: nobody is found, instead of somebody anywhere."""
    v = jax.tree.map(lambda x: x * jnp.nan, variables(kind))
    batch = make_batch([[], [], []])
    found = predict(kind)(v, batch.image, batch.size)
    assert not found.valid.any()
    assert not np.any(found.boxes)
    params = jax.tree.map(lambda x: x * jnp.nan, variables(kind, norm="group")["params"])
    (value, _), _ = loss(kind)(params, make_batch([[], []]), jax.random.key(0))
    assert np.isnan(value)


@every_kind
def test_bfloat16_finds_about_the_same(kind):
    batch = make_batch([[], [], []])
    half = jax.jit(task(kind, dtype="bfloat16").predict)
    found = half(variables(kind), batch.image, batch.size)
    assert found.boxes.dtype == found.scores.dtype == jnp.float32
    whole = predict(kind)(variables(kind), batch.image, batch.size)
    np.testing.assert_allclose(found.scores[:, 0], whole.scores[:, 0], atol=0.05)


@every_kind
def test_a_config_comes_back_from_its_file(kind):
    config = task(kind).config
    assert from_dict(DetectorConfig, to_dict(config)) == config


IMPOSSIBLE = {
    "rfcn": {"bins": 0, "dilation": 0, "hard_examples": -1, "bin_samples": 0, "box_nms_iou": 2.0},
    "ssd": {
        "positive": 1.5,
        "min_scale": 0.96,
        "added_channels": (1,),
        "min_negatives": -1,
        "canvas": (9, 8),
        "candidates": 0,
    },
}


@pytest.mark.parametrize(
    ("kind", "field", "value"), [(k, *pair) for k, f in IMPOSSIBLE.items() for pair in f.items()]
)
def test_impossible_settings_are_named(kind, field, value):

    with pytest.raises(ValueError, match=f"{field} = "):
        dataclasses.replace(task(kind).config, **{field: value})
