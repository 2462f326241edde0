"""The benchmarks of suppression and of region features, on a few boxes."""

import re

import numpy as np
import pytest

from experiments.benchmarks import nms, roi

TINY = {"height": 7, "width": 9, "channels": 3, "count": 5, "size": 4}


@pytest.fixture
def alone(monkeypatch):
    """None of the optional rivals is installed."""

    def missing(*_):
        raise ImportError("missing", name="rival")

    for module, names in (
        (nms, ("torch_loop", "onnx_nms")),
        (roi, ("torch_grid_sample", "onnx_crops", "onnx_roi_align")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, missing)


def test_suppression_is_timed_and_checked(capsys, alone):
    nms.main(boxes=40, regions=20, detections=5, rounds=1, processor_time=True)
    out = capsys.readouterr().out
    assert "PyTorch loop: left out, rival is not installed" in out
    assert "40 chain at IoU 0.3: all keep the same 20 boxes" in out
    assert len(re.findall(r"^box_nms, best \d+ +[\d.]+ ms", out, re.M)) == 4


def test_a_rival_that_keeps_other_boxes_is_found():
    scored = nms.chain(6)
    calls = {"numpy loop": lambda: nms.numpy_loop(scored, 0.3)}
    assert nms.agreement(calls, 3) == "all keep the same 3 boxes"
    with pytest.raises(ValueError, match="wrong keeps other boxes"):
        nms.agreement({**calls, "wrong": lambda: np.ones(6, bool)}, 3)


def test_made_proposals_are_boxes_in_the_picture():
    boxes, scores = nms.made_proposals(200, height=100, width=150)
    assert boxes.shape == (200, 4)
    assert scores.shape == (200,)
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [150, 100, 150, 100]).all()


def test_samplers_are_timed_and_compared(capsys, alone, monkeypatch):
    made = roi.made_regions
    monkeypatch.setattr(roi, "made_regions", lambda **_: made(**TINY))
    roi.main(only="small", rounds=1, processor_time=True)
    out = capsys.readouterr().out
    assert "PyTorch: left out, not installed" in out
    assert "onnxruntime: left out, rival is not installed" in out
    differences = re.findall(r"^small, .*: results differ by at most (\S+)$", out, re.M)
    assert len(differences) == 4
    assert max(map(float, differences)) < 1e-5
    assert len(re.findall(r"^matrices +[\d.]+ ms", out, re.M)) == 2


@pytest.mark.slow
def test_the_samplers_of_others_agree():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    tasks = roi.rivals(roi.made_regions(**TINY))
    assert [len(calls) for calls in tasks.values()] == [4, 3, 2, 1]
    for calls in tasks.values():
        assert roi.difference(calls) < 1e-5


@pytest.mark.slow
def test_the_suppressions_of_others_agree():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    for scored, threshold in ((nms.made_proposals(500), 0.6), (nms.chain(500), 0.3)):
        calls = nms.rivals(scored, threshold, 20)
        assert len(calls) == 5
        nms.agreement(calls, 20)
