"""COCO's border: formats and numbers, from both ends and against pycocotools used by hand."""

import copy
import importlib.util
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoIndex
from pycocotools.cocoeval import COCOeval

from g_rmi.evaluation import coco
from g_rmi.skeleton import COCO, Skeleton
from tests.g_rmi.evaluation.people import annotations, jitter, labelled, person


def perfect(data):
    people, keypoints = labelled(data)
    image_ids = [a["image_id"] for a in people]
    scores = np.linspace(0.9, 0.3, len(people))
    return coco.keypoint_results(image_ids, keypoints[..., :2], keypoints[..., 2] / 2, scores)


def jittered(data, pixels):
    people, keypoints = labelled(data)
    image_ids = [a["image_id"] for a in people] + [10]
    points = np.concatenate([jitter(keypoints[..., :2], pixels), keypoints[:1, :, :2]])
    scores = np.array([0.31, 0.8, 0.55, 0.62, 0.7], np.float32)
    return coco.keypoint_results(image_ids, points, np.ones(points.shape[:2]), scores)


def by_hand(data, results, kind, tmp_path):
    """Runs pycocotools on files, as its own demonstration uses it."""
    for name, values in (("truth", data), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    truth = CocoIndex(str(tmp_path / "truth.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_ground_truth_as_prediction_is_perfect():
    data = annotations()
    results = perfect(data)
    before = copy.deepcopy((data, results))
    metrics = coco.evaluate_keypoints(data, results)
    assert tuple(metrics) == coco.KEYPOINT_METRICS
    assert metrics == dict.fromkeys(coco.KEYPOINT_METRICS, 1.0)
    assert (data, results) == before


def test_one_perfect_person_is_exactly_one():
    data = annotations() | {"annotations": [person(1, 7, (20, 30, 100, 200))]}
    metrics = coco.evaluate_keypoints(data, perfect(data))
    assert metrics["AP"] == metrics["APL"] == 1.0
    assert metrics["APM"] == metrics["ARM"] == -1.0  # nobody of medium size is there


def test_nothing_found_is_zero_and_nothing_to_find_is_minus_one():
    data = annotations()
    assert set(coco.evaluate_keypoints(data, []).values()) == {0.0}
    nobody = data | {"annotations": []}
    assert set(coco.evaluate_keypoints(nobody, perfect(data)).values()) == {-1.0}
    assert set(coco.evaluate_keypoints(nobody, []).values()) == {-1.0}
    assert set(coco.evaluate_boxes(nobody, []).values()) == {-1.0}
    assert coco.evaluate_boxes(data, [])["box_AP"] == 0.0


def test_thresholds_by_hand():
    # Every joint off by the distance whose OKS term is .77: found at .5, .55, ... .75, not above.
    one = person(1, 7, (20, 30, 100, 200))
    data = annotations() | {"annotations": [one]}
    points = np.reshape(one["keypoints"], (1, 17, 3))[..., :2].copy()
    k = 2 * np.array(COCO.sigmas)
    points[0, :, 0] += k * np.sqrt(-2 * one["area"] * np.log(0.77))
    results = coco.keypoint_results([7], points, np.ones((1, 17)), np.ones(1))
    metrics = coco.evaluate_keypoints(data, results)
    expected = {"AP": 0.6, "AP50": 1.0, "AP75": 1.0, "APL": 0.6, "AR": 0.6, "AR75": 1.0}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_unlabelled_joints_do_not_count_and_occluded_ones_do():
    data = annotations() | {
        "annotations": [person(1, 7, (20, 30, 100, 200), hidden=(3, 4), occluded=(15,))]
    }
    results = perfect(data)
    results[0]["keypoints"][9:15] = [1e4] * 6
    assert coco.evaluate_keypoints(data, results)["AP"] == 1.0
    results[0]["keypoints"][45:47] = [1e4] * 2  # 14 of 15 joints right: OKS .933
    assert coco.evaluate_keypoints(data, results)["AP"] == pytest.approx(0.9)


@pytest.mark.parametrize("pixels", [0.5, 2.0, 5.0])
def test_jittered_people_as_pycocotools_by_hand(pixels, tmp_path):
    data = annotations()
    for i, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = i  # pycocotools alone takes a match with annotation 0 for none
    results = jittered(data, pixels)
    stats = by_hand(data, results, "keypoints", tmp_path)
    np.testing.assert_allclose(list(coco.evaluate_keypoints(data, results).values()), stats)


def test_jittered_people_by_hand():
    # Scores .8 .7 .62 .55 .31 with OKS .966, a false alarm, .531, .949, .731. The third, once below
    # the threshold, is forgiven: it stands beside somebody without labelled joints. So precision
    # over the 101 recalls is 1 up to .25, and then
    at_50 = (26 + 75 * 4 / 5) / 101
    at_55_to_70 = (26 + 50 * 3 / 4) / 101
    at_75_to_90 = (26 + 25 * 2 / 3) / 101
    at_95 = 26 / 101
    data = annotations()
    metrics = coco.evaluate_keypoints(data, jittered(data, 5.0))
    assert metrics["AP50"] == pytest.approx(at_50)
    assert metrics["AP75"] == pytest.approx(at_75_to_90)
    mean = (at_50 + 4 * at_55_to_70 + 4 * at_75_to_90 + at_95) / 10
    assert metrics["AP"] == pytest.approx(mean)
    assert metrics["AR"] == pytest.approx((1 + 4 * 0.75 + 4 * 0.5 + 0.25) / 10)
    people, keypoints = labelled(data)
    points = jitter(keypoints[..., :2], 5.0)
    for annotation, truth, found, expected in zip(
        people, keypoints, points, (0.731, 0.966, 0.949, 0.531), strict=True
    ):
        assert oks_by_loop(annotation["area"], truth, found) == pytest.approx(expected, abs=5e-4)


def oks_by_loop(area, truth, found):
    terms = []
    for (x, y, v), point, sigma in zip(truth, found, COCO.sigmas, strict=True):
        if v > 0:
            square = (point[0] - x) ** 2 + (point[1] - y) ** 2
            terms.append(math.exp(-square / (2 * area * (2 * sigma) ** 2)))
    return sum(terms) / len(terms)


def test_annotation_zero_counts():
    data = annotations() | {"annotations": [person(0, 7, (20, 30, 100, 200))]}
    assert coco.evaluate_keypoints(data, perfect(data))["AP"] == 1.0


def test_missing_optional_fields_are_completed():
    data = annotations()
    full = coco.evaluate_keypoints(data, jittered(data, 2.0))
    results = jittered(data, 2.0)
    for annotation in data["annotations"]:
        if not annotation["iscrowd"]:
            del annotation["iscrowd"]
        if annotation["num_keypoints"] == 0:
            del annotation["keypoints"]
        del annotation["num_keypoints"]
    del data["categories"]
    assert coco.evaluate_keypoints(data, results) == full


def test_a_crowd_forgives_and_a_bystander_does_not():
    data = annotations()
    crowd = np.reshape(person(1, 8, (300, 25, 90, 80))["keypoints"], (1, 17, 3))[..., :2]
    one = np.ones((1, 17)), np.full(1, 0.95)
    inside = coco.keypoint_results([8], crowd, *one)
    outside = coco.keypoint_results([10], crowd, *one)
    assert coco.evaluate_keypoints(data, perfect(data) + inside)["AP"] == 1.0
    assert coco.evaluate_keypoints(data, perfect(data) + outside)["AP"] < 1.0


def test_image_ids_choose_a_part():
    data = annotations()
    first = [result for result in perfect(data) if result["image_id"] == 7]
    assert coco.evaluate_keypoints(data, first)["AR"] == pytest.approx(0.5)
    assert coco.evaluate_keypoints(data, perfect(data), image_ids=[7])["AR"] == 1.0
    assert coco.evaluate_keypoints(data, first, image_ids=np.array([7]))["AR"] == 1.0
    assert coco.evaluate_keypoints(data, first, image_ids=np.array([8, 9]))["AR"] == 0.0


def test_own_skeleton():
    hand = Skeleton.create(("wrist", "left_tip", "right_tip"), limbs=[], sigmas=[0.1, 0.1, 0.3])
    data = annotations() | {"annotations": [person(1, 7, (20, 30, 100, 200))]}
    data["annotations"][0] |= {"keypoints": [30, 40, 2, 50, 60, 2, 70, 80, 1], "num_keypoints": 3}
    points = np.array([[[30.0, 40], [50, 60], [70, 80]]])
    scale = 2 * 0.3 * np.sqrt(-2 * data["annotations"][0]["area"] * np.log(0.43))
    points[0, 2, 0] += scale  # terms 1, 1 and .43: OKS .81
    results = coco.keypoint_results([7], points, np.ones((1, 3)), np.ones(1))
    metrics = coco.evaluate_keypoints(data, results, skeleton=hand)
    assert metrics["AP"] == pytest.approx(0.7)
    assert (metrics["AP50"], metrics["AP75"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="annotation 1 has 9 keypoint numbers, not 3 x 17"):
        coco.evaluate_keypoints(data, results)
    with pytest.raises(ValueError, match="result 0: keypoints must be a list of 3 x 17 numbers"):
        coco.evaluate_keypoints(annotations(), results)


def test_boxes_as_pycocotools_by_hand(tmp_path):
    data = annotations()
    for i, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = i
    boxes = coco.from_xywh(np.array([a["bbox"] for a in data["annotations"]], float))
    image_ids = [a["image_id"] for a in data["annotations"]]
    scores = np.array([0.9, 0.2, 0.8, 0.75, 0.6, 0.7])
    results = coco.box_results(image_ids, jitter(boxes, 4.0), scores)
    metrics = coco.evaluate_boxes(data, results)
    assert tuple(metrics) == coco.BOX_METRICS
    stats = by_hand(data, results, "bbox", tmp_path)
    np.testing.assert_allclose(list(metrics.values()), stats)
    assert 0 < metrics["box_AP"] < 1
    exact = coco.evaluate_boxes(data, coco.box_results(image_ids, boxes, scores))
    assert (exact["box_AP"], exact["box_AR100"]) == (1.0, 1.0)


def test_other_categories_are_left_out():
    data, results = annotations(), perfect(annotations())
    zebra = {"id": 99, "image_id": 7, "category_id": 24, "bbox": [0, 0, 9, 9], "area": 81}
    data["annotations"].append(zebra)
    data["categories"].append({"id": 24, "name": "zebra"})
    zebra_pose = results[0] | {"category_id": 24, "image_id": 77}
    assert coco.evaluate_keypoints(data, [*results, zebra_pose])["AP"] == 1.0


def test_the_file_says_what_pycocotools_reads(tmp_path):
    data = annotations()
    for i, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = i
    results = jittered(data, 2.0)
    (tmp_path / "truth.json").write_text(json.dumps(data))
    coco.write_results(tmp_path / "keypoints.json", results)
    again = coco.read_results(tmp_path / "keypoints.json", kind="keypoints")
    assert again == results
    metrics = coco.evaluate_keypoints(tmp_path / "truth.json", again)
    stats = by_hand(
        data, json.loads((tmp_path / "keypoints.json").read_text()), "keypoints", tmp_path
    )
    np.testing.assert_allclose(list(metrics.values()), stats)
    coco.write_results(tmp_path / "none.json", [])
    assert coco.read_results(tmp_path / "none.json", kind="bbox") == []


def test_nobody_found_makes_an_empty_list():
    nobody = coco.keypoint_results(
        np.zeros(0, np.int64), np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0)
    )
    assert nobody == []
    assert coco.box_results(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0)) == []


def test_rounding_changes_no_number():
    data = annotations()
    people, keypoints = labelled(data)
    exact = []
    for row, annotation in zip(jitter(keypoints, 2.0), people, strict=True):
        exact.append(
            {"image_id": annotation["image_id"], "category_id": 1, "score": 1 / (3 + row[0, 0])}
            | {"keypoints": row.ravel().tolist()}
        )
    rows = np.array([e["keypoints"] for e in exact]).reshape(-1, 17, 3)
    scores = np.array([e["score"] for e in exact])
    image_ids = [e["image_id"] for e in exact]
    rounded = coco.keypoint_results(image_ids, rows[..., :2], np.ones((len(rows), 17)), scores)
    assert rounded[0]["keypoints"] != exact[0]["keypoints"]
    assert coco.evaluate_keypoints(data, rounded) == coco.evaluate_keypoints(data, exact)


def test_results_are_short_plain_numbers():
    points = np.full((1, 17, 2), 12.34567, np.float32)
    scores = np.array([0.8123], np.float32)
    (result,) = coco.keypoint_results(
        np.array([139]), points, np.full((1, 17), 1 / 3, np.float32), scores
    )
    assert json.dumps(result).startswith(
        '{"image_id": 139, "category_id": 1, "keypoints": [12.35, 12.35, 0.3333, 12.35,'
    )
    assert json.dumps(result).endswith('"score": 0.8123}')
    close = np.array([1e-7, 1.0000001e-7], np.float32)
    first, second = coco.box_results([1, 1], np.zeros((2, 4)), close)
    assert first["score"] < second["score"]


def test_xywh_round_trip():
    boxes = np.array([[10.0, 20.0, 35.5, 80.25], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(coco.to_xywh(boxes)[0], [10, 20, 25.5, 60.25])
    np.testing.assert_array_equal(coco.from_xywh(coco.to_xywh(boxes)), boxes)
    assert coco.to_xywh(np.zeros((0, 4))).shape == (0, 4)
    results = coco.box_results([3, 3], boxes, np.array([0.25, 0.5]))
    assert results[0]["bbox"] == [10.0, 20.0, 25.5, 60.25]
    other = results[0] | {"category_id": 24}
    images = coco.boxes_by_image([*results, other])
    assert list(images) == [3]
    np.testing.assert_array_equal(images[3][0], boxes[::-1])
    np.testing.assert_array_equal(images[3][1], [0.5, 0.25])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "boxes.json: not a JSON file"),
        ('{"a": 1}', "boxes.json: a results file is a JSON array, not dict"),
        ("[3]", "boxes.json: entry 0 is not an object but int"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]', "entry 0 has no 'score'"),
        (
            '[{"image_id": 1, "category_id": 1, "box": [1, 2, 3, 4], "score": 1}]',
            "entry 0 has no 'bbox'; did you mean 'box'",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]',
            "entry 0: bbox must be a list of 4 numbers, got 3",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, -3, 4], "score": 1}]',
            r"entry 0: bbox is \[x, y, width, height\], got",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, NaN, 3, 4], "score": 1}]',
            "entry 0: nan is not a finite number",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": "high"}]',
            "entry 0: 'high' is not a finite number",
        ),
    ],
)
def test_unreadable_results_are_named(text, message, tmp_path):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        coco.read_results(tmp_path / "boxes.json", kind="bbox")


