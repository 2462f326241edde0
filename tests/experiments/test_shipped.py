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
    name = {"detector": "detector_2026_11c", "pose": "pose_2026_11c"}[stage]
    assert experiment_from_dict(config) == configs.get(name)


# Faces on the street crossing, seen by eye.
FACES = [(75, 150), (237, 120), (338, 148), (487, 175), (620, 168), (777, 138)]


def test_the_demonstration_finds_the_people_who_are_there(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").touch()
    assert demo.main(["--out", str(tmp_path)]) == 0
    assert (tmp_path / "images" / "mine.jpg").exists()
    people = json.loads((tmp_path / "found" / "keypoints.json").read_text())
    assert cv2.imread(str(tmp_path / "demo.jpg")) is not None
    noses = {name: [] for name in ("city.jpg", "grace_hopper.jpg")}
    for person in people:
        noses.setdefault(person["file_name"], []).append(person["keypoints"][:2])
    # Hers is at (256, 233); her face is 150 pixels wide.
    assert len(noses["grace_hopper.jpg"]) == 1
    assert np.linalg.norm(np.subtract(noses["grace_hopper.jpg"][0], (256, 233))) < 60
    distance = np.linalg.norm(np.subtract(noses["city.jpg"], np.array(FACES)[:, None]), axis=-1)
    assert (distance.min(axis=1) < 15).all()
    assert len(noses["city.jpg"]) <= 18  # as many as there are


def test_python_and_the_program_find_the_same_people_unasked(tmp_path):
    """The same defaults, which decide who is found."""
    photograph = matplotlib.cbook.get_sample_data(demo.HOPPER, asfileobj=False)
    assert predict.main([str(photograph), "--no-draw", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "keypoints.json").read_text())
    image = decode(Path(photograph).read_bytes())
    people = PosePipeline.load()(image)
    assert len(found) == len(people.scores) > 0
    for person, joints, score in zip(found, people.keypoints, people.scores):
        found_joints = np.reshape(person["keypoints"], (17, 3))
        np.testing.assert_allclose(found_joints[:, :2], joints, atol=0.01)
        assert person["score"] == pytest.approx(score, rel=1e-3)


def test_explain_looks_where_the_detector_is_surest():
    photograph = matplotlib.cbook.get_sample_data(demo.HOPPER, asfileobj=False)
    data = Path(photograph).read_bytes()
    x0, y0, x1, y1 = explain.best_box(PosePipeline.load(), data, "her")
    assert x0 < 100 < 400 < x1
    assert y0 < 150 < 500 < y1
