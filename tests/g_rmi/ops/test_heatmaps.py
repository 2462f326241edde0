"""Disk and Gaussian targets against the loop oracles."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.heatmaps import disk_targets, gaussian_targets
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import heatmaps as oracle

SIZE = {"height": 13, "width": 9}


def random_joints(rng, joints):
    # Some lie outside the map, and their disks still reach in.
    return rng.uniform(-4, 16, (joints, 2)).astype(np.float32), rng.uniform(size=joints) < 0.7


@pytest.mark.parametrize(("joints", "radius"), [(0, 3.0), (1, 0.5), (2, 30.0), (7, 3.0), (64, 3.0)])
def test_equals_the_oracle(joints, radius):
    keypoints, visible = random_joints(np.random.default_rng(joints), joints)
    ours = jax.jit(partial(disk_targets, **SIZE))(keypoints, visible, radius=radius)
    theirs = oracle.disk_targets(keypoints, visible, radius=radius, **SIZE)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_rim_belongs_to_the_disk():
    keypoints = np.array([[4.0, 6.0]])
    heatmap, offset, inside = disk_targets(keypoints, np.array([True]), radius=5.0, **SIZE)
    assert inside[6 + 3, 4 + 4, 0]
    assert inside[6 - 5, 4, 0]
    assert not inside[6 - 5, 5, 0]
    np.testing.assert_array_equal(np.asarray(heatmap) == 1, inside)
    np.testing.assert_array_equal(offset[9, 8, 0], [-4, -3])


def test_hidden_and_impossible_joints_paint_nothing():
    keypoints = np.array([[np.nan, 3.0], [np.inf, 3.0], [4.0, 6.0], [1e30, 0.0]], np.float32)
    visible = np.array([True, True, False, True])
    heatmap, offset, inside = disk_targets(keypoints, visible, radius=5.0, **SIZE)
    assert not np.any(heatmap)
    assert not np.any(inside)
    assert not np.any(offset[..., :3, :])


def test_sizes_without_pixels():
    heatmap, offset, inside = disk_targets(
        np.zeros((3, 2)), np.ones(3, bool), height=0, width=4, radius=2.0
    )
    assert heatmap.shape == inside.shape == (0, 4, 3)
    assert offset.shape == (0, 4, 3, 2)


def test_contract():
    rng = np.random.default_rng(0)
    kernel = partial(disk_targets, radius=3.0, **SIZE)
    check_contract(kernel, random_joints(rng, 5), random_joints(rng, 5))


@pytest.mark.parametrize(("joints", "sigma"), [(0, 2.0), (1, 0.5), (2, 30.0), (7, 2.0), (64, 2.0)])
def test_gaussians_equal_the_oracle(joints, sigma):
    keypoints, visible = random_joints(np.random.default_rng(joints), joints)
    ours = jax.jit(partial(gaussian_targets, **SIZE))(keypoints, visible, sigma=sigma)
    theirs = oracle.gaussian_targets(keypoints, visible, sigma=sigma, **SIZE)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_gaussian_by_hand():
    keypoints = np.array([[4.0, 6.0], [-3.0, 6.0]])
    heatmap = gaussian_targets(keypoints, np.ones(2, bool), sigma=2.0, **SIZE)
    np.testing.assert_allclose(heatmap[6, 4, 0], 1)
    np.testing.assert_allclose(heatmap[6, [2, 6], 0], np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(heatmap[10, 4, 0], np.exp(-2), rtol=1e-6)
    np.testing.assert_allclose(heatmap[6, 0, 1], np.exp(-9 / 8), rtol=1e-6)  # from outside
    assert heatmap[12, 8, 0] > 0  # not cut off


def test_gaussians_of_hidden_and_impossible_joints_are_nothing():
    keypoints = np.array([[np.nan, 3.0], [np.inf, 3.0], [4.0, 6.0], [1e30, 0.0]], np.float32)
    visible = np.array([True, True, False, True])
    assert not np.any(gaussian_targets(keypoints, visible, sigma=2.0, **SIZE))
    empty = gaussian_targets(np.zeros((3, 2)), np.ones(3, bool), height=0, width=4, sigma=2.0)
    assert empty.shape == (0, 4, 3)


def test_contract_of_gaussians():
    rng = np.random.default_rng(0)
    kernel = partial(gaussian_targets, sigma=2.0, **SIZE)
    check_contract(kernel, random_joints(rng, 5), random_joints(rng, 5))
