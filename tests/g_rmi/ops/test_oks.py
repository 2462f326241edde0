"""OKS against the loop oracle and against pycocotools."""

from functools import partial

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from g_rmi.ops.oks import oks, pairwise_oks
from g_rmi.skeleton import COCO
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import oks as oracle


def random_poses(rng, n, joints):
    base = rng.uniform(0, 100, (joints, 2))
    return (base + rng.normal(scale=8, size=(n, joints, 2))).astype(np.float32)


@pytest.mark.parametrize(
    ("n", "joints"), [(0, 17), (1, 1), (2, 0), (2, 2), (7, 17), (64, 7), (64, 17)]
)
def test_equals_the_oracle(n, joints):
    rng = np.random.default_rng(100 * n + joints)
    gt, poses = random_poses(rng, 1, joints)[0], random_poses(rng, n, joints)
    visible = rng.uniform(size=joints) < 0.6
    sigmas = COCO.sigmas[:joints]
    ours = jax.jit(partial(oks, sigmas=sigmas))(gt, visible, 1500.0, poses)
    theirs = oracle.oks(gt, visible, 1500.0, poses, sigmas=sigmas)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    if joints and n < 10:
        areas = rng.uniform(100, 5000, n).astype(np.float32)
        ours = jax.jit(partial(pairwise_oks, sigmas=sigmas))(poses, areas)
        theirs = oracle.pairwise_oks(poses, areas, sigmas=sigmas)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_equals_pycocotools():
    rng = np.random.default_rng(0)
    gt, poses = random_poses(rng, 1, 17)[0], random_poses(rng, 4, 17)
    visible = rng.uniform(size=17) < 0.6
    np.testing.assert_allclose(
        oks(gt, visible, 900.0, poses, sigmas=COCO.sigmas),
        coco_oks(gt, visible, 900.0, poses),
        rtol=1e-4,
    )


def coco_oks(gt, visible, area, poses):
    """Through COCOeval itself; scores are made to keep the order of the poses."""
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(iouType="keypoints")
    truth = np.concatenate([gt, 2.0 * visible[:, None]], axis=1).ravel().tolist()
    evaluation._gts[0, 1].append({"keypoints": truth, "bbox": [0, 0, 1, 1], "area": area})
    for rank, pose in enumerate(poses):
        flat = np.concatenate([pose, np.ones((17, 1))], axis=1).ravel().tolist()
        evaluation._dts[0, 1].append({"keypoints": flat, "score": -rank})
    return evaluation.computeOks(0, 1)[:, 0]


def test_no_visible_joint_and_no_area():
    poses = np.zeros((2, 3, 2), np.float32)
    poses[1] += 1
    hidden, seen = np.zeros(3, bool), np.ones(3, bool)
    np.testing.assert_array_equal(oks(poses[0], hidden, 9.0, poses, sigmas=(0.1,) * 3), [0, 0])
    np.testing.assert_array_equal(oks(poses[0], seen, 0.0, poses, sigmas=(0.1,) * 3), [1, 0])


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float32, (2, 17, 2), elements=st.floats(0, 100, width=32)),
    st.floats(0.25, 4, width=32),
)
def test_scale_invariance_and_symmetry(poses, scale):
    areas = np.array([900, 1600], np.float32)
    similarity = pairwise_oks(poses, areas, sigmas=COCO.sigmas)
    np.testing.assert_array_equal(np.diag(similarity), [1, 1])
    np.testing.assert_array_equal(similarity, similarity.T)
    scaled = pairwise_oks(scale * poses, scale**2 * areas, sigmas=COCO.sigmas)
    np.testing.assert_allclose(scaled, similarity, rtol=1e-3, atol=1e-6)


def test_contract():
    rng = np.random.default_rng(0)

    def inputs():
        poses = random_poses(rng, 5, 17)
        areas = rng.uniform(500, 5000, 5).astype(np.float32)
        return poses, areas, rng.uniform(size=17) < 0.5

    first, second = inputs(), inputs()
    check_contract(partial(pairwise_oks, sigmas=COCO.sigmas), first[:2], second[:2])

    def to_first(poses, areas, visible):
        return oks(poses[0], visible, areas[0], poses, sigmas=COCO.sigmas)

    check_contract(to_first, first, second)
