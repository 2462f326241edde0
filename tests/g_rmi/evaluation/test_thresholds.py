"""People counted at each least score, by hand."""

import numpy as np
import pytest

from g_rmi.evaluation.thresholds import ThresholdRow, thresholds
from g_rmi.evaluation.truth import Truth
from tests.networks import FACE

JOINTS = np.array([[30.0, 20, 2], [35, 15, 2], [25, 15, 2]])  # of a face in the box 10 10 40 40


def person(i, image, box, joints=None, crowd=0):
    keypoints = np.zeros((3, 3)) if joints is None else joints
    return {
        "id": i,
        "image_id": image,
        "category_id": 1,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": crowd,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }


def found(image, score, box, joints=None):
    """Somebody in a box; the joints are far from everybody if none are given."""
    keypoints = np.full((3, 3), 900.0) if joints is None else joints
    return {
        "image_id": image,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "score": score,
        "bbox": box,
    }


# Image 1: a face with joints, somebody with a box alone, a crowd. Image 2: nobody.
TRUTH = Truth(
    {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [
            person(5, 1, [10, 10, 40, 40], JOINTS),
            person(6, 1, [200, 10, 50, 100]),
            person(7, 1, [400, 0, 200, 200], crowd=1),
        ],
    },
    FACE,
)
FOUND = [
    found(1, 0.9, [700, 10, 40, 40], JOINTS),  # right by its joints, whatever its box
    found(1, 0.8, [12, 10, 40, 40]),  # by its box, but she has been found
    found(1, 0.7, [200, 10, 50, 36]),  # IoU .36 with the second: false
    found(1, 0.6, [200, 10, 50, 50]),  # IoU .5: right
    found(1, 0.5, [450, 50, 40, 80]),  # in the crowd
    found(2, 0.4, [10, 10, 40, 40], JOINTS),  # nobody is there
]


@pytest.mark.parametrize(
    "row",
    [
        ThresholdRow(0.0, 6, 2, 1, 1, 2, 0, 1),
        ThresholdRow(0.45, 5, 2, 1, 1, 1, 0, 0),
        ThresholdRow(0.6, 4, 2, 1, 0, 1, 0, 0),
        ThresholdRow(0.65, 3, 1, 1, 0, 1, 1, 0),
        ThresholdRow(0.95, 0, 0, 0, 0, 0, 2, 0),
    ],
)
def test_by_hand(row):
    assert thresholds(TRUTH, FOUND[::-1], [row.score]) == [row]


def test_other_images_do_not_count():
    truth = Truth(
        {"images": [{"id": 1}, {"id": 2}], "annotations": TRUTH.people}, FACE, image_ids=[2]
    )
    assert thresholds(truth, FOUND, [0.0]) == [ThresholdRow(0.0, 1, 0, 0, 0, 1, 0, 1)]


def test_nobody_is_found_by_nothing():
    assert thresholds(TRUTH, [], [0.0]) == [ThresholdRow(0.0, 0, 0, 0, 0, 0, 2, 0)]
