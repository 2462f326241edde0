"""Errors planted by hand, one of each kind, and the AP that fixing them is worth."""

import numpy as np
import pytest

from g_rmi.evaluation import diagnosis
from g_rmi.evaluation.diagnosis import ERRORS, KINDS
from g_rmi.evaluation.results import keypoint_results
from g_rmi.evaluation.truth import Truth, evaluate_keypoints
from g_rmi.skeleton import COCO, Skeleton
from tests.g_rmi.evaluation.people import annotations, jitter, labelled, person
from tests.oracles.diagnosis import joint_kind

JOINT = {name: k for k, name in enumerate(COCO.names)}
HALF = 51 / 101  # AP of one of two people, found first: precision 1 at recalls 0, .01 ... .5


def made(*people):
    return Truth(annotations() | {"annotations": list(people)})


def standing(ident, x, image_id=7, **options):
    """A person whose wrists are far apart for its size."""
    return person(ident, image_id, (x, 40, 150, 300), **options)


def found(image_ids, poses, scores):
    poses = np.array(poses, float)
    ones = np.ones(poses.shape[:2])
    return keypoint_results(image_ids, poses, ones, np.array(scores, np.float32))


def pose_of(label):
    return np.reshape(label["keypoints"], (-1, 3))[:, :2].copy()


def off(label, joint, similarity):
    """How far from a joint's label that keypoint similarity is."""
    sigma = COCO.sigmas[JOINT[joint]]
    return 2 * sigma * np.sqrt(-2 * label["area"] * np.log(similarity))


def far(pose, joints):
    pose[[JOINT[name] for name in joints]] += 1e4
    return pose


FIVE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


def kinds(result, n=0):
    return {name: KINDS[kind] for name, kind in zip(COCO.names, result.kinds[n]) if kind >= 0}


@pytest.fixture
def planted():
    """Two neighbours; in the first one's pose each kind of error stands once or twice."""
    first, second = standing(1, 0, hidden=[JOINT["nose"]]), standing(2, 300)
    pose, other = pose_of(first), pose_of(second)
    pose[JOINT["nose"]] += 500  # nobody knows where it is
    pose[JOINT["left_knee"], 0] += off(first, "left_knee", 0.6)
    pose[JOINT["right_knee"], 1] += off(first, "right_knee", 0.9)
    pose[JOINT["left_wrist"]] = pose[JOINT["right_wrist"]]
    pose[JOINT["left_ankle"]] = other[JOINT["left_ankle"]]
    pose[JOINT["right_elbow"]] = other[JOINT["left_elbow"]]
    pose[JOINT["left_hip"], 1] -= 2 * off(first, "left_hip", 0.3)
    return made(first, second), found([7, 7], [pose, other], [0.8, 0.9])


def test_each_kind_is_found_where_it_was_planted(planted):
    result = diagnosis.diagnose(*planted)
    wrong = {
        "left_knee": "jitter",
        "left_wrist": "inversion",
        "left_ankle": "swap",
        "right_elbow": "swap",
        "left_hip": "miss",
    }
    assert kinds(result) == dict.fromkeys(COCO.names[1:], "good") | wrong
    assert set(kinds(result, 1).values()) == {"good"}
    assert result.found.tolist() == [0, 1]
    assert result.labelled.tolist() == [16, 17]
    assert 10 / 16 < result.oks[0] < 12.2 / 16
    assert result.oks[1] == pytest.approx(1, abs=1e-5)
    assert result.recall.tolist() == [np.mean(result.oks[0] > np.arange(0.5, 1, 0.05)), 1]
    assert not result.outscored.any()
    assert not len(result.false_positives)


def test_fixing_a_kind_moves_its_joints_only(planted):
    data, results = planted
    result = diagnosis.diagnose(data, results)

    def reaching(thresholds):
        return pytest.approx((thresholds + (10 - thresholds) * HALF) / 10)

    assert evaluate_keypoints(data, results)["AP"] == reaching(5)
    assert result.oks[0] == pytest.approx(0.72, abs=0.003)  # each joint is worth .0625
    alone, together = zip(*diagnosis.if_fixed(data, results, result).values(), strict=True)
    assert alone == tuple(map(reaching, (6, 7, 6, 5, 5, 5, 5)))
    assert together == (reaching(6), reaching(9), *[reaching(10)] * 5)


