"""Hough votes against the loop oracle: values, gradients, what falls outside, round trips."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.ops.heatmaps import disk_targets
from g_rmi.ops.hough import gaussian_vote, hough_vote, mean_shift
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import hough as oracle

vote = jax.jit(hough_vote)


def random_maps(rng, shape, spread=3.0):
    heatmap = rng.uniform(size=shape).astype(np.float32)
    return heatmap, rng.normal(scale=spread, size=(*shape, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "shape", [(0, 3, 2), (3, 2, 0), (1, 1, 1), (1, 7, 2), (7, 2, 1), (9, 8, 3), (17, 13, 17)]
)
def test_equals_the_oracle(shape):
    heatmap, offset = random_maps(np.random.default_rng(0), shape)
    ours = vote(heatmap, offset, radius=2.5)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, oracle.hough_vote(heatmap, offset, radius=2.5), atol=1e-5)


def test_whole_pixels_and_borders_by_hand():
    heatmap = np.ones((1, 5, 1), np.float32)
    x = np.array([-1.0, -0.25, 4.0, 4.75, 2.5], np.float32)  # targets of the five votes
    offset = np.stack([x - np.arange(5, dtype=np.float32), np.zeros(5, np.float32)], axis=-1)
    votes = vote(heatmap, offset[None, :, None], radius=1.0)
    expected = np.array([0.75, 0, 0.5, 0.5, 1.25]) / np.pi
    np.testing.assert_allclose(votes[0, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38, 2.0**31, -(2.0**33), 1e5])
@pytest.mark.parametrize("axis", [0, 1])
def test_wild_offsets_are_dropped_and_leave_the_others_alone(bad, axis):
    heatmap, offset = random_maps(np.random.default_rng(1), (9, 8, 3))
    offset[2, 3, 1, axis] = offset[8, 7, 0, axis] = bad
    ours = vote(heatmap, offset, radius=2.0)
    np.testing.assert_allclose(ours, oracle.hough_vote(heatmap, offset, radius=2.0), atol=1e-5)


def test_the_mass_is_kept_where_all_votes_land_inside():
    heatmap, _ = random_maps(np.random.default_rng(2), (17, 13, 2))
    y, x = np.mgrid[:17, :13]
    inwards = np.stack([6 - x, 8 - y], axis=-1)[:, :, None] * np.float32(0.3)
    votes = vote(heatmap, np.repeat(inwards, 2, axis=2), radius=2.0)
    mass = heatmap.sum((0, 1)) / (np.pi * 2.0**2)
    np.testing.assert_allclose(votes.sum((0, 1)), mass, rtol=1e-4)


def test_a_disk_votes_for_its_joint():
    keypoints = np.array([[30.0, 28.0], [21.25, 40.5]], np.float32)
    heatmap, offset, _ = disk_targets(keypoints, np.ones(2, bool), height=65, width=57, radius=12.0)
    votes = np.asarray(vote(heatmap, offset, radius=12.0))
    assert votes[28, 30, 0] == pytest.approx(1, abs=0.05)
    patch = votes[40:42, 21:23, 1] / votes[..., 1].sum()
    np.testing.assert_allclose(patch, [[0.375, 0.125], [0.375, 0.125]], atol=1e-4)


def test_the_flip_is_exact():
    heatmap, offset = random_maps(np.random.default_rng(3), (9, 8, 3))
    mirrored = vote(heatmap[:, ::-1], offset[:, ::-1] * np.float32([-1, 1]), radius=2.0)
    np.testing.assert_allclose(mirrored[:, ::-1], vote(heatmap, offset, radius=2.0), atol=1e-6)


def test_gradients_equal_the_oracles_finite_differences():
    rng = np.random.default_rng(4)
    heatmap, offset = random_maps(rng, (6, 5, 2), spread=1.5)
    offset[3, 2, 0] = 1e9
    offset[0, 1, 1, 0] = np.nan
    weight = rng.normal(size=heatmap.shape).astype(np.float32)

    def loss(heatmap, offset):
        return jnp.sum(weight * hough_vote(heatmap, offset, radius=2.0))

    by_heatmap, by_offset = jax.jit(jax.grad(loss, argnums=(0, 1)))(heatmap, offset)

    def slope(inputs, index, step=1e-4):
        ends = []
        for sign in (-1, 1):
            moved = [np.array(x, np.float64) for x in (heatmap, offset)]
            moved[inputs][index] += sign * step
            ends.append(np.sum(weight * oracle.hough_vote(*moved, radius=2.0)))
        return (ends[1] - ends[0]) / (2 * step)

    for index in [(0, 0, 0), (2, 3, 1), (3, 2, 0), (5, 4, 1)]:
        assert by_heatmap[index] == pytest.approx(slope(0, index), abs=1e-4)
        for axis in (0, 1):
            assert by_offset[(*index, axis)] == pytest.approx(slope(1, (*index, axis)), abs=1e-4)
    assert np.isfinite(by_heatmap).all()
    np.testing.assert_array_equal(by_offset[0, 1, 1], [0, 0])


def test_contract():
    rng = np.random.default_rng(0)
    kernel = partial(hough_vote, radius=2.0)
    check_contract(kernel, random_maps(rng, (9, 7, 3)), random_maps(rng, (9, 7, 3)))


def random_votes(rng, count=60):
    targets = rng.normal([20, 12], [9, 6], (count, 2)).astype(np.float32)
    return rng.uniform(size=count).astype(np.float32), targets


ROWS, COLUMNS = np.float32([-2, 0, 5, 11.5]), np.float32([3, 18, 40])


def felt(weights, targets, points, sigma):
    """The sum of Gaussian votes at some points, in float64."""
    square = np.square(points[..., None, :] - targets.astype(float)).sum(-1)
    return (weights * np.exp(-square / (2 * sigma**2))).sum(-1)


def test_gaussian_votes_equal_the_sum_point_by_point():
    weights, targets = random_votes(np.random.default_rng(5))
    points = np.stack(np.meshgrid(COLUMNS, ROWS), axis=-1).astype(float)
    for sigma in (0.5, 3.0, 50.0):
        votes = gaussian_vote(weights, targets, rows=ROWS, columns=COLUMNS, sigma=sigma)
        np.testing.assert_allclose(votes, felt(weights, targets, points, sigma), atol=1e-5)


def test_a_narrow_gaussian_is_the_paper_s_vote():
    """Of a vote for a whole pixel that pixel gets all, by either kernel."""
    rng = np.random.default_rng(6)
    heatmap = rng.uniform(size=(6, 5, 1)).astype(np.float32)
    here = np.stack(np.meshgrid(np.arange(5), np.arange(6)), axis=-1)
    targets = rng.integers(0, 5, (6, 5, 2))
    offset = (targets - here).astype(np.float32)[:, :, None]
    grid = {"rows": np.arange(6), "columns": np.arange(5)}
    narrow = gaussian_vote(heatmap.ravel(), targets.reshape(-1, 2), **grid, sigma=0.2)
    whole = vote(heatmap, offset, radius=2.0)[..., 0]
    np.testing.assert_allclose(narrow / (np.pi * 4), whole, atol=1e-4)


def test_mean_shift_never_goes_down_and_ends_on_a_top():
    rng = np.random.default_rng(7)
    climb = jax.jit(mean_shift, static_argnames="steps")
    for _ in range(5):
        weights, targets = random_votes(rng)
        start, sigma = rng.normal([20, 12], 8, 2).astype(np.float32), 4.0
        heights = [
            climb(start, weights, targets, sigma=sigma, steps=steps)[1] for steps in (0, 1, 4, 200)
        ]
        assert np.all(np.diff(heights) >= -1e-5)
        point, height = climb(start, weights, targets, sigma=sigma, steps=200)
        assert height == pytest.approx(felt(weights, targets, np.float64(point), sigma), rel=1e-5)
        around = np.stack(np.meshgrid([-0.3, 0, 0.3], [-0.3, 0, 0.3]), axis=-1)
        assert felt(weights, targets, np.float64(point) + around, sigma).max() <= height * 1.0001


def test_out_of_reach_of_all_votes_mean_shift_stays():
    weights, targets = random_votes(np.random.default_rng(8))
    for start, some in (([3e4, 0.0], weights), ([20.0, 12.0], 0 * weights)):
        point, height = mean_shift(np.float32(start), some, targets, sigma=2.0, steps=3)
        np.testing.assert_array_equal(point, np.float32(start))
        assert height == 0


@pytest.mark.parametrize(
    "kernel",
    [
        partial(gaussian_vote, rows=ROWS, columns=COLUMNS, sigma=3.0),
        partial(mean_shift, np.float32([18, 10]), sigma=6.0, steps=3),
    ],
)
def test_contract_of_gaussian_votes(kernel):
    rng = np.random.default_rng(9)
    check_contract(kernel, random_votes(rng), random_votes(rng))
