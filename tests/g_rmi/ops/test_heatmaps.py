"""Disk, Gaussian and limb targets against the loop oracles."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.ops.heatmaps import disk_targets, gaussian_targets, limb_targets
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


WIDTHS = {"along": 0.15, "across": 0.08}


@pytest.mark.parametrize(("joints", "limbs"), [(0, 0), (1, 0), (2, 1), (7, 2), (64, 7), (7, 64)])
def test_limbs_equal_the_oracle(joints, limbs):
    rng = np.random.default_rng(joints)
    keypoints, visible = random_joints(rng, joints)
    ends = rng.integers(0, max(joints, 1), (limbs, 2))
    ends = [(int(a), int(b)) for a, b in ends]  # some from a joint to itself
    options = {"limbs": ends, **WIDTHS, **SIZE}
    ours = jax.jit(partial(limb_targets, **options))(keypoints, visible)
    theirs = oracle.limb_targets(keypoints, visible, **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_limbs_by_hand():
    # Of length 10, 1.5 wide along and .8 across: lying, standing, and falling from left to right.
    keypoints = np.float32([[-1, 6], [9, 6], [4, 1], [4, 11], [1, 2], [7, 10]])
    limbs = [(0, 1), (2, 3), (4, 5)]
    lying, standing, falling = np.moveaxis(
        limb_targets(keypoints, np.ones(6, bool), limbs=limbs, **WIDTHS, **SIZE), -1, 0
    )
    for each in (lying, standing, falling):
        np.testing.assert_allclose(each[6, 4], 1)
    long, wide = np.exp(-((3 / 1.5) ** 2) / 2), np.exp(-((1 / 0.8) ** 2) / 2)
    np.testing.assert_allclose([lying[6, 7], standing[9, 4]], long, rtol=1e-5)
    np.testing.assert_allclose([lying[7, 4], standing[6, 5]], wide, rtol=1e-5)
    # y points down: towards (7, 10) it shines, towards (7, 2) it does not.
    np.testing.assert_allclose(falling[10, 7], np.exp(-((5 / 1.5) ** 2) / 2), rtol=1e-4)
    assert falling[2, 7] < 1e-6
    turned = limb_targets(keypoints, np.ones(6, bool), limbs=[(5, 4)], **WIDTHS, **SIZE)
    np.testing.assert_allclose(turned[..., 0], falling, atol=1e-6)


def test_limbs_with_hidden_or_impossible_ends_or_no_length_are_nothing():
    keypoints = np.float32(
        [[np.nan, 3], [np.inf, 3], [4, 6], [1e30, 0], [4, 6], [8, 12], [3e38, 9]]
    )
    visible = np.array([True, True, True, True, True, False, True])
    limbs = [(0, 2), (1, 2), (2, 4), (2, 5), (2, 3), (2, 6), (3, 6), (2, 2)]
    kernel = partial(limb_targets, limbs=limbs, **WIDTHS, **SIZE)
    assert np.isfinite(kernel(keypoints, visible)).all()
    assert not np.any(kernel(keypoints, visible)[..., [0, 1, 2, 3, 7]])
    assert not np.any(kernel(keypoints, np.zeros(7, bool)))
    gradient = jax.grad(lambda points: kernel(points, visible).sum())(keypoints)
    assert np.isfinite(gradient)[[2, 4, 5]].all()
    on_the_border = np.float32([[0, 0], [8, 0], [0, 12]])
    limbs = [(0, 1), (0, 2)]
    maps = limb_targets(on_the_border, np.ones(3, bool), limbs=limbs, **WIDTHS, **SIZE)
    np.testing.assert_allclose(np.asarray(maps)[[0, 6], [4, 0], [0, 1]], 1)


def test_contract_of_limbs():
    rng = np.random.default_rng(0)
    kernel = partial(limb_targets, limbs=((0, 1), (3, 2)), **WIDTHS, **SIZE)
    check_contract(kernel, random_joints(rng, 5), random_joints(rng, 5))
