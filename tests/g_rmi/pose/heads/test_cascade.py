"""The cascade: what each step trains and keeps, hidden parts, what the regression sees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from g_rmi.config import OptimConfig
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.cascade import Cascade
from g_rmi.pose.heads.head import Reading
from g_rmi.pose.task import PoseTask
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state
from g_rmi.training.step import train_step
from tests.g_rmi.pose.heads.test_heads import GRID, labels
from tests.networks import FACE

HEAD = Cascade(radius=6.0, sigma=4.0, hourglass_channels=8, hourglass_levels=1)


def task(**changes):
    head = dataclasses.replace(HEAD, **changes)
    config = PoseConfig(
        backbone=ResNetConfig(depth=26, width=4),
        output_stride=16,
        crop_height=49,
        crop_width=33,
        head=head,
    )
    return PoseTask(config, FACE)


def test_hidden_joints_are_none_for_the_detector_and_some_for_the_regression():
    truth = labels()._replace(occluded=jnp.array([False, True, False]))
    targets = HEAD.targets(truth, GRID, FACE)
    seen = np.asarray(targets.detection).any((0, 1))
    assert seen.tolist() == [True, False, True]
    assert (np.asarray(targets.heatmap).max((0, 1)) > 0.5).all()
    missing = HEAD.targets(truth._replace(visible=jnp.zeros(3, bool)), GRID, FACE)
    assert not np.any(missing.detection)
    assert not np.any(missing.heatmap)


def test_losses_by_hand():
    targets = HEAD.targets(labels(), GRID, FACE)
    maps = {"detection": jnp.zeros((13, 9, 3)), "heatmap": targets.heatmap + 0.5}
    found = HEAD.losses(maps, targets, GRID)
    # At p = .5 the logistic loss is log 2 whatever the target.
    np.testing.assert_allclose(found["detection"], np.log(2), rtol=1e-5)
    np.testing.assert_allclose(found["heatmap"], 0.25, rtol=1e-5)
    for trains, terms in (("detection", {"detection"}), ("regression", {"heatmap"})):
        head = dataclasses.replace(HEAD, trains=trains)
        assert head.losses(maps, targets, GRID).keys() == terms


@pytest.mark.parametrize(
    ("trains", "sees"),
    [
        ("detection", "parts+picture"),
        ("detection", "picture"),
        ("regression", "parts+features"),
        ("both", "parts"),
        ("both", "picture"),
    ],
)
def test_maps_of_every_setting(trains, sees):
    if (trains, sees) == ("detection", "picture"):
        with pytest.raises(ValueError, match="without parts in regression_sees there is none"):
            task(trains=trains, regression_sees=sees)
        return
    network = task(trains=trains, regression_sees=sees)
    variables = jax.eval_shape(network.init, jax.random.key(0))
    own = variables["params"].keys() - {"trunk"}
    wanted = {"detection"} if sees != "picture" else set()
    wanted |= {"regression"} if trains != "detection" else set()
    assert own == wanted
    image = jax.ShapeDtypeStruct((2, *GRID, 3), jnp.uint8)
    maps = jax.eval_shape(network.predict, variables, image)
    stride4, coarse = (2, 13, 9, 3), (2, 4, 3, 3)
    shapes = {"detection": coarse, "heatmap": coarse if sees == "parts+features" else stride4}
    names = {"detection": "detection", "regression": "heatmap"}
    assert {name: m.shape for name, m in maps.items()} == {
        names[part]: shapes[names[part]] for part in wanted
    }
    poses = jax.eval_shape(network.decode, maps)
    assert poses.keypoints.shape == (2, 3, 2)


def test_the_detector_alone_is_read_off_its_own_maps():
    head = dataclasses.replace(HEAD, trains="detection", decoding="argmax")
    logits = np.full((13, 9, 3), -4, np.float32)
    logits[6, 4] = np.log(3)
    poses = head.decode(
        {"detection": jnp.asarray(logits)}, Reading(GRID, FACE.sigmas, 1.0, "argmax")
    )
    np.testing.assert_array_equal(poses.keypoints, [[16, 24]] * 3)
    np.testing.assert_allclose(poses.keypoint_scores, 0.75, rtol=1e-6)


@pytest.mark.slow
def test_the_second_step_changes_the_regression_alone():
    """Weights of the first step are taken over, and neither decay nor are their statistics new."""
    first, second = task(trains="detection"), task(trains="regression")
    assert second.frozen == ("trunk", "top_down", "detection")
    optim = OptimConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.5, ema_decay=0.0)
    optimizer = make_optimizer(optim, 10, second.frozen)
    rng = np.random.default_rng(0)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), labels())
    batch = batch._replace(image=jnp.asarray(rng.integers(0, 256, (2, *GRID, 3), np.uint8)))

    @jax.jit
    def both():
        given = first.init(jax.random.key(1))
        state = create_state(second, optimizer, jax.random.key(0), average=False, given=given)
        return given, state.variables, train_step(second, optimizer)(state, batch)

    with jax.numpy_dtype_promotion("standard"):  # as for `train`
        given, before, (after, metrics) = both()
    assert metrics["finite"].compute()
    for name, tree in after.variables.items():
        for part in tree:
            same = jax.tree.map(np.array_equal, tree[part], before[name][part])
            if part == "regression":
                assert not all(jax.tree.leaves(same))
            else:
                assert all(jax.tree.leaves(same)), (name, part)
                same = jax.tree.map(np.array_equal, tree[part], given[name][part])
                assert all(jax.tree.leaves(same)), (name, part)
    assert optax.tree.norm(after.params["regression"]) > 0
