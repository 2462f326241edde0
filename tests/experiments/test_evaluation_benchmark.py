"""The benchmark of COCO's evaluation, on a few pictures."""

import importlib.util
import re

import numpy as np
import pytest

from experiments.benchmarks import evaluation
from g_rmi.evaluation.truth import Truth, evaluate_boxes, evaluate_keypoints


def test_made_results_are_worth_evaluating():
    made = evaluation.made_results(60)
    again = evaluation.made_results(60)
    assert made.poses == again.poses
    truth = Truth(made.annotations)
    keypoints, boxes = evaluate_keypoints(truth, made.poses), evaluate_boxes(truth, made.boxes)
    for metrics in (keypoints, boxes):
        assert 0.02 < next(iter(metrics.values())) < 0.9
    assert len(made.poses) == len(made.boxes) > 60 * 7


def test_alone(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    evaluation.main(images=5, rounds=1)
    out = capsys.readouterr().out
    assert "faster: left out, faster_coco_eval is not installed" in out
    assert len(re.findall(r"^pycocotools +[\d.]+ ms +1\.000$", out, re.M)) == 2


def test_the_numbers_are_the_same(capsys):
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is optional")
    evaluation.main(images=40, rounds=1)
    out = capsys.readouterr().out
    differences = re.findall(r"differ by at most (\S+)$", out, re.M)
    assert np.array(differences, float).tolist() == [0, 0]
    assert len(re.findall(r"^faster +[\d.]+ ms", out, re.M)) == 2
    assert evaluation.difference({"a": lambda: {"AP": 0.5}, "b": lambda: {"AP": 0.25}}) == 0.25
