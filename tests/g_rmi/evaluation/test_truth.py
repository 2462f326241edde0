"""COCO's numbers, by hand and against pycocotools used by hand."""

import copy
import importlib.util
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoIndex
from pycocotools.cocoeval import COCOeval

from g_rmi.evaluation import truth
from g_rmi.evaluation.results import box_results, keypoint_results, write_results
from g_rmi.evaluation.truth import BOX_METRICS, KEYPOINT_METRICS, Truth
from g_rmi.geometry import from_xywh
from g_rmi.skeleton import COCO, Skeleton
from tests.g_rmi.evaluation.people import annotations, jitter, labelled, person


def keypoint_numbers(data, results, **options):
    return truth.evaluate_keypoints(Truth(data, **options), results)


def box_numbers(data, results, **options):
    return truth.evaluate_boxes(Truth(data, **options), results)


def perfect(data):
    people, keypoints = labelled(data)
    image_ids = [a["image_id"] for a in people]
    scores = np.linspace(0.9, 0.3, len(people))
    return keypoint_results(image_ids, keypoints[..., :2], keypoints[..., 2] / 2, scores)


def jittered(data, pixels):
    people, keypoints = labelled(data)
    image_ids = [a["image_id"] for a in people] + [10]
    points = np.concatenate([jitter(keypoints[..., :2], pixels), keypoints[:1, :, :2]])
    scores = np.array([0.31, 0.8, 0.55, 0.62, 0.7], np.float32)
    return keypoint_results(image_ids, points, np.ones(points.shape[:2]), scores)


