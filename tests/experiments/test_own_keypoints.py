"""A keypoint set of one's own: declared in the data, kept with the checkpoint, used everywhere."""

import csv
import json

import cv2
import numpy as np
import pytest

from data_pipeline.check import check_split
from data_pipeline.readers import WRITERS, read
from experiments import evaluate, export, predict, train
from g_rmi.inference.load import load_task
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.skeleton import Skeleton

HAND = {
    "id": 1,
    "name": "hand",
    "keypoints": ["wrist", "left_edge", "right_edge"],
    "skeleton": [[1, 2], [1, 3]],
    "sigmas": [0.05, 0.1, 0.1],
}
TINY = ["--config=pose_synthetic", "--width=4", "--fpn-channels=8", "--batch-size=4", "--steps=2"]
TINY += ["--crop-height=33", "--crop-width=33", "--evaluate-every=0", "--threads=1"]


def write(directory, category, joints=3):
    """Two splits of four pictures with one hand each."""
    random = np.random.default_rng(0)
    (directory / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        folder = directory / f"{split}2017"
        folder.mkdir()
        images, annotations = [], []
        for i in range(1, 5):
            cv2.imwrite(str(folder / f"{i}.jpg"), random.integers(0, 256, (60, 80, 3), np.uint8))
            images.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60})
            points = [20, 20, 2, 40, 25, 2, 30, 45, 1]
            annotations.append(
                {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 900.0}
                | {"iscrowd": 0, "keypoints": points[: 3 * joints], "num_keypoints": joints}
            )
        content = {"images": images, "annotations": annotations, "categories": [category]}
        file = directory / "annotations" / f"person_keypoints_{split}2017.json"
        file.write_text(json.dumps(content))
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hands"), HAND)


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "hand"
    telling = "--visibility-weight=1"
    train.main([*TINY, telling, "--data", str(data), "--workdir", str(workdir)])
    return workdir


def test_it_is_declared_in_the_data(data):
    assert check_split(data, "train").errors == 0


def test_the_checkpoint_and_the_published_file_keep_it(workdir, tmp_path):
    export.main(["weights", "--workdir", str(workdir), "--out", str(tmp_path / "hand.safetensors")])
    for path in (workdir, tmp_path / "hand.safetensors"):
        task, variables = load_task(path)
        assert task.skeleton == Skeleton(
            ("wrist", "left_edge", "right_edge"), (0, 2, 1), ((0, 1), (0, 2)), (0.05, 0.1, 0.1)
        )
        assert variables["params"]["heatmap"]["kernel"].shape[-1] == 3


def test_it_is_evaluated_and_drawn(workdir, data, tmp_path):
    out = tmp_path / "evaluation"
    evaluate.main(["--workdir", str(workdir), "--data", str(data), "--out", str(out)])
    results = json.loads((out / "keypoints.json").read_text())
    assert {len(result["keypoints"]) for result in results} == {9}
    assert "left_edge" in (out / "joints.md").read_text()
    assert "balanced" in (out / "visibility.md").read_text()
    assert "visibility_AUC" in json.loads((out / "metrics.json").read_text())
    assert all(0 < p < 1 for result in results for p in result["visibility"])
    pipeline = PosePipeline.load(pose=workdir, boxes_given=True)
    people = pipeline(np.zeros((60, 80, 3), np.uint8), [[10, 10, 50, 50]])
    assert people.keypoints.shape == (1, 3, 2)
    assert people.visibility.shape == (1, 3)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"1.jpg": [[10, 10, 50, 50]]}))
    picture = str(data / "val2017" / "1.jpg")
    options = ["--boxes", str(boxes), "--min-joint-score", "0", "--out", str(tmp_path / "found")]
    assert predict.main([picture, "--pose", str(workdir), "--csv", *options]) == 0
    (found,) = json.loads((tmp_path / "found" / "keypoints.json").read_text())
    with open(tmp_path / "found" / "people.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    for name, value in zip(HAND["keypoints"], found["visibility"], strict=True):
        assert float(row[f"{name}_visibility"]) == value


@pytest.mark.slow
def test_it_starts_from_a_network_of_other_joints(workdir, tmp_path, capsys):
    category = HAND | {"keypoints": ["a", "left_edge"], "skeleton": [[1, 2]], "sigmas": [0.1, 0.1]}
    data = write(tmp_path / "data", category, joints=2)
    still = ["--steps=1", "--learning-rate=1e-12", "--ema-decay=0", "--init", str(workdir)]
    train.main([*TINY, *still, "--data", str(data), "--workdir", str(tmp_path / "run")])
    (theirs, before), (ours, after) = map(load_task, (workdir, tmp_path / "run"))
    assert "joints by name: left_edge; new: a" in capsys.readouterr().out
    index = theirs.skeleton.names.index("left_edge")
    was, now = (tree["params"]["heatmap"]["kernel"] for tree in (before, after))
    np.testing.assert_allclose(now[..., 1], was[..., index], atol=1e-6)
    old, new = theirs.backbone(before)["params"], ours.backbone(after)["params"]
    np.testing.assert_allclose(new["conv1"]["kernel"], old["conv1"]["kernel"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["yolo", "cvat", "label-studio", "labelme"])
def test_a_set_of_another_tool_is_trained_on_like_cocos(workdir, data, tmp_path, form):
    for split in ("train", "val"):
        WRITERS[form].write(tmp_path / "data", read(data, split))
    words = [*TINY, "--visibility-weight=1", "--data", str(tmp_path / "data")]
    train.main([*words, "--workdir", str(tmp_path / "run")])
    ours, theirs = (losses(folder) for folder in (tmp_path / "run", workdir))
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]


def test_other_joints_are_refused(workdir, tmp_path):
    other = write(tmp_path / "data", HAND | {"keypoints": ["a", "b", "c"]})
    with pytest.raises(
        ValueError, match=r"has the joints a, b, c; not wrist, left_edge.*, as .*hand"
    ):
        evaluate.main(["--workdir", str(workdir), "--data", str(other)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": [0.1, 0.1]}, r"'sigmas' must be 3 positive numbers up to 1, got"),
        ({"skeleton": [[0, 1]]}, "pairs of joint numbers 1 to 3"),
        ({"skeleton": [[1, 4]]}, "pairs of joint numbers 1 to 3"),
        ({"keypoints": ["a", "a", "b"]}, "not unique"),
    ],
)
def test_an_incomplete_set_is_an_error(tmp_path, change, message):
    data = write(tmp_path, HAND | change)
    with pytest.raises(ValueError, match=message):
        train.main([*TINY, "--data", str(data), "--workdir", str(tmp_path / "run")])
    assert check_split(data, "train").errors


def test_missing_sigmas_are_asked_for(tmp_path):
    data = write(tmp_path, {name: value for name, value in HAND.items() if name != "sigmas"})
    with pytest.raises(ValueError, match=r"3 joints are declared, COCO has 17, and .* 'sigmas'"):
        train.main([*TINY, "--data", str(data), "--workdir", str(tmp_path / "run")])
