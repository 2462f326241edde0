"""The weights that come with the package, and the program that shows them."""

import json
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest

from data_pipeline.images import decode
from experiments import configs, demo, explain, predict
from experiments.parts.experiment import experiment_from_dict
from g_rmi.pipeline import SHIPPED, PosePipeline
from g_rmi.training.weights import read_weights


def test_shipped_weights_are_small_and_described():
    sizes = [path.stat().st_size for path in SHIPPED.values()]
    assert len(sizes) == 2
    assert sum(sizes) < 40e6
    assert "licence" in SHIPPED["pose"].with_name("README.md").read_text()
    pipeline = PosePipeline.load()
    assert pipeline.detector is not None
    assert len(pipeline.pose.skeleton) == 17


@pytest.mark.parametrize("stage", ["detector", "pose"])
def test_what_ships_was_made_by_a_config_of_the_repository(stage):
    config, _ = read_weights(SHIPPED[stage])
    assert experiment_from_dict(config) == configs.get(f"{stage}_2026_11")


def test_the_shipped_weights_find_the_woman_in_the_photograph(tmp_path):
    assert demo.main(["--out", str(tmp_path), "--scenes", "0"]) == 0
    people = json.loads((tmp_path / "found" / "keypoints.json").read_text())
    assert {person["file_name"] for person in people} == {demo.PHOTOGRAPH}
    assert len(people) < 5
    # Her nose is at (256, 233); her face is 150 pixels wide.
    assert np.linalg.norm(np.subtract(people[0]["keypoints"][:2], (256, 233))) < 60
    assert cv2.imread(str(tmp_path / "demo.jpg")) is not None


def test_python_and_the_program_find_the_same_people_unasked(tmp_path):
    """The same defaults, which decide who is found."""
    photograph = matplotlib.cbook.get_sample_data(demo.PHOTOGRAPH, asfileobj=False)
    assert predict.main([str(photograph), "--no-draw", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "keypoints.json").read_text())
    image = decode(Path(photograph).read_bytes())
    people, *_ = PosePipeline.load()([image, *3 * [np.zeros_like(image)]])  # a batch, as there
    assert len(found) == len(people.scores) > 0
    for person, joints, score in zip(found, people.keypoints, people.scores):
        found_joints = np.reshape(person["keypoints"], (17, 3))
        np.testing.assert_allclose(found_joints[:, :2], joints, atol=0.01)
        assert person["score"] == pytest.approx(score, rel=1e-3)


def test_explain_looks_where_the_detector_is_surest():
    photograph = matplotlib.cbook.get_sample_data(demo.PHOTOGRAPH, asfileobj=False)
    data = Path(photograph).read_bytes()
    x0, y0, x1, y1 = explain.best_box(PosePipeline.load(), data, "her")
    assert x0 < 100 < 400 < x1
    assert y0 < 150 < 500 < y1
