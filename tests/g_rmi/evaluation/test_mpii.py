"""MPII's multi-person AP and PCKh against loops and by hand."""

import numpy as np
import pytest

from g_rmi.evaluation.mpii import JointsOfPicture, ap_numbers, multi_person_ap
from g_rmi.evaluation.pck import head_sizes, pckh
from g_rmi.skeleton import Skeleton
from tests.oracles import mpii as oracle

PAIR = Skeleton.create(("head", "foot"), limbs=[], sigmas=[0.1, 0.1])


def picture(rng, people, found, joints=4):
    keypoints = rng.uniform(0, 100, (people, joints, 2))
    predictions = rng.uniform(0, 100, (found, joints, 2))
    for d in range(min(found, people + 1)):  # two for the last one
        if people:
            whose = keypoints[min(d, people - 1)]
            predictions[d] = whose + rng.normal(scale=6, size=(joints, 2))
    predictions[rng.uniform(size=(found, joints)) < 0.2] = np.nan
    heads = np.where(rng.uniform(size=people) < 0.1, np.nan, rng.uniform(10, 25, people))
    visible = rng.uniform(size=(people, joints)) < 0.8
    scores = rng.uniform(size=(found, joints))
    return JointsOfPicture(keypoints, visible, heads, predictions, scores)


def test_equals_the_oracle():
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(0, 5, (6, 2))
        pictures = [picture(rng, int(p), int(d)) for p, d in counts]
        expected = oracle.multi_person_ap(pictures)
        np.testing.assert_allclose(multi_person_ap(pictures), expected, atol=1e-12)


def one(found, scores, people=1):
    keypoints = np.array([[[0.0, 0], [0, 100]], [[500, 0], [500, 100]]])[:people]
    everything = np.ones((people, 2), bool)
    size = np.full(people, 20.0)
    found = np.array(found, float).reshape(-1, 2, 2)
    return JointsOfPicture(
        keypoints, everything, size, found, np.array(scores, float).reshape(-1, 2)
    )


def test_by_hand():
    right, wrong = [[0, 0], [0, 100]], [[0, 0], [0, 60]]
    assert multi_person_ap([one([right], [1, 1])]).tolist() == [1, 1]
    assert multi_person_ap([one([wrong], [1, 1])]).tolist() == [1, 0]
    # The rim belongs to the disk.
    assert multi_person_ap([one([[[10, 0], [0, 110.01]]], [1, 1])]).tolist() == [1, 0]
    # A second look at the same person is wrong, though its joints are right; here it ranks first.
    both = one([right, wrong], [[0.5, 0.5], [0.9, 0.4]])
    assert multi_person_ap([both]).tolist() == [0.5, 1]
    # One of two people.
    assert multi_person_ap([one([right], [1, 1], people=2)]).tolist() == [0.5, 0.5]
    # A picture in which nobody is found counts.
    assert multi_person_ap([one([right], [1, 1]), one([], [])]).tolist() == [0.5, 0.5]
    # Found where nobody is.
    nobody = one([right], [1, 1], people=0)
    assert np.isnan(multi_person_ap([nobody])).all()
    assert multi_person_ap([one([right], [0.5, 2]), nobody]).tolist() == [0.5, 1]


def test_numbers():
    numbers = ap_numbers(np.array([0.5, np.nan]), PAIR)
    assert numbers == {"mAP": 0.5, "mAP_head": 0.5, "mAP_foot": -1.0}
    assert ap_numbers(np.full(2, np.nan), PAIR)["mAP"] == -1.0
    with pytest.raises(ValueError, match="no pictures to evaluate"):
        multi_person_ap([])


def test_pckh():
    boxes = np.array([[0.0, 0, 30, 40], [0, 0, 30, 40], [5, 5, 5, 5], [np.nan] * 4])
    np.testing.assert_allclose(head_sizes(boxes), [30, 30, 0, np.nan])
    keypoints, visible = np.zeros((4, 2, 2)), np.ones((4, 2), bool)
    visible[1, 1] = False
    found = keypoints.copy()
    found[0, 0] = 15, 0  # exactly .5 heads away
    found[1, 0] = 15.01, 0
    counts = pckh(keypoints, visible, found, boxes)
    assert counts.correct.tolist() == [1, 1]
    assert counts.labelled.tolist() == [2, 1]
    assert (counts.people, counts.excluded) == (2, 2)
    assert pckh(keypoints, visible, found, boxes, threshold=0.51).correct.tolist() == [2, 1]
