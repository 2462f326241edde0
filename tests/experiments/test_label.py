"""Joints that a network labels where nobody has."""

import json
from typing import get_args

import cv2
import numpy as np
import pytest

from data_pipeline.readers import WRITERS, read
from experiments import evaluate, label
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import COCO
from tests.networks import DETECTOR, TELLING, save, scene

FACE = np.arange(len(COCO)) < 5


def annotation(ident, box, visible):
    x, y, w, h = box
    joints = [[x + w * (k + 1) / 20, y + h / 2, 2] if visible[k] else [0, 0, 0] for k in range(17)]
    return {
        "id": ident,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(box),
        "area": w * h,
        "num_keypoints": int(np.sum(visible)),
        "keypoints": np.ravel(joints).tolist(),
    }


def write(folder, annotations, category):
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    cv2.imwrite(str(folder / "train2017" / "a.png"), scene())
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "annotations": annotations,
        "categories": [category],
    }
    path = folder / "annotations" / "person_keypoints_train2017.json"
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Work directories of a detector and a pose network, which says which joints one sees."""
    runs = tmp_path_factory.mktemp("runs")
    return (
        save(runs / "detector", DETECTOR, FasterRCNN(DETECTOR.model)),
        save(runs / "pose", TELLING, PoseTask(TELLING.model)),
    )


@pytest.fixture
def faceless(tmp_path):
    """One person without a face, one with all joints, a crowd and a box without an inside."""
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    people = [
        annotation(1, (5, 5, 30, 50), ~FACE),
        annotation(2, (40, 5, 30, 50), FACE | True),
        annotation(3, (0, 0, 80, 60), FACE & False) | {"iscrowd": 1},
        annotation(4, (7, 7, 0, 5), FACE & False),
    ]
    return write(tmp_path / "set", people, category)


def run(pose, data, out, *options):
    label.main(["--workdir", str(pose), "--data", str(data), "--out", str(out), *options])
    return read(out, "train")


def test_labels_stay_and_the_rest_is_what_an_evaluation_finds(runs, faceless, tmp_path, capsys):
    _, pose = runs
    filled = run(pose, faceless, tmp_path / "filled", "--min-joint-score", "0", "--turn-test")
    before, after = read(faceless, "train").people, filled.people
    there = before.visibility > 0
    np.testing.assert_array_equal(after.keypoints[there], before.keypoints[there])
    np.testing.assert_array_equal(after.keypoints[1:], before.keypoints[1:])
    np.testing.assert_array_equal(after.visibility[1:], before.visibility[1:])

    options = ["--data", str(faceless), "--split", "train", "--oks-threshold", "1", "--flip-test"]
    options += ["--method", "hough_oks", "--turn-test", "--out", str(tmp_path / "found")]
    evaluate.main(["--workdir", str(pose), *options])
    results = json.loads((tmp_path / "found" / "keypoints.json").read_text())
    # The two who have joints at all; the first one's box is the left one.
    poses = [np.reshape(result["keypoints"], (17, 3))[:, :2] for result in results]
    left = int(np.argmin([pose[:, 0].mean() for pose in poses]))
    expected, told = poses[left], np.array(results[left]["visibility"])
    inside = ((expected >= [2, 0]) & (expected <= [38, 59])).all(axis=1) & FACE
    assert inside.any()
    np.testing.assert_array_equal(after.visibility[0] > 0, inside | ~FACE)
    np.testing.assert_allclose(after.keypoints[0][inside], expected[inside], atol=0.01)
    np.testing.assert_array_equal(after.visibility[0][inside], 1 + (told[inside] >= 0.5))
    assert f"labelled {inside.sum()} joints of 1 of 1 people" in capsys.readouterr().out


def test_joints_can_be_named_and_must_be_sure(runs, faceless, tmp_path):
    _, pose = runs
    found = run(pose, faceless, tmp_path / "all", "--min-joint-score", "0").people.visibility[0] > 0
    one = int(np.flatnonzero(found & FACE)[0])
    options = ("--joints", COCO.names[one], "--min-joint-score", "0")
    named = run(pose, faceless, tmp_path / "named", *options).people.visibility[0] > 0
    np.testing.assert_array_equal(named, ~FACE | (np.arange(len(COCO)) == one))
    unsure = run(pose, faceless, tmp_path / "unsure", "--min-joint-score", "1.1")
    np.testing.assert_array_equal(unsure.people.visibility[0] > 0, ~FACE)
    assert (tmp_path / "unsure" / "train2017" / "a.png").is_file()


def test_a_set_of_boxes_gets_joints(runs, tmp_path):
    boxes = [annotation(1, (5, 5, 30, 50), FACE & False)]
    for box in boxes:
        del box["keypoints"], box["num_keypoints"]
    data = write(tmp_path / "boxes", boxes, {"id": 1, "name": "person"})
    assert not read(data, "train").labelled.any()
    options = ["--workdir", str(runs[1]), "--data", str(data), "--split", "train"]
    with pytest.raises(ValueError, match="boxes, train: nobody's joints are labelled"):
        evaluate.main([*options, "--out", str(tmp_path / "out")])
    assert run(runs[1], data, tmp_path / "joints", "--min-joint-score", "0").labelled.any()


@pytest.mark.parametrize("form", ["cvat", "label-studio"])
def test_photographs_without_labels_become_labels_to_correct(runs, tmp_path, capsys, form):
    detector, pose = runs
    photos = [tmp_path / "photos" / name for name in ("a.png", "beach/b.png")]
    photos[1].parent.mkdir(parents=True)
    for seed, path in enumerate(photos):
        cv2.imwrite(str(path), scene(seed=seed))
    (tmp_path / "photos" / "broken.jpg").write_text("no picture")
    settings = Settings(min_box_score=0.0, min_score=0.0, max_people=3, decoding="hough_oks")
    pipeline = PosePipeline.load(detector, pose, settings=settings)
    found = [pipeline(cv2.imread(str(path))[..., ::-1].copy()) for path in photos]
    scores = np.concatenate([people.keypoint_scores for people in found])
    least = float(np.median(scores))
    options = ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--to", form]
    options += ["--detector", str(detector), "--workdir", str(pose), "--no-flip-test"]
    options += ["--min-box-score", "0", "--min-score", "0", "--max-people", "3"]
    label.main([*options, "--min-keypoint-score", str(least)])
    told = capsys.readouterr()
    assert "left out: " in told.err
    assert "broken.jpg" in told.err
    if form == "label-studio":  # what is a prediction there is a label when it is submitted
        path = tmp_path / "out" / "train" / "tasks.json"
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
    labelled = read(tmp_path / "out", "train")
    assert labelled.images.file_name == ("a.png", "beach/b.png")
    edge = [80, 60, 80, 60]
    boxes = np.concatenate([people.boxes for people in found]).clip(0, edge)
    np.testing.assert_allclose(labelled.people.box, boxes, atol=0.0051)
    points = np.concatenate([people.keypoints for people in found])
    there = labelled.people.visibility > 0
    assert there.any()
    assert not (there & (scores < least)).any()
    np.testing.assert_allclose(labelled.people.keypoints[there], points[there], atol=0.0051)
    assert set(labelled.people.visibility[there].tolist()) == {2}


def test_every_format_that_is_written_can_be_asked_for():
    assert get_args(label.Format) == tuple(WRITERS)


def test_what_does_not_fit_is_named(runs, faceless, tmp_path):
    detector, pose = runs
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"--joints left_ey: .*did you mean 'left_eye'\?"):
        run(pose, faceless, out, "--joints", "left_ey")
    with pytest.raises(ValueError, match="is a detector; a pose network is needed"):
        run(detector, faceless, out)
    with pytest.raises(ValueError, match="no data directory"):
        run(pose, tmp_path / "nothing", out)
    with pytest.raises(ValueError, match="exists already"):
        run(pose, faceless, faceless)
    with pytest.raises(ValueError, match=r"--detector .*: of no use, .* has labels"):
        run(pose, faceless, out, "--detector", str(detector))
    assert not out.exists()