@pytest.mark.parametrize(
    ("similarity", "kind"),
    [(0.86, "good"), (0.84, "jitter"), (0.51, "jitter"), (0.49, "miss")],
)
def test_thresholds(similarity, kind):
    label = standing(1, 0)
    pose = pose_of(label)
    pose[JOINT["nose"], 1] -= off(label, "nose", similarity)
    result = diagnosis.diagnose(made(label), found([7], [pose], [1]))
    assert kinds(result) == dict.fromkeys(COCO.names, "good") | {"nose": kind}


@pytest.mark.parametrize("seed", range(4))
def test_kinds_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    skeleton = Skeleton.create(("left_a", "right_a", "b"), limbs=(), sigmas=(0.3, 0.2, 0.4))
    seen = set()
    for _ in range(60):
        people = rng.integers(1, 5)
        joints = rng.uniform(size=(people, 3, 2))
        visible = rng.uniform(size=(people, 3)) < 0.7
        areas = rng.uniform(0.05, 0.4, people)
        pose, chosen = rng.uniform(size=(3, 2)), int(rng.integers(people))
        arrays = joints, visible, areas
        expected = [joint_kind(k, pose, chosen, *arrays, skeleton=skeleton) for k in range(3)]
        given = diagnosis.joint_kinds(pose, chosen, *arrays, skeleton=skeleton)
        assert [KINDS[kind] if kind >= 0 else None for kind in given] == expected
        seen |= set(expected)
    assert seen == {None, *KINDS}


def test_truth_as_prediction_has_no_errors():
    data = annotations()
    people, keypoints = labelled(data)
    results = found([a["image_id"] for a in people], keypoints[..., :2], np.arange(4) / 4)
    data = Truth(data)
    result = diagnosis.diagnose(data, results)
    assert result.person.tolist() == [0, 1, 2, 5]  # no crowd, nobody without joints
    assert result.image.tolist() == [7, 7, 8, 9]
    assert result.found.tolist() == [0, 1, 2, 3]
    assert set(result.kinds[keypoints[..., 2] > 0]) == {0}
    assert set(result.kinds[keypoints[..., 2] == 0]) == {-1}
    np.testing.assert_allclose(result.oks, 1, atol=1e-6)
    assert result.recall.tolist() == [1] * 4
    assert not result.outscored.any()
    assert not len(result.false_positives)
    gains = diagnosis.if_fixed(data, results, result)
    assert gains == dict.fromkeys(ERRORS, (1.0, 1.0))


def test_a_missing_joint_is_worth_its_thresholds():
    data = made(standing(1, 0), standing(2, 300))
    first, second = map(pose_of, data.people)
    results = found([7, 7], [first, far(second, FIVE)], [0.9, 0.8])
    result = diagnosis.diagnose(data, results)
    assert result.oks[1] == pytest.approx(12 / 17, abs=1e-5)
    assert result.recall.tolist() == [1, 0.5]
    assert evaluate_keypoints(data, results)["AP"] == pytest.approx((1 + HALF) / 2)
    gains = diagnosis.if_fixed(data, results, result)
    assert gains["miss"] == (1, 1)
    assert gains["swap"] == (pytest.approx((1 + HALF) / 2), 1)


def test_a_worse_detection_that_outscores_the_better_one():
    data = made(standing(1, 0))
    good = pose_of(data.people[0])
    results = found([7, 7], [good, far(good.copy(), FIVE)], [0.3, 0.6])
    result = diagnosis.diagnose(data, results)
    assert result.found.tolist() == [1]
    assert result.outscored.tolist() == [True]
    assert result.false_positives.tolist() == [0]  # the duplicate that lost
    gains = diagnosis.if_fixed(data, results, result)
    # Up to .7 the bad one will do; above, the good one comes second.
    assert evaluate_keypoints(data, results)["AP"] == pytest.approx((1 + 0.5) / 2)
    assert gains["score"][0] == 1
    assert gains["false positive"][0] == pytest.approx(0.5)
    right = found([7, 7], [good, far(good.copy(), FIVE)], [0.6, 0.3])
    assert not diagnosis.diagnose(data, right).outscored.any()