def by_hand(data, results, kind, tmp_path):
    """Runs pycocotools on files, as its own demonstration uses it."""
    for name, values in (("truth", data), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    index = CocoIndex(str(tmp_path / "truth.json"))
    evaluation = COCOeval(index, index.loadRes(str(tmp_path / "results.json")), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_ground_truth_as_prediction_is_perfect():
    data = annotations()
    results = perfect(data)
    before = copy.deepcopy((data, results))
    metrics = keypoint_numbers(data, results)
    assert tuple(metrics) == KEYPOINT_METRICS
    assert metrics == dict.fromkeys(KEYPOINT_METRICS, 1.0)
    assert (data, results) == before


def test_one_perfect_person_is_exactly_one():
    data = annotations() | {"annotations": [person(1, 7, (20, 30, 100, 200))]}
    metrics = keypoint_numbers(data, perfect(data))
    assert metrics["AP"] == metrics["APL"] == 1.0
    assert metrics["APM"] == metrics["ARM"] == -1.0  # nobody of medium size is there


def test_nothing_found_is_zero_and_nothing_to_find_is_minus_one():
    data = annotations()
    assert set(keypoint_numbers(data, []).values()) == {0.0}
    nobody = data | {"annotations": []}
    assert set(keypoint_numbers(nobody, perfect(data)).values()) == {-1.0}
    assert set(keypoint_numbers(nobody, []).values()) == {-1.0}
    assert set(box_numbers(nobody, []).values()) == {-1.0}
    assert box_numbers(data, [])["box_AP"] == 0.0


def test_thresholds_by_hand():
    # Every joint off by the distance whose OKS term is .77: found at .5, .55, ... .75, not above.
    one = person(1, 7, (20, 30, 100, 200))
    data = annotations() | {"annotations": [one]}
    points = np.reshape(one["keypoints"], (1, 17, 3))[..., :2].copy()
    k = 2 * np.array(COCO.sigmas)
    points[0, :, 0] += k * np.sqrt(-2 * one["area"] * np.log(0.77))
    results = keypoint_results([7], points, np.ones((1, 17)), np.ones(1))
    metrics = keypoint_numbers(data, results)
    expected = {"AP": 0.6, "AP50": 1.0, "AP75": 1.0, "APL": 0.6, "AR": 0.6, "AR75": 1.0}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_unlabelled_joints_do_not_count_and_occluded_ones_do():
    data = annotations() | {
        "annotations": [person(1, 7, (20, 30, 100, 200), hidden=(3, 4), occluded=(15,))]
    }
    results = perfect(data)
    results[0]["keypoints"][9:15] = [1e4] * 6
    assert keypoint_numbers(data, results)["AP"] == 1.0
    results[0]["keypoints"][45:47] = [1e4] * 2  # 14 of 15 joints right: OKS .933
    assert keypoint_numbers(data, results)["AP"] == pytest.approx(0.9)


@pytest.mark.parametrize("pixels", [0.5, 2.0, 5.0])
def test_jittered_people_as_pycocotools_by_hand(pixels, tmp_path):
    data = annotations()
    for i, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = i  # pycocotools alone takes a match with annotation 0 for none
    results = jittered(data, pixels)
    stats = by_hand(data, results, "keypoints", tmp_path)
    np.testing.assert_allclose(list(keypoint_numbers(data, results).values()), stats)


def test_jittered_people_by_hand():
    # Scores .8 .7 .62 .55 .31 with OKS .966, a false alarm, .531, .949, .731. The third, once below
    # the threshold, is forgiven: it stands beside somebody without labelled joints. So precision
    # over the 101 recalls is 1 up to .25, and then
    at_50 = (26 + 75 * 4 / 5) / 101
    at_55_to_70 = (26 + 50 * 3 / 4) / 101
    at_75_to_90 = (26 + 25 * 2 / 3) / 101
    at_95 = 26 / 101
    data = annotations()
    metrics = keypoint_numbers(data, jittered(data, 5.0))
    assert metrics["AP50"] == pytest.approx(at_50)
    assert metrics["AP75"] == pytest.approx(at_75_to_90)
    mean = (at_50 + 4 * at_55_to_70 + 4 * at_75_to_90 + at_95) / 10
    assert metrics["AP"] == pytest.approx(mean)
    assert metrics["AR"] == pytest.approx((1 + 4 * 0.75 + 4 * 0.5 + 0.25) / 10)
    people, keypoints = labelled(data)
    points = jitter(keypoints[..., :2], 5.0)
    for annotation, labels, found, expected in zip(
        people, keypoints, points, (0.731, 0.966, 0.949, 0.531), strict=True
    ):
        assert oks_by_loop(annotation["area"], labels, found) == pytest.approx(expected, abs=5e-4)


def oks_by_loop(area, truth, found):
    terms = []
    for (x, y, v), point, sigma in zip(truth, found, COCO.sigmas, strict=True):
        if v > 0:
            square = (point[0] - x) ** 2 + (point[1] - y) ** 2
            terms.append(math.exp(-square / (2 * area * (2 * sigma) ** 2)))
    return sum(terms) / len(terms)


def test_annotation_zero_counts():
    data = annotations() | {"annotations": [person(0, 7, (20, 30, 100, 200))]}
    assert keypoint_numbers(data, perfect(data))["AP"] == 1.0


def test_missing_optional_fields_are_completed():
    data = annotations()
    full = keypoint_numbers(data, jittered(data, 2.0))
    results = jittered(data, 2.0)
    for annotation in data["annotations"]:
        if not annotation["iscrowd"]:
            del annotation["iscrowd"]
        if annotation["num_keypoints"] == 0:
            del annotation["keypoints"]
        del annotation["num_keypoints"]
    del data["categories"]
    assert keypoint_numbers(data, results) == full


def test_a_crowd_forgives_and_a_bystander_does_not():
    data = annotations()
    crowd = np.reshape(person(1, 8, (300, 25, 90, 80))["keypoints"], (1, 17, 3))[..., :2]
    one = np.ones((1, 17)), np.full(1, 0.95)
    inside = keypoint_results([8], crowd, *one)
    outside = keypoint_results([10], crowd, *one)
    assert keypoint_numbers(data, perfect(data) + inside)["AP"] == 1.0
    assert keypoint_numbers(data, perfect(data) + outside)["AP"] < 1.0


def test_image_ids_choose_a_part():
    data = annotations()
    first = [result for result in perfect(data) if result["image_id"] == 7]
    assert keypoint_numbers(data, first)["AR"] == pytest.approx(0.5)
    assert keypoint_numbers(data, perfect(data), image_ids=[7])["AR"] == 1.0
    assert keypoint_numbers(data, first, image_ids=np.array([7]))["AR"] == 1.0
    assert keypoint_numbers(data, first, image_ids=np.array([8, 9]))["AR"] == 0.0


def test_own_skeleton():
    hand = Skeleton.create(("wrist", "left_tip", "right_tip"), limbs=[], sigmas=[0.1, 0.1, 0.3])
    data = annotations() | {"annotations": [person(1, 7, (20, 30, 100, 200))]}
    data["annotations"][0] |= {"keypoints": [30, 40, 2, 50, 60, 2, 70, 80, 1], "num_keypoints": 3}
    points = np.array([[[30.0, 40], [50, 60], [70, 80]]])
    scale = 2 * 0.3 * np.sqrt(-2 * data["annotations"][0]["area"] * np.log(0.43))
    points[0, 2, 0] += scale  # terms 1, 1 and .43: OKS .81
    results = keypoint_results([7], points, np.ones((1, 3)), np.ones(1))
    metrics = keypoint_numbers(data, results, skeleton=hand)
    assert metrics["AP"] == pytest.approx(0.7)
    assert (metrics["AP50"], metrics["AP75"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="annotation 1 has 9 keypoint numbers, not 3 x 17"):
        keypoint_numbers(data, results)
    with pytest.raises(ValueError, match="result 0: keypoints must be a list of 3 x 17 numbers"):
        keypoint_numbers(annotations(), results)


def test_boxes_as_pycocotools_by_hand(tmp_path):
    data = annotations()
    for i, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = i
    boxes = from_xywh(np.array([a["bbox"] for a in data["annotations"]], float))
    image_ids = [a["image_id"] for a in data["annotations"]]
    scores = np.array([0.9, 0.2, 0.8, 0.75, 0.6, 0.7])
    results = box_results(image_ids, jitter(boxes, 4.0), scores)
    metrics = box_numbers(data, results)
    assert tuple(metrics) == BOX_METRICS
    stats = by_hand(data, results, "bbox", tmp_path)
    np.testing.assert_allclose(list(metrics.values()), stats)
    assert 0 < metrics["box_AP"] < 1
    exact = box_numbers(data, box_results(image_ids, boxes, scores))
    assert (exact["box_AP"], exact["box_AR100"]) == (1.0, 1.0)


def test_other_categories_are_left_out():
    data, results = annotations(), perfect(annotations())
    zebra = {"id": 99, "image_id": 7, "category_id": 24, "bbox": [0, 0, 9, 9], "area": 81}
    data["annotations"].append(zebra)
    data["categories"].append({"id": 24, "name": "zebra"})
    zebra_pose = results[0] | {"category_id": 24, "image_id": 77}
    assert keypoint_numbers(data, [*results, zebra_pose])["AP"] == 1.0


def test_the_file_says_what_pycocotools_reads(tmp_path):
    data = annotations()
    for i, annotation in enumerate(data["annotations"], 1):
        annotation["id"] = i
    results = jittered(data, 2.0)
    write_results(tmp_path / "keypoints.json", results)
    again = json.loads((tmp_path / "keypoints.json").read_text())
    assert again == results
    stats = by_hand(data, again, "keypoints", tmp_path)
    np.testing.assert_allclose(list(keypoint_numbers(data, results).values()), stats)


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
    rounded = keypoint_results(image_ids, rows[..., :2], np.ones((len(rows), 17)), scores)
    assert rounded[0]["keypoints"] != exact[0]["keypoints"]
    assert keypoint_numbers(data, rounded) == keypoint_numbers(data, exact)


BOX = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}, "result 0 has no 'score'"),
        (
            {"image_id": 7, "category_id": 1, "box": [1, 2, 3, 4], "score": 1},
            "result 0 has no 'bbox'; did you mean 'box'",
        ),
        (BOX | {"bbox": [1, 2, 3]}, "result 0: bbox must be a list of 4 numbers, got 3"),
        (BOX | {"bbox": "1234"}, "result 0: bbox must be a list of 4 numbers, got 0"),
        (BOX | {"bbox": [1, 2, -3, 4]}, r"result 0: bbox is \[x, y, width, height\], got"),
        (BOX | {"bbox": [1, float("nan"), 3, 4]}, "result 0: nan is not a finite number"),
        (BOX | {"bbox": [1, 2, 3, 4], "score": "high"}, "result 0: 'high' is not a finite number"),
        (
            BOX | {"bbox": [1, 2, 3, 4], "image_id": 77},
            "the results name image 77, which the ground",
        ),
    ],
)
def test_malformed_results_are_named(entry, message):
    with pytest.raises(ValueError, match=message):
        box_numbers(annotations(), [entry])


