"""Pose targets against plain loops: who is positive, where offsets count, what is left out."""

import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.pose.targets import PoseTargets, pose_targets

HEIGHT, WIDTH, RADIUS = 17, 25, 5.0
NOSE, EYE = (6.0, 8.0), (20.0, 3.0)


def make(**changes):
    inputs = {
        "keypoints": [NOSE, EYE],
        "visible": [True, True],
        "labelled": [True, True],
        "other_keypoints": [[(11.0, 8.0), (20.0, 3.0)], [(2.0, 2.0), (3.0, 15.0)]],
        "other_visible": [[True, True], [False, True]],
    } | changes
    options = {"height": HEIGHT, "width": WIDTH, "radius": RADIUS, "stride": 1}
    options |= {k: inputs.pop(k) for k in list(inputs) if k in options}
    arrays = {k: jnp.asarray(v, jnp.float32 if "points" in k else bool) for k, v in inputs.items()}
    return pose_targets(**arrays, **options)


def near(row, column, point, radius=RADIUS):
    return (column - point[0]) ** 2 + (row - point[1]) ** 2 <= radius**2


def test_only_the_centred_person_is_positive():
    targets = PoseTargets(*map(np.asarray, make()))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            assert targets.heatmap[row, column, 0] == near(row, column, NOSE)
            assert targets.heatmap[row, column, 1] == near(row, column, EYE)
            if near(row, column, NOSE):
                expected = [NOSE[0] - column, NOSE[1] - row]
                np.testing.assert_allclose(targets.offset[row, column, 0], expected, atol=1e-5)


def test_others_disks_are_left_out_unless_they_are_the_persons_own():
    elsewhere = np.asarray(make().elsewhere)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            own, other = near(row, column, NOSE), near(row, column, (11.0, 8.0))
            assert elsewhere[row, column, 0] == (other and not own)
            # Joint 1: one neighbour has it at the same place, the other one elsewhere.
            assert elsewhere[row, column, 1] == near(row, column, (3.0, 15.0))


def test_an_unannotated_joint_has_no_disk():
    targets = make(visible=[False, True])
    assert not targets.heatmap[..., 0].any()
    assert not targets.inside[..., 0].any()
    assert targets.labelled.all()


def test_an_unlabelled_joint_teaches_nothing():
    targets = make(labelled=[False, True])
    assert not targets.labelled[0]
    assert not targets.inside[..., 0].any()


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_coarse_grid_samples_the_fine_one(stride):
    fine, coarse = make(), make(stride=stride)
    np.testing.assert_array_equal(coarse.heatmap, fine.heatmap[::stride, ::stride])
    np.testing.assert_array_equal(coarse.elsewhere, fine.elsewhere[::stride, ::stride])
    offset = np.where(coarse.inside[..., None], coarse.offset, 0)
    expected = np.where(fine.inside[..., None], fine.offset, 0)[::stride, ::stride]
    np.testing.assert_allclose(offset, expected, atol=1e-5)


def test_no_other_people():
    targets = make(other_keypoints=np.zeros((0, 2, 2)), other_visible=np.zeros((0, 2)))
    assert not targets.elsewhere.any()