def test_other_mistakes_are_named(tmp_path):
    data, results = annotations(), perfect(annotations())
    with pytest.raises(ValueError, match="the results name image 77, which the ground truth"):
        coco.evaluate_keypoints(data, [results[0] | {"image_id": 77}])
    with pytest.raises(ValueError, match="image_ids name image 4 and 1 more"):
        coco.evaluate_keypoints(data, results, image_ids=[4, 5, 7])
    with pytest.raises(ValueError, match="result 0: nan is not a finite number"):
        coco.evaluate_keypoints(data, [results[0] | {"keypoints": [float("nan")] * 51}])
    with pytest.raises(ValueError, match="has no 'annotations'"):
        coco.evaluate_keypoints({"images": []}, results)
    del data["annotations"][1]["area"]
    with pytest.raises(ValueError, match="annotation 12 has no 'area'"):
        coco.evaluate_boxes(data, [])
    with pytest.raises(FileNotFoundError):
        coco.evaluate_boxes(tmp_path / "none.json", [])
    with pytest.raises(ValueError, match="JSON compliant"):
        coco.write_results(tmp_path / "bad.json", [results[0] | {"score": float("nan")}])


def test_pycocotools_is_silent(capsys):
    coco.evaluate_keypoints(annotations(), perfect(annotations()))
    assert capsys.readouterr().out == ""