def test_false_positives_and_negatives():
    data = made(standing(1, 0), standing(2, 300), standing(3, 0, 8, hidden=range(17), crowd=1))
    first, second = map(pose_of, data.people[:2])
    nowhere, in_crowd = first + 2000, first
    results = found([7, 9, 8], [second, nowhere, in_crowd], [0.5, 0.9, 0.8])
    result = diagnosis.diagnose(data, results)
    assert result.found.tolist() == [-1, 0]
    assert result.kinds[0].tolist() == [-1] * 17
    assert result.false_positives.tolist() == [1]  # COCO looks away from crowds
    before = evaluate_keypoints(data, results)["AP"]
    gains = diagnosis.if_fixed(data, results, result)
    assert before == pytest.approx(HALF / 2)
    assert gains["false positive"][0] == pytest.approx(HALF)
    assert gains["false negative"] == (0.5, 1)
    assert gains["score"][0] == pytest.approx(HALF)
    assert gains["miss"][0] == before
    part = Truth(
        {"images": [{"id": i} for i in (7, 8, 9, 10)], "annotations": data.people},
        image_ids=[9, 10],
    )
    part = diagnosis.diagnose(part, results)
    assert len(part.person) == 0
    assert part.kinds.shape == (0, 17)
    assert part.false_positives.tolist() == [1]


def test_nothing_found_and_nobody_there():
    data = made(standing(1, 0))
    result = diagnosis.diagnose(data, [])
    assert result.found.tolist() == [-1]
    gains = diagnosis.if_fixed(data, [], result)
    assert gains["miss"] == (0, 0)
    assert gains["false negative"] == (-1, -1)  # COCO's number where nobody is left
    assert len(diagnosis.diagnose(made(), []).person) == 0


def test_groups_of_people():
    data = made(
        person(1, 7, (0, 0, 40, 40), hidden=range(14)),  # area 960
        person(2, 7, (0, 0, 80, 80), hidden=range(6)),  # IoU 1/4 with the first
        person(3, 7, (10, 10, 80, 80)),
        person(4, 8, (0, 0, 300, 300)),
    )
    masks = diagnosis.groups(diagnosis.diagnose(data, []))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()} == {
        "0-32 px": [0],
        "32-64 px": [1, 2],
        "64-96 px": [],
        "96-128 px": [],
        "128+ px": [3],
        "0 overlapping": [3],
        "1-2 overlapping": [0, 1, 2],
        "3+ overlapping": [],
        "1-5 joints": [0],
        "6-10 joints": [],
        "11-15 joints": [1],
        "16+ joints": [2, 3],
    }


def test_other_categories_and_order_do_not_matter(planted):
    data, results = planted
    other = [results[0] | {"category_id": 2}]
    result = diagnosis.diagnose(data, [*other, *results])
    assert result.found.tolist() == [0, 1]  # among the results of people
    gains = diagnosis.if_fixed(data, [*other, *results], result)
    assert gains == diagnosis.if_fixed(data, results, result)
    turned = diagnosis.diagnose(data, results[::-1])
    assert turned.found.tolist() == [1, 0]
    np.testing.assert_array_equal(turned.kinds, result.kinds)


def test_jittered_people_are_jittered():
    data = annotations()
    people, keypoints = labelled(data)
    points = jitter(keypoints[..., :2], 2.0)
    results = found([a["image_id"] for a in people], points, np.arange(4) / 4)
    data = Truth(data)
    result = diagnosis.diagnose(data, results)
    assert (result.kinds == KINDS.index("jitter")).sum() > 5
    before = evaluate_keypoints(data, results)["AP"]
    assert diagnosis.if_fixed(data, results, result)["jitter"][0] > before + 0.05