def test_other_mistakes_are_named(tmp_path):
    data, results = annotations(), perfect(annotations())
    with pytest.raises(ValueError, match="the results name image 77, which the ground truth"):
        keypoint_numbers(data, [results[0] | {"image_id": 77}])
    with pytest.raises(ValueError, match="image_ids name image 4 and 1 more"):
        Truth(data, image_ids=[4, 5, 7])
    with pytest.raises(ValueError, match="result 0: nan is not a finite number"):
        keypoint_numbers(data, [results[0] | {"keypoints": [float("nan")] * 51}])
    with pytest.raises(ValueError, match="has no 'annotations'"):
        Truth({"images": []})
    del data["annotations"][1]["area"]
    with pytest.raises(ValueError, match="annotation 12 has no 'area'"):
        Truth(data)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(tmp_path / "bad.json", [results[0] | {"score": float("nan")}])


def test_one_truth_serves_every_evaluation():
    data = annotations()
    before = copy.deepcopy(data)
    people, _ = labelled(data)
    boxes = from_xywh(np.array([a["bbox"] for a in people], float))
    found = box_results(
        [a["image_id"] for a in people], boxes + np.array([0, 0, 4, 9]), np.arange(4) / 4
    )
    results = [("keypoints", perfect(data)), ("bbox", found), ("keypoints", jittered(data, 3.0))]
    evaluate = {"keypoints": truth.evaluate_keypoints, "bbox": truth.evaluate_boxes}
    expected = [evaluate[kind](Truth(data), entries) for kind, entries in results]
    one = Truth(data)
    for _ in range(2):
        assert [evaluate[kind](one, entries) for kind, entries in results] == expected
    assert data == before