CASES = ("jittered", "perfect", "nothing", "nobody", "some images", "boxes")


@pytest.mark.parametrize("case", CASES)
def test_the_faster_backend_gives_the_same_numbers(case):
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is optional")
    data, options = annotations(), {}
    results = perfect(data) if case == "perfect" else jittered(data, 3.0)
    if case == "boxes":
        people, _ = labelled(data)
        boxes = coco.from_xywh(np.array([a["bbox"] for a in people], float))
        boxes[:, 2:] += (4, 9)
        results = coco.box_results([a["image_id"] for a in people], boxes, np.arange(4) / 4)
    if case == "nothing":
        results = []
    if case == "nobody":
        data |= {"annotations": []}
    if case == "some images":
        options["image_ids"] = [9, 7]
    evaluate = coco.evaluate_boxes if case == "boxes" else coco.evaluate_keypoints
    before = copy.deepcopy((data, results))
    expected = evaluate(data, results, **options)
    assert evaluate(data, results, **options, backend="faster") == expected
    assert (data, results) == before
    if case == "jittered":
        assert 0.1 < expected["AP"] < 0.9


def test_the_faster_backend_is_asked_for_but_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed: pip install faster-coco-eval"):
        coco.evaluate_keypoints(annotations(), [], backend="faster")
    coco.require("pycocotools")


def test_precision_recall_of_two_people_of_whom_the_better_scored_is_wrong():
    people = [person(i, i, (20, 30, 150, 400)) for i in (7, 8)]
    data = annotations() | {"annotations": people}
    _, keypoints = labelled(data)
    points = keypoints[..., :2].copy()
    points[1] += 1e4
    scores = np.array([0.4, 0.9], np.float32)
    results = coco.keypoint_results([7, 8], points, np.ones((2, 17)), scores)
    evaluation = coco.run(coco.ground_truth(data, joints=17), results, "keypoints")
    curves = coco.precision_recall(evaluation)
    assert list(curves) == [".5", ".75", ".95", "mean"]
    for precision in curves.values():  # one of two found, behind a mistake
        np.testing.assert_allclose(precision, np.where(np.arange(101) <= 50, 0.5, 0), atol=1e-12)
    np.testing.assert_allclose(coco.average_precision(evaluation), [0.5 * 51 / 101] * 10)
