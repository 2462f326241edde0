"""PCK, against counts made by hand."""

import numpy as np
import pytest

from g_rmi.evaluation import pck
from g_rmi.evaluation.truth import Truth
from g_rmi.skeleton import COCO, Skeleton
from tests.g_rmi.evaluation.people import annotations

INDEX = {name: k for k, name in enumerate(COCO.names)}
TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


def person():
    """Joints [1, 17, 2] whose torso is 60 x 80 pixels: both diagonals measure 100."""
    points = np.random.default_rng(0).uniform(0, 200, (1, 17, 2))
    corners = [(160, 20), (100, 20), (160, 100), (100, 100)]
    points[0, [INDEX[name] for name in TORSO]] = corners
    return points


def everything():
    return np.ones((1, 17), bool)


def test_threshold_is_a_share_of_the_torso_and_closed():
    truth, visible = person(), everything()
    found = truth.copy()
    found[0, 9] += (12, 16)  # 20 px away: exactly .2
    found[0, 10] += (12, 16.1)
    found[0, 11] = np.nan
    counts = pck.pck(truth, visible, found)
    np.testing.assert_array_equal(np.flatnonzero(counts.correct == 0), [10, 11])
    np.testing.assert_array_equal(counts.labelled, np.ones(17))
    assert pck.pck(truth, visible, found, threshold=0.1).correct.sum() == 14
    assert counts.numbers()["PCK"] == pytest.approx(15 / 17)
    half = pck.pck(truth, visible, found, reference=np.array([50.0]))
    assert half.correct.sum() == 14


def test_perfect_and_nobody():
    truth = person()
    assert pck.pck(truth, everything(), truth).numbers()["PCK"] == 1.0
    none = pck.pck(truth[:0], everything()[:0], truth[:0]).numbers()
    assert (none["PCK"], none["PCK_nose"], none["PCK_people"]) == (-1.0, -1.0, 0.0)


@pytest.mark.parametrize(
    ("missing", "length"),
    [
        ((), 100.0),
        (("left_shoulder",), 100.0),
        (("left_shoulder", "left_hip"), 80.0),
        (("left_hip", "right_hip"), np.nan),
        (("left_shoulder", "right_shoulder"), np.nan),
    ],
)
def test_torso(missing, length):
    visible = everything()
    visible[0, [INDEX[name] for name in missing]] = False
    mirrored = person()[:, COCO.flip_index] * (-1, 1)
    np.testing.assert_allclose(pck.torso_lengths(person(), visible), [length])
    np.testing.assert_allclose(pck.torso_lengths(mirrored, visible[:, COCO.flip_index]), [length])


def test_unlabelled_joints_and_people_without_a_torso():
    truth = np.concatenate([person()] * 3)
    visible = np.ones((3, 17), bool)
    visible[0, :5] = False
    visible[1, [INDEX["left_hip"], INDEX["right_hip"]]] = False
    visible[2] = False
    found = truth.copy()
    found[0, :5] = 1e6
    counts = pck.pck(truth, visible, found)
    assert (counts.people, counts.excluded) == (1, 1)
    numbers = counts.numbers()
    assert numbers["PCK"] == 1.0
    assert numbers["PCK_nose"] == -1.0
    assert numbers["PCK_excluded"] == 1.0
    assert counts.labelled.sum() == 12


def test_parts_add_up():
    truth = np.concatenate([person(), person()])
    found = truth.copy()
    found[1, ::2] += 50
    visible = np.ones((2, 17), bool)
    whole = pck.pck(truth, visible, found)
    parts = [pck.pck(truth[i : i + 1], visible[i : i + 1], found[i : i + 1]) for i in range(2)]
    for total, *counts in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(sum(counts), total)
    assert whole.numbers()["PCK"] == pytest.approx(25 / 34)


def test_by_annotation():
    data = annotations()
    truth = {
        a["id"]: np.reshape(a["keypoints"], (17, 3))[:, :2].astype(float)
        for a in data["annotations"]
    }
    data = Truth(data)
    # In another order, one of the four labelled people missing; the crowd (6) does not count.
    ids = [5, 0, 12, 6]
    found = np.stack([truth[i] for i in ids])
    counts = pck.evaluate_pck(data, ids, found)
    assert (counts.people, counts.excluded) == (4, 0)
    assert counts.labelled.sum() == 17 + 12 + 12 + 17
    assert counts.correct.sum() == 17 + 12 + 12
    with pytest.raises(ValueError, match="annotation 5 has two predictions"):
        pck.evaluate_pck(data, [5, 5], found[:2])
    with pytest.raises(ValueError, match="annotation 77, which the file does not have"):
        pck.evaluate_pck(data, np.array([77]), found[:1])


def test_by_annotation_and_head():
    data = Truth(annotations())
    keypoints = {person["original_id"]: i for i, person in enumerate(data.people)}
    found = np.stack([data.keypoints[keypoints[i], :, :2] for i in (5, 0, 12)])
    found[0, 6, 0] += 14.99
    found[1, 1, 1] += 15.01
    heads = {i: np.array([0.0, 0, 30, 40]) for i in (5, 0)}
    counts = pck.evaluate_pckh(data, [5, 0, 12], found, heads)
    labelled = {i: int((data.keypoints[keypoints[i], :, 2] > 0).sum()) for i in (5, 0)}
    assert counts.labelled.sum() == sum(labelled.values())
    assert counts.correct.sum() == sum(labelled.values()) - 1
    numbers = counts.numbers(name="PCKh")
    assert numbers["PCKh"] == pytest.approx(1 - 1 / sum(labelled.values()))
    assert (numbers["PCKh_people"], numbers["PCKh_excluded"]) == (2, 2)


def test_a_skeleton_without_a_torso_is_an_error():
    hand = Skeleton.create(("wrist", "tip"), limbs=[], sigmas=[0.1, 0.1])
    points = np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="the torso needs 'left_shoulder'"):
        pck.pck(points, np.ones((1, 2), bool), points, skeleton=hand)
