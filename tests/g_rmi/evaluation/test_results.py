"""COCO's results format."""

import json

import numpy as np

from g_rmi.evaluation.results import (
    box_results,
    keypoint_results,
    keypoints_of,
    of_people,
    write_results,
)


def test_nobody_found_makes_an_empty_list():
    nobody = keypoint_results(
        np.zeros(0, np.int64), np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0)
    )
    assert nobody == []
    assert box_results(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0)) == []


def test_results_are_short_plain_numbers():
    points = np.full((1, 17, 2), 12.34567, np.float32)
    scores = np.array([0.8123], np.float32)
    (result,) = keypoint_results(
        np.array([139]), points, np.full((1, 17), 1 / 3, np.float32), scores
    )
    assert json.dumps(result).startswith(
        '{"image_id": 139, "category_id": 1, "keypoints": [12.35, 12.35, 0.3333, 12.35,'
    )
    assert json.dumps(result).endswith('"score": 0.8123}')
    close = np.array([1e-7, 1.0000001e-7], np.float32)
    first, second = box_results([1, 1], np.zeros((2, 4)), close)
    assert first["score"] < second["score"]


def test_boxes_are_written_as_xywh():
    boxes = np.array([[10.0, 20.0, 35.5, 80.25], [0.0, 0.0, 0.0, 0.0]])
    results = box_results([3, 3], boxes, np.array([0.25, 0.5]))
    assert results[0]["bbox"] == [10.0, 20.0, 25.5, 60.25]
    zebra = results[0] | {"category_id": 24}
    assert of_people([zebra, *results]) == results


def test_written_and_read_back(tmp_path):
    write_results(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []
    points = np.array([[[1.5, 2.25]], [[3.0, 4.75]]])
    results = keypoint_results([5, 3], points, np.array([[0.5], [1.0]]), np.array([0.25, 0.5]))
    write_results(tmp_path / "some.json", results)
    assert json.loads((tmp_path / "some.json").read_text()) == results
    assert keypoints_of(results, 1).tolist() == [[[1.5, 2.25, 0.5]], [[3.0, 4.75, 1.0]]]
    assert keypoints_of([], 17).shape == (0, 17, 3)
