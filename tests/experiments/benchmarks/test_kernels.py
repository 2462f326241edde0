"""The kernels' benchmark on small inputs: what it is given, that rivals agree, what it writes."""

import importlib.util
import json
import re

import numpy as np
import pytest

from experiments.benchmarks import kernels, made
from experiments.benchmarks.timing import differences
from g_rmi.evaluation.truth import Truth, evaluate_boxes, evaluate_keypoints
from tests.oracles import rivals

GRID = made.Grid(33, 25, 6.0)
CROP = ["--height", "33", "--width", "25", "--radius", "6"]
TINY = {"height": 7, "width": 9, "channels": 3, "count": 5, "size": 4}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(kernels.SIZES, "small", kernels.Size(2, 40, TINY, 5))


@pytest.fixture
def alone(monkeypatch):
    """None of the optional rivals is installed."""

    def missing(*_, **__):
        raise ImportError("No module named 'rival'")

    for name in ("numba_decode", "onnx_nms", "torch_crops", "onnx_roi_align"):
        monkeypatch.setattr(rivals, name, missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_times_and_checks_what_is_there(small, alone, tmp_path, capsys):
    kernels.main([*CROP, "--rounds", "1", "--processor-time", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    for missing in ("numba", "PyTorch", "onnxruntime", "faster"):
        assert f"{missing}: left out (" in out
    values = json.loads((tmp_path / "kernels.json").read_text())
    assert {"date", "commit", "machine", "versions", "note"} < values.keys()
    assert values["versions"].keys() >= {"jax", "numpy"}
    by_case = {}
    for row in values["rows"]:
        assert 0 < row["from"] <= row["ms"] <= row["to"]
        by_case.setdefault(row["case"], []).append(row["rival"])
    assert len(by_case) == 2 + 5 + 4 + 2
    assert by_case["decode"] == ["decode", "whole vote maps"]
    assert by_case["ways of decoding"] == ["hough", "hough_oks", "argmax", "argmax_offset"]
    assert by_case["a chain of 40, IoU 0.3"] == ["box_nms", "numpy loop"]
    assert by_case["gradient of crops"] == ["crop_boxes", "matrices"]
    assert by_case["evaluation of boxes"] == ["pycocotools"]
    page = (tmp_path / "kernels.md").read_text()
    assert values["commit"] in page
    assert re.search(r"\| decode +\| whole vote maps +\| ", page)


def test_the_maps_of_a_file_are_decoded(tmp_path, alone, capsys):
    given = made.made_maps(GRID, count=3, stride=4)
    np.savez(tmp_path / "maps.npz", heatmap=given.logits, offset=given.offset)
    maps = ["--maps", str(tmp_path / "maps.npz"), *CROP]
    kernels.main(["--only", "decode", *maps, "--rounds", "1", "--out", str(tmp_path)])
    assert "3 crops of 33 x 25" in capsys.readouterr().out
    np.savez(tmp_path / "maps.npz", heatmap=np.zeros(3))
    with pytest.raises(ValueError, match=r"maps\.npz: no array 'offset'; it has heatmap"):
        kernels.main(["--only", "decode", *maps])


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="--only nmz: no such kernel; did you mean 'nms'"):
        kernels.main(["--only", "nmz"])


def test_what_does_not_agree_is_found():
    scores, places = np.array([0.5, 0.25]), np.array([3, 4])
    ours = [(places, scores), (places, scores)]
    assert kernels.other_maxima(ours, ours) == 0
    assert kernels.other_maxima(ours, [(places, scores), (places + np.arange(2), scores)]) == 0.25
    assert kernels.other_maxima(ours, [(places, scores), (places, scores + 0.1)]) == np.inf
    assert kernels.kept_by_one(np.array([True, False, True]), [2, 0]) == 0
    assert kernels.kept_by_one(np.array([True, False, True]), [1, 0]) == 2
    assert kernels.relative(np.array([1.0, -4.0]), np.array([1.5, -4.0])) == 0.125
    assert kernels.of_metrics({"AP": 0.5}, {"AP": 0.25}) == 0.25


def test_a_chain_keeps_every_second_box():
    assert rivals.numpy_nms(*made.chain(6), 0.3, 6)() == [0, 2, 4]
    assert rivals.numpy_nms(*made.chain(6), 0.3, 2)() == [0, 2]


def test_made_proposals_are_boxes_in_the_picture():
    boxes, scores = made.made_proposals(200, height=100, width=150)
    assert boxes.shape == (200, 4)
    assert scores.shape == (200,)
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [150, 100, 150, 100]).all()


def test_made_results_are_worth_evaluating():
    (annotations, poses, boxes), again = made.made_results(60), made.made_results(60)
    assert (annotations, poses, boxes) == again
    truth = Truth(annotations)
    for metrics in (evaluate_keypoints(truth, poses), evaluate_boxes(truth, boxes)):
        assert 0.02 < next(iter(metrics.values())) < 0.9
    assert len(poses) == len(boxes) > 60 * 7


def test_the_backends_numbers_are_the_same():
    pytest.importorskip("hotcoco", reason="hotcoco is optional")
    for case in kernels.evaluation_cases(40):
        assert differences(case) == {"pycocotools": 0.0, "faster": 0.0}


@pytest.mark.slow
def test_others_cast_the_same_votes():
    pytest.importorskip("numba")
    case, _ = kernels.decode_cases(made.made_maps(GRID, count=2, stride=4), GRID)
    assert differences(case) == {"decode": 0.0, "whole vote maps": 0.0, "numba": 0.0}


@pytest.mark.slow
def test_the_samplers_of_others_agree():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    cases = list(kernels.roi_cases(made.made_regions(**TINY)))
    assert [len(case.rivals) for case in cases] == [3, 3, 2, 1]
    for case in cases:
        assert max(differences(case).values()) < 1e-5


@pytest.mark.slow
def test_the_suppressions_of_others_agree():
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    for case in kernels.nms_cases(500):
        assert list(differences(case).values()) == [0.0] * 3
