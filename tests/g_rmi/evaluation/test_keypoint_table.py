"""The per-joint table, against hand-made mistakes."""

import numpy as np
import pytest

from g_rmi.evaluation import keypoint_table
from g_rmi.evaluation.results import keypoint_results
from g_rmi.evaluation.truth import Truth, evaluate_keypoints
from g_rmi.skeleton import COCO
from tests.g_rmi.evaluation.people import annotations, labelled, person

RIGHT_KNEE, LEFT_ANKLE, LEFT_SHOULDER = (
    COCO.names.index(name) for name in ("right_knee", "left_ankle", "left_shoulder")
)


def results(data, change=lambda points, people: points):
    people, keypoints = labelled(data)
    points = change(keypoints[..., :2].copy(), people)
    image_ids = [a["image_id"] for a in people]
    scores = np.linspace(0.9, 0.6, len(people))
    return keypoint_results(image_ids, points, np.ones(points.shape[:2]), scores)


def table_of(data, results, **options):
    return keypoint_table.keypoint_table(Truth(data, **options), results)


def test_one_joint_wrong_and_one_half_right():
    data = annotations()

    def change(points, people):
        points[:, RIGHT_KNEE, 0] += 1e4
        for point, label in zip(points[:, LEFT_ANKLE], people, strict=True):
            point[1] += 2 * COCO.sigmas[LEFT_ANKLE] * np.sqrt(-2 * label["area"] * np.log(0.62))
        return points

    table = table_of(data, results(data, change))
    rows = {row.name: row for row in table}
    assert list(rows) == [*COCO.names, "all"]
    assert rows["right_knee"][1:] == (4, 4, 0.0, 0.0, 1, 0.0, 0.0)
    ankle = rows["left_ankle"]
    assert (ankle.labelled, ankle.found, ankle.within) == (3, 3, 1.0)
    # Rounding to hundredths of a pixel shows in the fourth digit.
    assert ankle.oks == pytest.approx(0.62, abs=1e-3)
    assert ankle.ap == pytest.approx(0.3)  # found at .5, .55 and .6
    assert rows["left_shoulder"][1:] == (4, 4, 1.0, 1.0, 1, 1.0, 1.0)
    assert rows["nose"].labelled == 2  # two of the four people have no face labelled
    whole = rows["all"]
    assert whole.labelled == whole.found == sum(row.labelled for row in table[:-1])
    assert whole.within == pytest.approx(1 - 4 / whole.labelled)
    assert whole.ap == evaluate_keypoints(Truth(data), results(data, change))["AP"]


def test_people_who_are_not_found_are_misses():
    data = annotations()
    first = results(data)[:2]
    shoulder = table_of(data, first)[LEFT_SHOULDER]
    assert shoulder[1:5] == (4, 2, 1.0, 0.5)
    none = table_of(data, [])[LEFT_SHOULDER]
    assert none[1:] == (4, 0, -1.0, 0.0, 1, 0.0, 0.0)
    data["annotations"].append(person(40, 10, (30, 30, 80, 200), crowd=1))
    assert table_of(data, first)[LEFT_SHOULDER] == shoulder
    nobody = table_of(data | {"annotations": []}, first)[LEFT_SHOULDER]
    assert nobody[1:] == (0, 0, -1.0, -1.0, 0, -1.0, -1.0)
    part = table_of(data, first, image_ids=[7])[LEFT_SHOULDER]
    assert part[1:] == (2, 2, 1.0, 1.0, 0, -1.0, 1.0)


def test_hidden_joints_by_themselves():
    data = annotations()  # one person's wrists are labelled though hidden, all of another's joints
    wrist = COCO.names.index("left_wrist")

    def change(points, people):
        for point, label in zip(points[:, wrist], people, strict=True):
            point[0] += 1e4 * (label["keypoints"][3 * wrist + 2] == 1)
        return points

    right, wrong = (table_of(data, r) for r in (results(data), results(data, change)))
    for table, share, within, all_hidden in ((right, 1, 1, 1), (wrong, 0, 0.5, 17 / 19)):
        row = table[wrist]
        assert (row.labelled, row.within) == (4, within)
        assert (row.occluded, row.occluded_within) == (2, share)
        assert table[-1].occluded == 19
        assert table[-1].occluded_within == pytest.approx(all_hidden)
    missed = table_of(data, [])[wrist]
    assert (missed.occluded, missed.occluded_within) == (2, 0.0)
