"""The pose task: what its loss counts, that it learns, and that the flip test is exact."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import Skeleton
from g_rmi.types import PoseBatch
from tests.networks import FACE, POSE

CONFIG = dataclasses.replace(
    POSE.model, output_stride=16, norm="group", head=Disks(radius=6.0, loss_stride=4)
)
TASK = PoseTask(CONFIG, FACE)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(TASK.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def loss():
    """Compiled (params, batch) -> (loss, metrics)."""

    def function(params, batch):
        value, (_, metrics) = TASK.loss(params, {}, batch, jax.random.key(0), train=True)
        return value, metrics

    return jax.jit(function)


def make_batch(rows=3, seed=0):
    rng = np.random.default_rng(seed)
    return PoseBatch(
        image=rng.integers(0, 256, (rows, 33, 33, 3), np.uint8),
        keypoints=rng.uniform(4, 28, (rows, 3, 2)).astype(np.float32),
        visible=np.ones((rows, 3), bool),
        occluded=np.zeros((rows, 3), bool),
        visibility_known=np.ones((rows, 3), bool),
        labelled=np.ones((rows, 3), bool),
        other_keypoints=np.zeros((rows, 2, 3, 2), np.float32),
        other_visible=np.zeros((rows, 2, 3), bool),
        weight=np.ones(rows, np.float32),
    )


def test_the_loss_is_the_weighted_sum_of_its_terms(variables, loss):
    value, metrics = loss(variables["params"], make_batch())
    terms = {name: m.total / m.count for name, m in metrics.items()}
    expected = 4 * terms["heatmap"] + 1 * terms["offset"] + 4 * terms["auxiliary"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(value, terms["loss"], rtol=1e-6)


def test_filling_rows_do_not_count(variables, loss):
    batch = make_batch()
    whole, _ = loss(variables["params"], batch._replace(weight=np.float32([1, 1, 0])))
    noise = batch._replace(weight=np.float32([1, 1, 0]), image=batch.image.copy())
    noise.image[2] = 0
    noise.keypoints[2] = np.nan
    changed, _ = loss(variables["params"], noise)
    np.testing.assert_array_equal(whole, changed)
    empty, _ = loss(variables["params"], batch._replace(weight=np.zeros(3, np.float32)))
    assert empty == 0


def test_an_unlabelled_joint_teaches_nothing(variables, loss):
    batch = make_batch()
    labelled = batch.labelled.copy()
    labelled[:, 1] = False
    first, _ = loss(variables["params"], batch._replace(labelled=labelled))
    moved = batch.keypoints.copy()
    moved[:, 1] += 5
    second, _ = loss(variables["params"], batch._replace(labelled=labelled, keypoints=moved))
    np.testing.assert_array_equal(first, second)
    third, _ = loss(variables["params"], batch._replace(keypoints=moved))
    assert third != first


def test_other_people_change_the_auxiliary_loss_alone(variables, loss):
    batch = make_batch()
    _, alone = loss(variables["params"], batch)
    others = np.full((3, 2, 3, 2), 16, np.float32)
    seen = np.ones((3, 2, 3), bool)
    _, crowd = loss(variables["params"], batch._replace(other_keypoints=others, other_visible=seen))
    np.testing.assert_array_equal(alone["heatmap"].total, crowd["heatmap"].total)
    np.testing.assert_array_equal(alone["offset"].total, crowd["offset"].total)
    assert crowd["auxiliary"].total < alone["auxiliary"].total


def test_it_learns_two_crops_by_heart(variables, loss):
    batch = jax.tree.map(jnp.asarray, make_batch(rows=2))
    optimizer = optax.adam(3e-3)

    def value(params):
        return TASK.loss(params, {}, batch, jax.random.key(0), train=True)[0]

    @jax.jit
    def fit(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(value)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=250)[0][0]

    with jax.numpy_dtype_promotion("standard"):
        params = fit(variables["params"])
    maps = jax.jit(TASK.predict)({"params": params}, batch.image)
    poses = jax.jit(TASK.decode)(maps)
    assert np.linalg.norm(poses.keypoints - batch.keypoints, axis=-1).max() < 1.5
    assert (poses.scores > 0.2).all()


def test_the_flip_test_is_exact(variables):
    """Predicting the mirrored crop with the flip test gives the mirrored prediction."""
    image = make_batch(rows=1).image
    predict = jax.jit(lambda x: TASK.predict(variables, x, flip_test=True))
    straight, mirrored = predict(image), predict(image[:, :, ::-1])
    swap = FACE.flip_index
    np.testing.assert_allclose(
        straight["heatmap"], np.asarray(mirrored["heatmap"])[:, :, ::-1, swap], atol=1e-5
    )
    np.testing.assert_allclose(
        straight["offset"], np.asarray(mirrored["offset"])[:, :, ::-1, swap] * [-1, 1], atol=1e-5
    )


def test_no_auxiliary_head_without_its_weight():
    task = PoseTask(dataclasses.replace(CONFIG, head=Disks(auxiliary_weight=0.0)), FACE)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    assert "auxiliary" not in variables["params"]
    batch = jax.tree.map(jnp.asarray, make_batch())
    loss = jax.eval_shape(
        lambda p: task.loss(p, {}, batch, jax.random.key(0), train=True)[1][1], variables["params"]
    )
    assert "auxiliary" not in loss


def test_float_and_byte_pictures_mean_the_same(variables):
    image = make_batch(rows=1).image
    predict = jax.jit(TASK.predict)
    np.testing.assert_allclose(
        predict(variables, image)["heatmap"],
        predict(variables, jnp.asarray(image, jnp.float32))["heatmap"],
        atol=1e-5,
    )


def test_one_of_several_classes_is_its_block_in_every_view():
    skeleton = Skeleton.join({"face": FACE, "other": FACE})
    task = PoseTask(CONFIG, skeleton)
    image = np.random.default_rng(0).integers(0, 256, (2, 33, 33, 3), np.uint8)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    random = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda x: jnp.asarray(0.3 * random.normal(size=x.shape), x.dtype), shapes
    )
    maps = jax.jit(partial(task.predict, flip_test=True))(variables, image)
    other = task.of_class("other")
    assert other.skeleton == FACE
    found = jax.jit(partial(other.predict, flip_test=True))(variables, image)
    for name, block in found.items():
        np.testing.assert_array_equal(block, maps[name][:, :, :, 3:])
