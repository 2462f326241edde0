"""The bottom-up stage: what counts in the loss, overfitting one picture, and the way back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.nn.resnet import ResNetConfig
from g_rmi.parts.config import PartsConfig
from g_rmi.parts.decode import Decoding
from g_rmi.parts.task import PartsTask, as_model, as_variables, no_pairs, picture_losses, teaches
from g_rmi.pose.heads.parts import Parts
from g_rmi.skeleton import Skeleton
from g_rmi.types import PartsBatch
from tests.g_rmi.parts.test_decode import BODY, MODEL, SHAPE

CONFIG = PartsConfig(
    backbone=ResNetConfig(depth=26, width=8),
    canvas=(97, 129),
    norm="group",
    head=Parts(radius=9.0),
    decoding=Decoding(candidates=4, max_people=3, solver="tree"),
)


def batch(count=2, **changes):
    keypoints = np.zeros((4, 5, 2), np.float32)
    keypoints[:count] = np.array([[32, 50], [90, 46]], np.float32)[:count, None] + 0.6 * SHAPE
    visible = np.zeros((4, 5), bool)
    visible[:count] = True
    boxes = np.zeros((4, 4), np.float32)
    boxes[:count] = np.concatenate([keypoints[:count].min(1), keypoints[:count].max(1)], -1)
    fields = {
        "image": np.random.default_rng(0).integers(0, 255, (97, 129, 3), np.uint8),
        "size": np.array([97, 129], np.int32),
        "boxes": boxes,
        "ignore": np.zeros(4, bool),
        "keypoints": keypoints,
        "visible": visible,
        "labelled": np.ones(5, bool),
        "complete": np.bool_(True),
        "weight": np.float32(1),
    }
    return PartsBatch(**fields | changes)


def on_device(example):
    return jax.tree.map(jnp.asarray, example)


def test_where_nobody_teaches():
    cells = {"shape": (13, 17, 5), "stride": 8.0}
    assert teaches(on_device(batch()), **cells).all()
    # Beside the picture, in a crowd, where not everybody is labelled.
    small = np.asarray(teaches(on_device(batch(size=np.array([40, 33], np.int32))), **cells))
    assert np.argwhere(small).max(axis=0).tolist() == [4, 4]
    crowd = batch(0)
    crowd.boxes[3], crowd.ignore[3] = (0, 0, 41, 41), True
    hidden = ~np.asarray(teaches(on_device(crowd), **cells))
    assert np.argwhere(hidden).max(axis=0).tolist() == [5, 5]
    assert hidden.sum() == 36
    partly = np.asarray(teaches(on_device(batch(1, complete=np.bool_(False))), **cells))
    y, x = np.argwhere(partly).T * 8
    x0, y0, x1, y1 = batch(1).boxes[0]
    assert len(x)
    assert ((x >= x0 - 0.5) & (x < x1) & (y >= y0 - 0.5) & (y < y1)).all()


def perfect(example, off=0.0):
    """Maps without an error but, if wanted, the same one everywhere."""
    from g_rmi.parts.task import targets_of

    targets = targets_of(example, (13, 17), stride=8.0, radius=9.0)
    return {
        "score": jnp.where(targets.score > 0, 20.0, -20.0),
        "offset": 8 * targets.offset + off,
        "pairwise": 8 * targets.pairwise + off,
        "pairwise_std": jnp.full((5, 5, 2), 2.0),
    }


def test_losses_by_hand():
    def losses(maps, example):
        return picture_losses(maps, on_device(example), config=CONFIG)

    terms = losses(perfect(batch()), batch())
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {"score": 0.0, "offset": 0.0, "pairwise": 0.0}, abs=1e-5
    )
    # 1 pixel off: half a deviation of pairs, 1 / 7.28 of offsets; half the square.
    terms = losses(perfect(batch(), 1.0), batch())
    np.testing.assert_allclose(terms["pairwise"], 0.125, rtol=1e-3)
    np.testing.assert_allclose(terms["offset"], 0.5 / 7.2801**2, rtol=1e-3)
    # Undecided everywhere: log 2, whatever counts; nobody there, and nothing that counts: 0.
    blank = perfect(batch()) | {"score": jnp.zeros((13, 17, 5))}
    for example in (batch(), batch(0), batch(complete=np.bool_(False))):
        np.testing.assert_allclose(losses(blank, example)["score"], np.log(2), rtol=1e-4)
    nothing = batch(0, complete=np.bool_(False))
    assert all(float(value) == 0 for value in losses(blank, nothing).values())
    # A false alarm in a crowd costs nothing, elsewhere it does.
    alarm = blank["score"].at[2, 2].set(50.0)
    crowd = batch(0)
    crowd.boxes[3], crowd.ignore[3] = (0, 0, 41, 41), True
    assert losses(blank | {"score": alarm}, crowd)["score"] == pytest.approx(np.log(2), rel=1e-4)
    assert losses(blank | {"score": alarm}, batch(0))["score"] > 0.8
    # A joint that the data never label does not count.
    labelled = np.array([False] + [True] * 4)
    terms = losses(blank | {"score": blank["score"].at[..., 0].set(50)}, batch(labelled=labelled))
    np.testing.assert_allclose(terms["score"], np.log(2), rtol=1e-4)


def test_regressions_are_variables():
    variables = as_variables(MODEL)
    assert all(value.ndim == 1 for value in variables.values())
    for there, back in zip(MODEL, as_model(variables, 5)):
        np.testing.assert_array_equal(there, back)
    assert not as_model(as_variables(no_pairs(3)), 3).known.any()


@jax.numpy_dtype_promotion("standard")  # optax's Adam counts in integers
def test_one_picture_is_learnt_by_heart():
    task = PartsTask(CONFIG, BODY)
    example = jax.tree.map(lambda x: jnp.asarray(x)[None], batch())
    variables = task.init(jax.random.key(0))
    params, state = variables.pop("params"), variables
    spread = np.tile(np.float32([30, 30]), 20)
    state["statistics"]["pairs"]["std"] = jnp.asarray(spread)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, opt, state):
        def loss(params):
            return task.loss(params, state, example, jax.random.key(0), train=True)

        (value, (state, _)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt = optimizer.update(gradient, opt, params)
        return optax.apply_updates(params, updates), opt, state, value

    opt = optimizer.init(params)
    for _ in range(150):
        params, opt, state, value = step(params, opt, state)
    assert value < 0.1
    variables = {"params": params, **state}
    poses, boxes, valid = jax.jit(task.predict)(variables, example.image, example.size)
    assert valid[0].sum() == 2
    found = np.asarray(poses.keypoints[0, :2])
    found = found[np.argsort(found[:, 0, 0])]
    np.testing.assert_allclose(found, example.keypoints[0, :2], atol=3)
    assert (boxes[0, :2, 2:] > boxes[0, :2, :2]).all()


def test_bad_settings():
    for change, message in (
        ({"canvas": (96, 129)}, "canvas"),
        ({"canvas": (129, 97)}, "canvas"),
        ({"head": Parts(pairwise_weight=0.0)}, "pairwise_weight"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(CONFIG, **change)
    with pytest.raises(ValueError, match="decoding 'greedy': the parts have stages, whole, tree"):
        PartsTask(CONFIG, BODY).decoding("greedy")
    one = Skeleton.create(("tip",), limbs=[], sigmas=[0.1])
    assert jax.eval_shape(PartsTask(CONFIG, one).init, jax.random.key(0))["pairs"][
        "bias"
    ].shape == (1,)
