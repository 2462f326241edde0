"""COCO's numbers by crowding, of pictures made by hand."""

import numpy as np
import pytest

from g_rmi.evaluation.crowding import by_crowding, crowded_images
from g_rmi.evaluation.results import keypoint_results
from g_rmi.evaluation.truth import KEYPOINT_METRICS, Truth, evaluate_keypoints
from tests.g_rmi.evaluation.people import annotations, person

IMAGES = [{"id": i} for i in (7, 8, 9)]


def made(*people):
    content = annotations() | {"images": IMAGES, "annotations": list(people)}
    return Truth(content)


def standing(ident, x, image_id, **options):
    return person(ident, image_id, (x, 40, 100, 300), **options)


def poses(truth, rows, off=0.0):
    people = [truth.people[row] for row in rows]
    joints = truth.keypoints[rows][..., :2] + off
    ids = [person["image_id"] for person in people]
    return keypoint_results(ids, joints, np.ones(joints.shape[:2]), np.ones(len(rows)))


@pytest.mark.parametrize(
    ("apart", "crowd", "overlap"),
    # IoU of two boxes 100 wide, d apart: (100 - d) / (100 + d); .1 at 81.8.
    [(81, False, True), (83, False, False), (0, True, False)],
)
def test_boxes_overlap_from_a_tenth_on_and_crowds_do_not_count(apart, crowd, overlap):
    truth = made(standing(1, 0, 7), standing(2, apart, 7, crowd=int(crowd)), standing(3, 0, 8))
    assert crowded_images(truth) == ({7} if overlap else set())


def test_each_half_is_coco_on_its_pictures():
    truth = made(standing(1, 0, 7), standing(2, 50, 7), standing(3, 0, 8), standing(4, 300, 8))
    results = poses(truth, [0, 2, 3]) + poses(truth, [1], off=500.0)
    found = by_crowding(truth, results)
    assert list(found) == ["people apart", "people overlap"]
    assert found["people apart"]["AP"] == 1.0
    for name, images in {"people apart": (8, 9), "people overlap": (7,)}.items():
        content = annotations() | {"images": IMAGES, "annotations": truth.people}
        wanted = evaluate_keypoints(Truth(content, image_ids=images), results)
        assert found[name] == wanted
        assert set(wanted) == set(KEYPOINT_METRICS)
    assert found["people overlap"]["AP"] < 0.6


def test_pictures_of_one_kind_are_not_divided():
    assert by_crowding(made(standing(1, 0, 7)), []) == {}
