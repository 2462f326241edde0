"""The weights that come with the package, and the program that shows them."""

import json

import cv2
import numpy as np

from experiments import demo
from g_rmi.pipeline import SHIPPED, PosePipeline


def test_shipped_weights_are_small_and_described():
    sizes = [path.stat().st_size for path in SHIPPED.glob("*.safetensors")]
    assert len(sizes) == 2
    assert sum(sizes) < 40e6
    assert "licence" in (SHIPPED / "README.md").read_text()
    pipeline = PosePipeline.load()
    assert pipeline.detector is not None
    assert len(pipeline.pose.skeleton) == 17


def test_the_shipped_weights_find_the_woman_in_the_photograph(tmp_path):
    assert demo.main(["--out", str(tmp_path), "--scenes", "0"]) == 0
    best = json.loads((tmp_path / "found" / "keypoints.json").read_text())[0]
    assert best["file_name"] == demo.PHOTOGRAPH
    joints = np.array(best["keypoints"]).reshape(17, 3)
    # Her nose is at (256, 233); her face is 150 pixels wide.
    assert np.linalg.norm(joints[0, :2] - (256, 233)) < 60
    assert cv2.imread(str(tmp_path / "demo.jpg")) is not None
