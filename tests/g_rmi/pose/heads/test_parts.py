"""DeeperCut's head: losses by hand, statistics in and out, decoding, odd keypoint sets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.head import Fitted, Reading
from g_rmi.pose.heads.parts import Parts, Pixels, square, vector_loss
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import Skeleton
from g_rmi.types import PoseBatch
from tests.g_rmi.pose.heads.test_heads import GRID, labels
from tests.networks import FACE
from tests.oracles import parts as oracle

HEAD = Parts(radius=8.0, loss_stride=8)


def test_vector_loss_by_hand():
    error = jnp.array([[[0.5, -3.0], [9.0, 9.0]], [[0.0, 1.0], [2.0, 0.0]]])
    include = jnp.array([[True, False], [True, True]])
    # Halves of squares up to 1, then linear: .125 + 2.5 + 0 + .5 + 1.5 + 0, of six coordinates.
    np.testing.assert_allclose(vector_loss(error, include), 4.625 / 6, rtol=1e-6)
    assert vector_loss(error, jnp.zeros((2, 2), bool)) == 0
    # SYSTEMS: (3, -4) pixels are (.4121, -.5494) standard deviations.
    np.testing.assert_allclose(np.array([3, -4]) / Parts().offset_std, [0.4121, -0.5494], atol=1e-4)


def test_targets_are_the_kernels_in_crop_pixels():
    truth = labels()._replace(visible=jnp.array([True, True, False]))
    targets = HEAD.targets(truth, GRID, FACE)
    small = np.asarray(truth.keypoints)[None] / 8
    wanted = oracle.part_targets(small, truth.visible[None], height=7, width=5, radius=1.0)
    for ours, theirs, scale in zip(targets[:5], wanted, (1, 8, 8, 1, 1)):
        np.testing.assert_allclose(ours, theirs * scale, atol=1e-4)


def test_losses_by_loops():
    rng, truth = np.random.default_rng(0), labels()
    truth = truth._replace(labelled=jnp.array([True, True, False]))
    targets = HEAD.targets(truth, GRID, FACE)
    maps = {
        "score": rng.normal(size=(7, 5, 3)),
        "offset": 20 * rng.normal(size=(7, 5, 3, 2)),
        "pairwise": 20 * rng.normal(size=(7, 5, 3, 3, 2)),
        "pairwise_std": rng.uniform(1, 9, (3, 3, 2)),
    }
    maps = {name: jnp.asarray(x, jnp.float32) for name, x in maps.items()}
    found = HEAD.losses(maps, targets, GRID)
    score, offsets, pairs = 0.0, [], []
    for i, j, a in np.ndindex(7, 5, 3):
        if a == 2:
            continue
        z = float(maps["score"][i, j, a])
        score += np.log1p(np.exp(z)) - z * float(targets.score[i, j, a])
        if not targets.inside[i, j, a]:
            continue
        offsets += ((maps["offset"] - targets.offset)[i, j, a] / HEAD.offset_std).tolist()
        for b in {0, 1} - {a}:
            away = (maps["pairwise"] - targets.pairwise)[i, j, a, b]
            pairs += (away / maps["pairwise_std"][a, b]).tolist()
    assert len(offsets) > 2

    def huber(errors):
        return np.mean([e * e / 2 if abs(e) < 1 else abs(e) - 0.5 for e in errors])

    np.testing.assert_allclose(found["score"], score / (7 * 5 * 3), rtol=1e-5)
    np.testing.assert_allclose(found["offset"], huber(offsets), rtol=1e-5)
    np.testing.assert_allclose(found["pairwise"], huber(pairs), rtol=1e-5)


@pytest.mark.parametrize("joints", [1, 2, 5])
def test_pairs_by_hand(joints):
    pairs = np.arange(2.0 * joints * (joints - 1)).reshape(1, -1, 2).astype(np.float32)
    found = np.asarray(square(jnp.asarray(pairs), joints, -1.0))
    for a in range(joints):
        for b in range(joints):
            at = (joints - 1) * a + b - (a < b)
            wanted = pairs[0, at] if a != b else [-1, -1]
            np.testing.assert_array_equal(found[0, a, b], wanted)


def test_statistics_are_what_makes_pixels():
    rng = np.random.default_rng(0)
    joints, seen = rng.normal(size=(50, 3, 2)) * [30, 9], rng.uniform(size=(50, 3)) < 0.8
    assert isinstance(HEAD, Fitted)
    measured = HEAD.statistics(joints, seen)["statistics"]["pairs"]
    values = jnp.asarray(rng.normal(size=(2, 2, 1, 6, 2)), jnp.float32)
    pixels, std = Pixels(3).apply({"statistics": measured}, values)
    means, deviations = oracle.pair_statistics(joints, seen)
    place = {pair: n for n, pair in enumerate((a, b) for a in range(3) for b in range(3) if a != b)}
    for a, b in np.ndindex(3, 3):
        if a == b:
            assert not np.any(pixels[..., a, b, :])
            np.testing.assert_array_equal(std[:, a, b], 1)
        else:
            given = np.asarray(values)[..., place[a, b], :]
            wanted = given * deviations[a, b] + means[a, b]
            np.testing.assert_allclose(pixels[..., a, b, :], wanted, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(std[0, a, b], deviations[a, b], rtol=1e-5)
    assert Parts(pairwise_weight=0.0).statistics(joints, seen) == {}
    assert HEAD.statistics(joints[:, :1], seen[:, :1]) == {}


def test_decoding_takes_the_maximum_and_its_offset():
    score = np.full((7, 5, 2), -5, np.float32)
    score[3, 2, 0], score[0, 4, 1] = 2.0, np.log(3)
    offset = jnp.tile(jnp.array([3.0, -4.0]), (7, 5, 2, 1))
    maps = {"score": jnp.asarray(score), "offset": offset}
    how = Reading(GRID, (0.05,) * 2, 1.0, "argmax_offset")
    poses = HEAD.decode(maps, how)
    np.testing.assert_allclose(poses.keypoints, [[16 + 3, 24 - 4], [32 + 3, 0 - 4]], atol=1e-4)
    np.testing.assert_allclose(poses.keypoint_scores, [1 / (1 + np.exp(-2)), 0.75], rtol=1e-5)
    np.testing.assert_allclose(poses.scores, poses.keypoint_scores.mean(), rtol=1e-5)
    plain = HEAD.decode(maps, how._replace(decoding="argmax"))
    np.testing.assert_allclose(plain.keypoints, [[16, 24], [32, 0]])
    maps["score"] = maps["score"].at[..., 1].set(jnp.nan)
    broken = HEAD.decode(maps, how)
    assert np.isnan(broken.keypoint_scores[1])
    assert np.isnan(broken.scores)
    np.testing.assert_allclose(broken.keypoints[0], poses.keypoints[0])


@pytest.mark.parametrize("joints", [1, 133])
@pytest.mark.parametrize("skip", [False, True])
def test_maps_of_stride_eight_for_any_keypoints(joints, skip):
    """Off features of stride 16: shapes of a step, and of the maps."""
    names = tuple(f"k{i}" for i in range(joints))  # none of which is another's mirror image
    skeleton = Skeleton.create(names, limbs=(), sigmas=(0.05,) * joints)
    head = dataclasses.replace(HEAD, skip=skip)
    config = PoseConfig(
        backbone=ResNetConfig(depth=26, width=4),
        output_stride=16,
        crop_height=49,
        crop_width=33,
        head=head,
    )
    task = PoseTask(config, skeleton)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    names = {"score", "offset", "pairwise", "intermediate"} - (
        {"pairwise"} if joints == 1 else set()
    )
    heads = names | ({f"{name}_skip" for name in names} if skip else set())
    assert variables["params"].keys() - {"trunk"} == heads
    assert variables["params"]["score"]["kernel"].shape[:2] == (3, 3)
    image = jax.ShapeDtypeStruct((2, 49, 33, 3), jnp.uint8)
    maps = jax.eval_shape(lambda v, x: task.predict(v, x, flip_test=True), variables, image)
    assert maps["pairwise"].shape == (2, 7, 5, joints, joints, 2)
    poses = jax.eval_shape(task.decode, maps)
    assert poses.keypoints.shape == (2, joints, 2)
    array = jax.ShapeDtypeStruct
    batch = PoseBatch(
        image,
        array((2, joints, 2), jnp.float32),
        *(array((2, joints), bool) for _ in range(4)),
        array((2, 1, joints, 2), jnp.float32),
        array((2, 1, joints), bool),
        array((2,), jnp.float32),
    )
    state = {name: tree for name, tree in variables.items() if name != "params"}
    step = lambda p, s, b: task.loss(p, s, b, jax.random.key(0), train=True)  # noqa: E731
    loss, (after, terms) = jax.eval_shape(step, variables["params"], state, batch)
    assert loss.shape == ()
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert terms.keys() == {"loss", "score", "offset", "pairwise", "intermediate"}


def test_weights_files_keep_the_statistics_exactly():
    config = PoseConfig(backbone=ResNetConfig(depth=26, width=4), output_stride=16, head=HEAD)
    shapes = jax.eval_shape(PoseTask(config, FACE).init, jax.random.key(0))
    assert {x.ndim for x in jax.tree.leaves(shapes["statistics"])} == {1}  # see `write_weights`


def test_nobody_in_the_crop_teaches_the_scores_alone():
    truth = labels()._replace(visible=jnp.zeros(3, bool))
    head = dataclasses.replace(HEAD, loss_stride=4)
    maps = {
        "score": jnp.zeros((13, 9, 3)),
        "offset": jnp.ones((13, 9, 3, 2)),
        "pairwise": jnp.ones((13, 9, 3, 3, 2)),
        "pairwise_std": jnp.ones((3, 3, 2)),
    }
    found = head.losses(maps, head.targets(truth, GRID, FACE), GRID)
    np.testing.assert_allclose(found["score"], np.log(2), rtol=1e-5)
    assert found["offset"] == found["pairwise"] == 0