def test_the_people_of_a_truth():
    data = annotations()
    data["annotations"].append(person(99, 7, (0, 0, 9, 9)) | {"category_id": 24})
    one = Truth(data)
    assert [p["id"] for p in one.people] == [1, 2, 3, 4, 5, 6]
    assert [p["original_id"] for p in one.people] == [0, 12, 5, 6, 3, 4]
    assert one.keypoints.shape == (6, 17, 3)
    assert one.boxes[1].tolist() == [200, 40, 350, 440]
    assert one.areas[1] == 0.6 * 150 * 400
    assert [one.rows(image) for image in (7, 8, 9, 10)] == [[0, 1], [2], [5], []]
    some = one.with_people(one.people[1:3])
    assert some.image_ids == [7, 8, 9, 10]
    assert [some.rows(image) for image in (7, 8, 9, 10)] == [[0], [1], [], []]


def test_who_is_matched_with_whom():
    data = annotations()
    points = labelled(data)[1][..., :2].copy()
    points[1] += 1e4
    # Image 7: the second person is not found; 8: found, before a crowd; 9: nothing is looked at.
    results = keypoint_results([7, 7, 8], points[:3], np.ones((3, 17)), np.array([0.5, 0.9, 0.7]))
    zebra = results[0] | {"category_id": 24}
    evaluation = Truth(data, image_ids=[7, 8]).evaluate([zebra, *results], "keypoints")
    first, second = truth.matches(evaluation)
    assert (first.image, second.image) == (7, 8)
    assert (first.people.tolist(), first.counts.tolist()) == ([0, 1], [True, True])
    assert first.detections.tolist() == [1, 0]  # best first
    assert first.found.tolist() == [[0, -1]] * 10
    assert first.right.tolist() == [[False, True]] * 10
    assert (second.people.tolist(), second.counts.tolist()) == ([2, 3], [True, False])
    assert second.found.tolist() == [[2, -1]] * 10


def test_pycocotools_is_silent(capsys):
    keypoint_numbers(annotations(), perfect(annotations()))
    assert capsys.readouterr().out == ""


CASES = ("jittered", "perfect", "nothing", "nobody", "some images", "boxes")


@pytest.mark.parametrize("case", CASES)
def test_the_faster_backend_gives_the_same_numbers(case):
    pytest.importorskip("hotcoco", reason="hotcoco is optional")
    data, options = annotations(), {}
    results = perfect(data) if case == "perfect" else jittered(data, 3.0)
    if case == "boxes":
        people, _ = labelled(data)
        boxes = from_xywh(np.array([a["bbox"] for a in people], float))
        boxes[:, 2:] += (4, 9)
        results = box_results([a["image_id"] for a in people], boxes, np.arange(4) / 4)
    if case == "nothing":
        results = []
    if case == "nobody":
        data |= {"annotations": []}
    if case == "some images":
        options["image_ids"] = [9, 7]
    evaluate = box_numbers if case == "boxes" else keypoint_numbers
    before = copy.deepcopy((data, results))
    expected = evaluate(data, results, **options)
    assert evaluate(data, results, **options, backend="faster") == expected
    assert (data, results) == before
    if case == "jittered":
        assert 0.1 < expected["AP"] < 0.9


