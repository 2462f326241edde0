"""Targets of parts of many people, and statistics of pairs, against loops."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.parts import pair_statistics, part_targets
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import parts as oracle

SIZE = {"height": 9, "width": 7}
compiled = jax.jit(partial(part_targets, **SIZE))


def random_people(rng, people, joints):
    # Some joints lie outside the map, and their disks still reach in.
    keypoints = rng.uniform(-3, 11, (people, joints, 2)).astype(np.float32)
    return keypoints, rng.uniform(size=(people, joints)) < 0.7


@pytest.mark.parametrize(
    ("people", "joints", "radius"), [(0, 3, 3.0), (1, 1, 0.5), (1, 4, 3.0), (2, 3, 30.0), (7, 3, 3)]
)
def test_equals_the_oracle(people, joints, radius):
    keypoints, visible = random_people(np.random.default_rng(people), people, joints)
    ours = compiled(keypoints, visible, radius=radius)
    theirs = oracle.part_targets(keypoints, visible, radius=radius, **SIZE)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_nearest_joint_wins_and_the_first_of_equals():
    keypoints = np.float32([[[1, 4], [6, 0]], [[5, 4], [0, 8]]])
    found = compiled(keypoints, np.ones((2, 2), bool), radius=3.0)
    for column, nearest in ((2, 0), (3, 0), (4, 1)):  # 3 lies in the middle
        here = [column, 4]
        np.testing.assert_array_equal(found.offset[4, column, 0], keypoints[nearest, 0] - here)
        np.testing.assert_array_equal(found.pairwise[4, column, 0, 1], keypoints[nearest, 1] - here)


def test_sizes_of_disks():
    # SYSTEMS' arithmetic: r = 14.37 pixels at stride 8 covers 9 cells around a cell's centre and 12
    # around a corner; the rim belongs to the disk.
    keypoints = np.float32([[[3, 4], [2.5, 4.5]]])
    found = compiled(keypoints, np.ones((1, 2), bool), radius=14.37 / 8)
    np.testing.assert_array_equal(np.asarray(found.score).sum((0, 1)), [9, 12])
    rim = compiled(keypoints, np.ones((1, 2), bool), radius=2.0)
    assert rim.inside[4, 5, 0]


def test_joints_that_are_missing_impossible_or_far():
    keypoints = np.float32([[[np.nan, 3], [3, 3], [1e30, 0], [3, 4]]])
    visible = np.array([[True, False, True, True]])
    found = compiled(keypoints, visible, radius=2.0)
    assert not np.any(found.inside[..., :3])
    assert all(np.isfinite(x).all() for x in found)
    np.testing.assert_array_equal(np.flatnonzero(found.known.any((0, 1))), [4 * 3 + 2])
    nobody = compiled(keypoints, np.zeros((1, 4), bool), radius=2.0)
    assert not any(np.any(x) for x in nobody)


def test_contract():
    rng = np.random.default_rng(0)
    kernel = partial(part_targets, radius=3.0, **SIZE)
    check_contract(kernel, random_people(rng, 3, 2), random_people(rng, 3, 2))


@pytest.mark.parametrize(("people", "joints"), [(0, 3), (1, 3), (2, 1), (64, 7)])
def test_pair_statistics_equal_the_oracle(people, joints):
    rng = np.random.default_rng(people)
    keypoints, visible = random_people(rng, people, joints)
    keypoints[~visible] = np.nan
    visible[:, 2:3] = False  # pairs that nobody has
    for ours, theirs in zip(
        pair_statistics(20 * keypoints, visible), oracle.pair_statistics(20 * keypoints, visible)
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
