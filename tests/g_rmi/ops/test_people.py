"""Candidates to people: the walk along the limbs and the assembly, against loops."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.assemble import assemble
from g_rmi.ops.tree_walk import tree_walk
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import bottom_up as oracle

LIMBS = ((0, 1), (1, 2), (1, 3), (2, 3))  # with a circle; joint 4 is connected to nobody
walk = jax.jit(partial(tree_walk, limbs=LIMBS, reach=15.0))
made = jax.jit(partial(assemble, count=6))


def case(rng, people=3, count=5, joints=5):
    """Candidates of people whose joints lie around them, among false ones."""
    centres = rng.uniform(0, 200, (people, 2))
    shape = rng.uniform(-30, 30, (joints, 2))
    points = rng.uniform(0, 200, (joints, count, 2))
    expected = rng.uniform(0, 200, (joints, count, joints, 2))
    valid = rng.uniform(size=(joints, count)) < 0.9
    for k in range(joints):
        for person, m in enumerate(rng.permutation(count)[:people]):
            points[k, m] = centres[person] + shape[k] + rng.normal(scale=3, size=2)
            expected[k, m] = points[k, m] - shape[k] + shape + rng.normal(scale=4, size=(joints, 2))
    logits = rng.normal(0.5, 1.5, (joints, count))
    return *(x.astype(np.float32) for x in (points, logits, expected)), valid


@pytest.mark.parametrize("size", [(0, 1, 5), (1, 1, 5), (2, 3, 5), (3, 5, 5), (6, 9, 5)])
def test_the_walk_equals_the_oracle(size):
    rng = np.random.default_rng(sum(size))
    for _ in range(8):
        inputs = case(rng, *size)
        labels = np.asarray(walk(*inputs))
        np.testing.assert_array_equal(labels, oracle.tree_walk(*inputs, limbs=LIMBS, reach=15.0))
        for name in set(labels.ravel().tolist()) - {-1}:
            assert name == np.flatnonzero(labels == name)[0]
            assert ((labels == name).sum(axis=1) <= 1).all()


def test_the_walk_without_candidates_and_ties():
    points, logits, expected, valid = case(np.random.default_rng(0))
    assert (walk(points, logits, expected, ~valid & False) == -1).all()
    assert (walk(points, np.full_like(logits, -1), expected, valid) == -1).all()
    assert walk(points[:, :0], logits[:, :0], expected[:, :0], valid[:, :0]).shape == (5, 0)
    nowhere = np.full_like(expected, np.nan)  # everybody by himself
    alone = np.asarray(walk(points, logits, nowhere, valid))
    assert np.isin(alone, [-1, *range(25)]).all()
    assert np.unique(alone[alone >= 0], return_counts=True)[1].max() == 1
    # Two candidates in one place: the first begins a person, the other is near him.
    same = np.zeros((1, 2, 2), np.float32), np.ones((1, 2), np.float32), np.zeros((1, 2, 1, 2))
    labels = tree_walk(*same, np.ones((1, 2), bool), limbs=(), reach=15.0)
    np.testing.assert_array_equal(labels, [[0, -1]])


def random_labels(rng, valid):
    labels = np.where(
        valid & (rng.uniform(size=valid.shape) < 0.9), rng.integers(0, 4, valid.shape), -1
    )
    for name in range(4):
        there = np.flatnonzero(labels == name)
        labels[labels == name] = there[0] + 1000 if len(there) else 0
    return np.where(labels >= 0, labels - 1000, -1).astype(np.int32)


def test_assembly_equals_the_oracle():
    rng = np.random.default_rng(1)
    for round in range(10):
        points, logits, expected, valid = case(rng)
        if round % 2:
            expected[rng.uniform(size=expected.shape) < 0.3] = np.nan
        labels = random_labels(rng, valid)
        poses, found = made(labels, points, logits, expected)
        people = oracle.assemble(labels, points, logits, expected)
        assert len(people) <= 6
        np.testing.assert_array_equal(found.any(axis=1), np.arange(6) < len(people))
        for i, (score, keypoints, scores, there) in enumerate(people):
            np.testing.assert_allclose(poses.scores[i], score, rtol=1e-5)
            np.testing.assert_allclose(poses.keypoint_scores[i], scores, rtol=1e-5)
            np.testing.assert_allclose(poses.keypoints[i], keypoints, rtol=1e-4, atol=1e-3)
            np.testing.assert_array_equal(found[i], there)
        for column in jax.tree.leaves(poses):
            assert (np.asarray(column[len(people) :]) == 0).all()


def test_more_people_than_there_is_room_for():
    points, logits, expected, _ = case(np.random.default_rng(2))
    labels = np.full((5, 5), -1, np.int32)
    labels[0] = range(5)  # five people of one joint each
    poses, found = assemble(labels, points, logits, expected, count=3)
    best = np.sort(jax.nn.sigmoid(logits[0]))[::-1][:3]
    np.testing.assert_allclose(poses.keypoint_scores[:, 0], best, rtol=1e-6)
    assert found.sum() == 3


def test_nobody():
    points, logits, expected, _ = case(np.random.default_rng(2))
    poses, found = assemble(np.full((5, 5), -1, np.int32), points, logits, expected, count=3)
    assert not found.any()
    assert all((np.asarray(column) == 0).all() for column in jax.tree.leaves(poses))
    empty = np.zeros((5, 0), np.int32), points[:, :0], logits[:, :0], expected[:, :0]
    poses, found = assemble(*empty, count=3)
    assert poses.keypoints.shape == (3, 5, 2)
    assert not found.any()


def test_contract():
    rng = np.random.default_rng(0)
    options = {"limbs": LIMBS, "reach": 15.0}
    check_contract(partial(tree_walk, **options), case(rng), case(rng), eager=False)

    def inputs():
        points, logits, expected, valid = case(rng)
        return random_labels(rng, valid), points, logits, expected

    check_contract(partial(assemble, count=6), inputs(), inputs(), eager=False, coarse=False)
