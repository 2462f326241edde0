"""The table of visibility against loops over people, joints and pairs."""

import numpy as np
import pytest

from g_rmi.evaluation.results import keypoint_results
from g_rmi.evaluation.truth import Truth
from g_rmi.evaluation.visibility_table import visibility_table
from g_rmi.skeleton import COCO
from tests.g_rmi.evaluation.people import annotations, labelled

WRIST, KNEE = COCO.names.index("left_wrist"), COCO.names.index("right_knee")


def results(data, visibility, *, lost=None):
    """The labels as poses, the right knees elsewhere; of `lost`, the whole pose."""
    people, keypoints = labelled(data)
    points = keypoints[..., :2].copy()
    points[:, KNEE, 0] += 1e4
    if lost is not None:
        points[lost] += 1e4
    scores = np.linspace(0.9, 0.6, len(people))
    ids = [person["image_id"] for person in people]
    return keypoint_results(ids, points, np.ones(points.shape[:2]), scores, visibility)


def counted(data, visibility, joints, *, lost=None):
    """(flag, visibility) of the joints that are found, by a loop."""
    people, keypoints = labelled(data)
    return [
        (keypoints[n, k, 2], visibility[n, k])
        for n in range(len(people))
        for k in joints
        if n != lost and k != KNEE and keypoints[n, k, 2] > 0
    ]


def by_loops(pairs):
    seen, hidden = ([p for flag, p in pairs if flag == v] for v in (2, 1))
    right = [p >= 0.5 for p in seen], [p < 0.5 for p in hidden]
    accuracy = np.mean([*right[0], *right[1]]) if pairs else -1
    if not seen or not hidden:
        return len(seen), len(hidden), accuracy, -1, -1
    wins = [(s > h) + 0.5 * (s == h) for s in seen for h in hidden]
    balanced = (np.mean(right[0]) + np.mean(right[1])) / 2
    return len(seen), len(hidden), accuracy, balanced, np.mean(wins)


@pytest.mark.parametrize("lost", [None, 0, 3])
def test_as_loops_count_it(lost):
    data = annotations()
    # Few values, so that there are ties, .5 among them.
    visibility = np.random.default_rng(0).integers(0, 9, (4, len(COCO))) / 8
    table = visibility_table(Truth(data), results(data, visibility, lost=lost))
    assert [row.name for row in table] == [*COCO.names, "all"]
    for k, row in enumerate(table):
        joints = range(len(COCO)) if row.name == "all" else [k]
        expected = by_loops(counted(data, visibility, joints, lost=lost))
        np.testing.assert_allclose(row[1:], expected, atol=1e-12)
    assert table[KNEE][1:] == (0, 0, -1, -1, -1)
    assert table[WRIST].hidden == (2 if lost is None else 1)


def test_who_is_right_and_who_is_wrong():
    data = annotations()
    truth = Truth(data)
    flags = labelled(data)[1][..., 2]
    seen = np.where(flags == 2, 0.9, 0.2)
    assert visibility_table(truth, results(data, seen))[-1][3:] == (1, 1, 1)
    assert visibility_table(truth, results(data, 1 - seen))[-1][3:] == (0, 0, 0)
    assert visibility_table(truth, results(data, np.full_like(seen, 0.7)))[-1][4:] == (0.5, 0.5)


def test_no_table_where_labels_or_results_do_not_say():
    data = annotations()
    told = np.ones((4, len(COCO)))
    assert visibility_table(Truth(data), results(data, None)) == []
    for person in data["annotations"]:
        person["keypoints"] = [2 if v == 1 else v for v in person["keypoints"]]
    assert visibility_table(Truth(data), results(data, told)) == []
    empty = visibility_table(Truth(annotations()), [])
    assert {row[1:] for row in empty} == {(0, 0, -1, -1, -1)}