def crowded(seed):
    """People, crowds and boxes as they come, scores that tie, and a share of the images."""
    random = np.random.default_rng(seed)
    skeleton = COCO if seed % 2 else Skeleton.create("abc", limbs=[], sigmas=(0.05, 0.1, 0.2))
    k, count = len(skeleton), int(random.integers(1, 12))
    people, poses, boxes = [], [], []
    for image in range(1, count + 1):
        for _ in range(random.integers(0, 6)):
            box = np.concatenate([random.uniform(0, 300, 2), random.uniform(5, 300, 2)])
            v = random.integers(0, 3, k) * (random.random() < 0.9)
            points = box[:2] + random.random((k, 2)) * box[2:]
            one = {"id": len(people) + 1, "image_id": image, "category_id": 1}
            one |= {"bbox": box.tolist(), "area": float(box[2] * box[3] * random.uniform(0.2, 0.9))}
            one |= {
                "iscrowd": int(random.random() < (seed % 4) / 4),
                "num_keypoints": int((v > 0).sum()),
            }
            people.append(one | {"keypoints": np.c_[points, v].ravel().tolist()})
            for _ in range(random.integers(0, 8)):
                noise = 0.1 * np.sqrt(one["area"]) * random.random()
                found = {"image_id": image, "category_id": 1, "score": round(random.random(), 1)}
                moved = points + random.normal(0, noise, (k, 2))
                poses.append(found | {"keypoints": np.c_[moved, np.ones(k)].ravel().tolist()})
                corner = box + random.normal(0, noise, 4)
                boxes.append(found | {"bbox": [*corner[:2], *np.maximum(corner[2:], 1)]})
    content = {"images": [{"id": i} for i in range(1, count + 1)], "annotations": people}
    some = list(range(1, count + 1, 1 + seed % 3))
    return Truth(content, skeleton, image_ids=some), poses, boxes


@pytest.mark.parametrize("seed", range(24))
def test_the_faster_backend_is_pycocotools_to_the_last_bit(seed):
    pytest.importorskip("hotcoco", reason="hotcoco is optional")
    judge, poses, boxes = crowded(seed)
    for kind, results in (("keypoints", poses), ("bbox", boxes), ("keypoints", []), ("bbox", [])):
        for thresholds in (None, [0.5, 0.75]):
            ours, theirs = (
                judge.evaluate(results, kind, thresholds=thresholds, backend=backend)
                for backend in ("faster", "pycocotools")
            )
            for name in ("precision", "recall"):
                np.testing.assert_array_equal(ours.eval[name], theirs.eval[name])
            if thresholds is None:
                assert truth.numbers(ours) == truth.numbers(theirs)
                curves, expected = map(truth.precision_recall, (ours, theirs))
                for name in expected:
                    np.testing.assert_array_equal(curves[name], expected[name])


def test_the_faster_backend_is_asked_for_but_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed: pip install hotcoco"):
        Truth(annotations(), backend="faster")
    truth.require("pycocotools")


def test_precision_recall_of_two_people_of_whom_the_better_scored_is_wrong():
    people = [person(i, i, (20, 30, 150, 400)) for i in (7, 8)]
    data = annotations() | {"annotations": people}
    _, keypoints = labelled(data)
    points = keypoints[..., :2].copy()
    points[1] += 1e4
    scores = np.array([0.4, 0.9], np.float32)
    results = keypoint_results([7, 8], points, np.ones((2, 17)), scores)
    evaluation = Truth(data).evaluate(results, "keypoints")
    curves = truth.precision_recall(evaluation)
    assert list(curves) == [".5", ".75", ".95", "mean"]
    for precision in curves.values():  # one of two found, behind a mistake
        np.testing.assert_allclose(precision, np.where(np.arange(101) <= 50, 0.5, 0), atol=1e-12)
    np.testing.assert_allclose(truth.average_precision(evaluation), [0.5 * 51 / 101] * 10)
