"""Decoding against a composition of the loop oracles, round trips, mirrors and odd inputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.ops.heatmaps import disk_targets
from g_rmi.ops.oks import oks
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.finders import HoughVotes, OksKernel, kernel_sigmas
from g_rmi.pose.heads.head import Reading
from g_rmi.skeleton import COCO
from g_rmi.types import Grid
from tests.g_rmi.ops.contract import check_contract
from tests.g_rmi.pose.heads.maps import kinds, peaked_maps
from tests.oracles import hough as hough_oracle
from tests.oracles import image as image_oracle

RADIUS = 6.0
GRID = {"h": 6, "w": 5, "stride": 4, "radius": RADIUS}
OPTIONS = {"height": 21, "width": 17, "radius": RADIUS}
JOINTS = 3
# OKS fall-offs for which the kernels of the crop of `OPTIONS` are so wide.
SPREAD = np.float32([1.5, 3.0, 5.0])
SIGMAS = tuple((SPREAD / kernel_sigmas([1.0], Grid(21, 17), box_scale=1.0)).tolist())
KERNEL = {**OPTIONS, "method": "hough_oks"}


def decode(logits, offset, *, height, width, radius, method="hough", sigmas=SIGMAS):
    how = Reading(Grid(height, width), sigmas, 1.0, method)
    maps = {"heatmap": jnp.asarray(logits), "offset": jnp.asarray(offset)}
    return Disks(radius=radius).decode(maps, how)


run = jax.jit(decode, static_argnames=("height", "width", "radius", "method", "sigmas"))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def oracle_maps(logits, offset, *, height, width, radius):
    """Up-sampled heatmaps, up-sampled offsets and vote maps, by loops."""
    size = {"height": height, "width": width}
    h, w, joints = logits.shape
    heatmap = sigmoid(image_oracle.resize_align_corners(logits, **size))
    full = image_oracle.resize_align_corners(offset.reshape(h, w, 2 * joints), **size)
    full = full.reshape(height, width, joints, 2)
    return heatmap, full, hough_oracle.hough_vote(heatmap, full, radius=radius)


@pytest.fixture(scope="module")
def maps():
    logits, offset, _ = peaked_maps(
        np.random.default_rng(0), **GRID, joints=JOINTS, people=2, noise=0.2
    )
    return (logits, offset, *oracle_maps(logits, offset, **OPTIONS))


def peak(values):
    return np.unravel_index(values.argmax(), values.shape)


def test_votes_equal_the_oracles(maps):
    logits, offset, _, _, votes = maps
    ours = HoughVotes(RADIUS).whole(jnp.asarray(logits), jnp.asarray(offset), Grid(21, 17))
    np.testing.assert_allclose(ours, votes, atol=1e-5)


def test_hough_takes_the_maximum_of_the_votes(maps):
    logits, offset, _, _, votes = maps
    poses = run(logits, offset, **OPTIONS)
    for k in range(JOINTS):
        y, x = peak(votes[..., k])
        np.testing.assert_array_equal(poses.keypoints[k], [x, y])
        assert poses.keypoint_scores[k] == pytest.approx(votes[y, x, k], rel=1e-4)
    assert poses.scores == pytest.approx(votes.max((0, 1)).mean(), rel=1e-4)


def test_argmax_and_its_offset(maps):
    logits, offset, heatmap, full, _ = maps
    plain = run(logits, offset, **OPTIONS, method="argmax")
    moved = run(logits, offset, **OPTIONS, method="argmax_offset")
    for k in range(JOINTS):
        y, x = peak(heatmap[..., k])
        np.testing.assert_array_equal(plain.keypoints[k], [x, y])
        np.testing.assert_allclose(moved.keypoints[k], full[y, x, k] + [x, y], atol=1e-4)
        for poses in (plain, moved):
            assert poses.keypoint_scores[k] == pytest.approx(heatmap[y, x, k], rel=1e-5)


def test_sizes_off_the_grid_vote_from_everywhere(maps):
    logits, offset, *_ = maps
    size = {"height": 19, "width": 23, "radius": RADIUS}
    votes = oracle_maps(logits, offset, **size)[2]
    poses = run(logits, offset, **size)
    for k in range(JOINTS):
        np.testing.assert_array_equal(poses.keypoints[k], peak(votes[..., k])[::-1])
        assert poses.keypoint_scores[k] == pytest.approx(votes[..., k].max(), rel=1e-4)


def test_from_targets_to_votes_to_keypoints_within_half_a_pixel():
    rng = np.random.default_rng(0)
    stride, radius = 8, 20.0
    size = {"height": 9 * stride + 1, "width": 7 * stride + 1}
    low, high = radius, np.array([size["width"], size["height"]]) - 1 - radius
    keypoints = rng.uniform(low, high, (9, 2)).astype(np.float32)
    heatmap, offset, _ = disk_targets(
        keypoints / stride, np.ones(9, bool), height=10, width=8, radius=radius / stride
    )
    logits = 20 * heatmap - 10
    sigmas = (0.05,) * 9
    paper, ours = (
        run(logits, offset * stride, **size, radius=radius, method=method, sigmas=sigmas)
        for method in ("hough", "hough_oks")
    )
    np.testing.assert_allclose(paper.keypoints, np.round(keypoints), atol=0)
    np.testing.assert_allclose(ours.keypoints, keypoints, atol=0.1)


@pytest.mark.parametrize("method", ["hough", "hough_oks", "argmax", "argmax_offset"])
def test_mirrored_maps_give_mirrored_poses(maps, method):
    logits, offset, *_ = maps
    options = {**OPTIONS, "method": method}
    poses = run(logits, offset, **options)
    mirrored = run(logits[:, ::-1], offset[:, ::-1] * np.float32([-1, 1]), **options)
    expected = np.array([OPTIONS["width"] - 1, 0]) + np.asarray(poses.keypoints) * [-1, 1]
    np.testing.assert_allclose(mirrored.keypoints, expected, atol=1e-4)
    np.testing.assert_allclose(mirrored.keypoint_scores, poses.keypoint_scores, rtol=1e-5)


def expected_oks(logits, offset, k, points, spread=None):
    """OKS of some points with where each position says joint k is, averaged over all votes."""
    h, w = logits.shape[:2]
    stride, sigma = GRID["stride"], COCO.sigmas[k]
    here = stride * np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1)
    targets = (here + offset[:, :, k]).reshape(-1, 1, 2)
    weights = sigmoid(logits[..., k]).ravel() * stride**2 / (np.pi * RADIUS**2)
    weights /= max(weights.sum(), 1)
    last = [OPTIONS["width"] - 1, OPTIONS["height"] - 1]
    weights *= ((targets >= 0) & (targets <= last)).all(axis=(1, 2))
    # Of a person to whom the kernel is OKS.
    area = ((SPREAD[k] if spread is None else spread) / (2 * sigma)) ** 2
    each = jax.vmap(lambda gt: oks(gt, np.ones(1, bool), area, points[:, None], sigmas=[sigma]))
    return weights @ np.asarray(each(targets.astype(np.float32)), np.float64)


def test_the_kernel_of_oks_finds_the_greatest_expected_oks(maps):
    logits, offset, *_ = maps
    poses = run(logits, offset, **KERNEL)
    steps = np.arange(-2, 2.01, 0.25)
    for k in range(JOINTS):
        found = np.asarray(poses.keypoints[k])
        score = float(poses.keypoint_scores[k])
        assert score == pytest.approx(expected_oks(logits, offset, k, found[None])[0], rel=1e-4)
        # Nothing better near it, nor at the maps' own positions, where the climb began.
        near = found + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        y, x = np.mgrid[: OPTIONS["height"] : 4, : OPTIONS["width"] : 4]
        grid = np.stack([x, y], axis=-1).reshape(-1, 2)
        for points in (near, grid):
            assert expected_oks(logits, offset, k, points.astype(np.float32)).max() < score + 1e-3
    # The pose's score is the same sum for a narrow kernel, as if of a person of such an area.
    agreement = [
        expected_oks(
            logits, offset, k, np.asarray(poses.keypoints[k : k + 1]), spread=0.15 * RADIUS
        )
        for k in range(JOINTS)
    ]
    np.testing.assert_allclose(poses.scores, np.mean(agreement), rtol=1e-4)
    assert poses.scores < np.mean(poses.keypoint_scores)


def test_the_whole_maps_of_the_kernel_of_oks(maps):
    logits, offset, *_ = maps
    kernel = OksKernel(RADIUS, tuple(SPREAD.tolist()))
    votes = np.asarray(kernel.whole(jnp.asarray(logits), jnp.asarray(offset), Grid(21, 17)))
    y, x = np.mgrid[: OPTIONS["height"], : OPTIONS["width"]]
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
    found = np.asarray(run(logits, offset, **KERNEL).keypoints)
    for k in range(JOINTS):
        expected = expected_oks(logits, offset, k, pixels).reshape(votes.shape[:2])
        np.testing.assert_allclose(votes[..., k], expected, atol=1e-5)
        top = np.unravel_index(np.argmax(expected), expected.shape)[::-1]
        assert np.abs(top - found[k]).max() < 1  # what `decode` finds between the pixels


def test_scattered_votes_win_over_fewer_that_coincide():
    h, w, stride = GRID["h"], GRID["w"], GRID["stride"]
    here = stride * np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1)
    logits = np.full((h, w, 1), -20, np.float32)
    targets = here.astype(np.float32)[:, :, None]
    logits[0, :3] = logits[3:, :2] = 5
    targets[0, :3] = [15, 2]
    targets[3:, :2, 0] = [4, 13] + 2 * np.random.default_rng(4).normal(size=(3, 2, 2))
    offset = targets - here.astype(np.float32)[:, :, None]
    options = {**OPTIONS, "sigmas": SIGMAS[1:2]}
    paper, ours = (run(logits, offset, **options, method=m) for m in ("hough", "hough_oks"))
    assert np.linalg.norm(np.asarray(paper.keypoints[0]) - [15, 2]) < 1
    assert np.linalg.norm(np.asarray(ours.keypoints[0]) - [4, 13]) < 3


def test_the_kernels_follow_oks_and_the_crop():
    sigmas = kernel_sigmas(COCO.sigmas, Grid(161, 129), box_scale=1.0)
    # By hand: three quarters of 2 sigma s, with s = .56 sqrt(161 * 129) pixels.
    np.testing.assert_allclose(sigmas[0], 0.75 * 2 * 0.026 * 0.56 * 144.114537, rtol=1e-5)
    np.testing.assert_allclose(sigmas / sigmas[0], COCO.sigmas / np.array(0.026), rtol=1e-5)
    larger = kernel_sigmas(COCO.sigmas, Grid(161, 129), box_scale=1.25)
    np.testing.assert_allclose(larger, sigmas / 1.25, rtol=1e-6)


def test_a_joint_without_finite_maps_has_no_score(maps):
    logits, offset, *_ = maps
    expected = run(logits, offset, **OPTIONS)
    broken_logits, broken_offset = logits.copy(), offset.copy()
    broken_logits[2, 3, 0] = np.inf
    broken_offset[1, 1, 2, 0] = np.nan
    poses = run(broken_logits, broken_offset, **OPTIONS)
    np.testing.assert_array_equal(np.isnan(poses.keypoint_scores), [True, False, True])
    assert np.isnan(poses.scores)
    assert np.isfinite(poses.keypoints).all()
    np.testing.assert_array_equal(poses.keypoints[1], expected.keypoints[1])


def test_an_unknown_decoding_is_refused(maps):
    logits, offset, *_ = maps
    with pytest.raises(ValueError, match=r"'hugh': not one of the head 'disks'; did you mean 'hou"):
        run(logits, offset, **OPTIONS, method="hugh")


def test_no_joints():
    nothing = np.zeros((3, 3, 0)), np.zeros((3, 3, 0, 2))
    poses = run(*nothing, height=9, width=9, radius=2.0, sigmas=())
    assert poses.keypoints.shape == (0, 2)
    assert poses.scores == 0


def test_a_batch_is_decoded_crop_by_crop():
    batch = kinds(np.random.default_rng(1), **GRID, joints=JOINTS)
    batch = [batch[name] for name in ("one person", "three people", "untrained", "flat")]
    logits, offset = (np.stack(maps) for maps in zip(*batch))
    for options in (OPTIONS, KERNEL):
        poses = jax.jit(jax.vmap(partial(decode, **options)))(logits, offset)
        for row, maps in enumerate(batch):
            single = run(*maps, **options)
            for a, b in zip(*map(jax.tree.leaves, (poses, single)), strict=True):
                np.testing.assert_allclose(a[row], b, atol=1e-4)
    empty = jax.vmap(partial(decode, **OPTIONS))(logits[:0], offset[:0])
    assert empty.keypoints.shape == (0, JOINTS, 2)


def cases():
    rng = np.random.default_rng(2)
    return [peaked_maps(rng, **GRID, joints=JOINTS, noise=0.1)[:2] for _ in range(2)]


@pytest.mark.parametrize("method", ["hough", "hough_oks", "argmax"])
def test_contract(method):
    kernel = partial(decode, **OPTIONS, method=method)
    check_contract(kernel, *cases(), eager=method == "argmax", coarse=False)


@pytest.mark.slow
def test_without_jit():
    check_contract(partial(decode, **OPTIONS), *cases())


def test_sixteen_bit_maps_are_decoded_in_float32():
    logits, offset, _ = peaked_maps(np.random.default_rng(3), **GRID, joints=JOINTS)
    low = [jnp.asarray(m, jnp.bfloat16) for m in (logits, offset)]
    poses = run(*low, **OPTIONS)
    expected = run(*[m.astype(jnp.float32) for m in low], **OPTIONS)
    for a, b in zip(poses, expected):
        np.testing.assert_array_equal(a, b)
