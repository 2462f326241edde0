"""The recurrent head: its losses by hand, what iterations share, and where one is read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.head import Reading
from g_rmi.pose.heads.recurrent.head import PEAK, Recurrent
from g_rmi.pose.heads.recurrent.losses import balanced_squares
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid
from tests.g_rmi.pose.heads.test_heads import GRID, HEADS, draw, labels, task
from tests.networks import FACE

HEAD = HEADS["recurrent"]


def loop(maps, target, include):
    """`balanced_squares`, position by position."""
    rows, columns, channels = maps.shape
    total = 0.0
    for c in range(channels):
        bright = sum(target[i, j, c] > 0 for i in range(rows) for j in range(columns))
        dark = rows * columns - bright
        if not include[c] or bright == 0:
            continue
        for i in range(rows):
            for j in range(columns):
                weight = (dark if target[i, j, c] > 0 else bright) / (rows * columns)
                weight = 1 if bright > dark else weight
                total += 0.5 * weight * (maps[i, j, c] - target[i, j, c]) ** 2
    return total


@pytest.mark.parametrize("bright", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_balanced_squares_equal_the_loop(bright):
    random = np.random.default_rng(0)
    maps = random.normal(size=(4, 5, 6)).astype(np.float32)
    shape = maps.shape
    target = np.where(random.uniform(size=shape) < bright, random.uniform(size=shape), 0)
    target, include = target.astype(np.float32), random.uniform(size=6) < 0.7
    ours = balanced_squares(*map(jnp.asarray, (maps, target, include)))
    np.testing.assert_allclose(ours, loop(maps, target, include), rtol=1e-5)


def test_balanced_squares_by_hand():
    # One bright position of four: it weighs 3/4, 1/2 * 3/4 * 12^2 = 54.
    target = jnp.zeros((2, 2, 1)).at[1, 0, 0].set(PEAK)
    zeros, one = jnp.zeros((2, 2, 1)), jnp.ones(1, bool)
    assert balanced_squares(zeros, target, one) == 54
    assert balanced_squares(zeros + 2, target, one) == 0.5 * (0.75 * 100 + 0.25 * 3 * 4)
    # A map without a joint teaches nothing, nor does one that is left out.
    assert balanced_squares(zeros + 2, zeros, one) == 0
    assert balanced_squares(zeros * jnp.nan, target, ~one) == 0
    assert not jax.grad(balanced_squares)(zeros + 2, zeros, one).any()
    # All bright: every weight is 1.
    assert balanced_squares(zeros, zeros + 1, one) == 2


def test_what_is_bright_is_as_in_the_article():
    # 437 positions around a joint on a cell, and 8.927 beside it (sigma of 1.3 cells).
    head, crop = Recurrent(), labels()
    points = jnp.full((3, 2), 124.0)
    target = head.targets(crop._replace(keypoints=points), Grid(249, 249), FACE).heatmap
    assert target.shape == (63, 63, 3)
    assert (target[..., 0] > 0).sum() == 437
    np.testing.assert_allclose(target[31, 31:33, 0], [12, 8.927], rtol=1e-4)


def test_limbs_have_two_ends():
    crop = labels()
    seen = HEAD.targets(crop, GRID, FACE)
    assert seen.limbs.shape[-1] == len(FACE.limbs) == 1
    assert seen.limbs.max() > 0.5 * PEAK
    for name in ("visible", "labelled"):  # the left eye's
        changed = crop._replace(**{name: jnp.array([True, False, True])})
        assert not HEAD.targets(changed, GRID, FACE).limbs.any()
    hidden = crop._replace(labelled=jnp.array([True, False, True]))
    assert HEAD.targets(hidden, GRID, FACE).labelled_limbs.tolist() == [False]


@pytest.mark.parametrize("trunk", ["resnet", "article"])
def test_iterations_share_all_but_their_norms(trunk):
    def shapes(iterations):
        head = dataclasses.replace(HEAD, iterations=iterations, trunk=trunk)
        network = PoseTask(dataclasses.replace(task("recurrent").config, head=head), FACE)
        return jax.eval_shape(network.init, jax.random.key(0))["params"]["recurrence"]

    two, three = shapes(2), shapes(3)
    assert set(three) - set(two) == {f"iteration3_norm{i}" for i in range(len(HEAD.kernels))}
    assert {name for name in two if "norm" in name} == {
        f"iteration{t}_norm{i}" for t in (1, 2) for i in range(len(HEAD.kernels))
    }
    assert {"forward_heatmap", "recurrent_heatmap", "forward_limbs", "recurrent_limbs"} <= set(two)


def test_one_training_is_read_at_every_iteration():
    network = task("recurrent")
    variables = draw(network)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, *GRID, 3), np.uint8))
    reads = [task("recurrent", head=dataclasses.replace(HEAD, read_iteration=i)) for i in range(3)]

    @jax.jit
    def everything():
        whole = network.network.apply(variables, image, train=True)
        return whole, [each.predict(variables, image) for each in (*reads, network)]

    whole, read = everything()
    assert whole.keys() == {f"{kind}{i}" for kind in ("heatmap", "limbs") for i in ("", 0, 1)}
    stages = ["heatmap0", "heatmap1", "heatmap", "heatmap"]
    for stage, maps in zip(stages, read):
        assert maps.keys() == {"heatmap"}
        expected = whole[stage]
        np.testing.assert_allclose(maps["heatmap"], expected, atol=1e-4 * expected.max())
    assert np.abs(whole["heatmap"] - whole["heatmap1"]).max() > 1e-3


def test_the_articles_network_has_its_layers():
    head = Recurrent(trunk="article")
    config = PoseConfig(crop_height=249, crop_width=249, head=head)
    limbs = tuple((i, i + 1) for i in range(15))
    joints = tuple(f"joint {i}" for i in range(16))
    mpii = Skeleton(joints, tuple(range(16)), limbs, (0.1,) * 16)
    network = PoseTask(config, mpii)
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]
    assert params.keys() == {"trunk", "recurrence"}
    kernels = {
        (part, name): layer["kernel"].shape
        for part, layers in params.items()
        for name, layer in layers.items()
        if "kernel" in layer
    }
    assert kernels == {
        ("trunk", "conv1"): (3, 3, 3, 64),
        ("trunk", "conv2"): (3, 3, 64, 64),
        ("trunk", "conv3"): (3, 3, 64, 64),
        ("trunk", "conv4"): (3, 3, 64, 128),
        ("trunk", "conv5"): (3, 3, 128, 128),
        ("trunk", "conv6"): (3, 3, 128, 128),
        ("trunk", "conv7"): (9, 9, 128, 256),
        ("trunk", "conv8"): (9, 9, 256, 512),
        ("recurrence", "hidden0"): (1, 1, 512, 256),
        ("recurrence", "hidden1"): (1, 1, 256, 256),
        ("recurrence", "conv0"): (7, 7, 384, 64),
        ("recurrence", "conv1"): (13, 13, 64, 64),
        ("recurrence", "conv2"): (13, 13, 64, 128),
        ("recurrence", "end"): (1, 1, 128, 256),
        **{("recurrence", f"{part}_heatmap"): (1, 1, 256, 16) for part in ("forward", "recurrent")},
        **{("recurrence", f"{part}_limbs"): (1, 1, 256, 15) for part in ("forward", "recurrent")},
    }
    image = jax.ShapeDtypeStruct((1, 249, 249, 3), jnp.uint8)
    variables = jax.eval_shape(network.init, jax.random.key(0))
    maps = jax.eval_shape(network.predict, variables, image)
    assert maps["heatmap"].shape == (1, 63, 63, 16)


def test_limb_maps_may_be_left_out():
    head = dataclasses.replace(HEAD, limb_weight=0.0)
    network = PoseTask(dataclasses.replace(task("recurrent").config, head=head), FACE)
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]["recurrence"]
    assert not any("limbs" in name for name in params)


def test_a_perfect_map_scores_one():
    crop = labels()._replace(keypoints=jnp.array([[8.0, 8.0], [16.0, 40.0], [24.0, 20.0]]))
    maps = {"heatmap": HEAD.targets(crop, GRID, FACE).heatmap}
    poses = HEAD.decode(maps, Reading(GRID, FACE.sigmas, 1.0, "argmax"))
    np.testing.assert_allclose(poses.keypoint_scores, 1, rtol=1e-6)
    np.testing.assert_array_equal(poses.keypoints, crop.keypoints)
    lost = {"heatmap": maps["heatmap"].at[3, 3, 1].set(jnp.nan)}
    poses = HEAD.decode(lost, Reading(GRID, FACE.sigmas, 1.0, "dark"))
    assert np.isnan(poses.keypoint_scores).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read_iteration": 3}, "read_iteration = 3: must be between -1 and 2"),
        ({"kernels": (7, 4)}, r"kernels = \(7, 4\): must be odd"),
        ({"kernels": ()}, r"kernels = \(\): must be odd"),
        ({"iterations": -1}, "iterations = -1"),
        ({"loss_stride": 3}, "loss_stride = 3"),
        ({"limb_along": 0.0}, "limb_along = 0.0: must be positive"),
    ],
)
def test_impossible_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(**change)
