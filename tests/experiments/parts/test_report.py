"""The report of a made evaluation: what it says is what was planted."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline import readers, synthetic
from data_pipeline.images import decode
from data_pipeline.readers.coco import as_coco
from data_pipeline.readers.reader import ImageFolder
from data_pipeline.schema import Images
from experiments.parts.gallery import Evaluated, draw_pairs
from experiments.parts.report import detector_page, joint_cells, pose_page
from g_rmi.evaluation.keypoint_table import KeypointRow, keypoint_table
from g_rmi.evaluation.results import box_results, keypoint_results
from g_rmi.evaluation.truth import Truth, evaluate_boxes, evaluate_keypoints
from g_rmi.evaluation.visibility_table import visibility_table
from tests.g_rmi.viz.html_page import Page

HOSTILE = """<img src=x onerror=alert('&amp;')>".jpg"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six scenes; a name that bites."""
    directory = tmp_path_factory.mktemp("data") / "scenes"
    synthetic.make(directory, train_images=1, val_images=6, size=(96, 128), workers=1)
    dataset = readers.read(directory, "val")
    names = [HOSTILE] * len(dataset.images)
    images = dataclasses.replace(dataset.images, file_name=tuple(names))
    return dataclasses.replace(dataset, images=images)


@pytest.fixture
def workdir(tmp_path):
    """What a training leaves, cut short while it wrote."""
    lines = [{"step": i, "train/loss": 1 / i, "train/learning_rate": 1e-3} for i in range(1, 900)]
    lines[5]["train/loss"] = None  # was not finite
    lines[6]["train/waiting"] = 0.25
    lines.append({"step": 900, "eval/AP": 0.1})
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 901, "tra')
    return tmp_path


def test_pictures_are_drawn_as_they_were_annotated(dataset, tmp_path):
    """Upright, or as they are stored where the annotations give that size."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in/a.png", exif=exif)
    drawn = []

    def draw(picture, row):
        drawn.append(picture)
        return picture

    for width, height in ((30, 20), (20, 30)):
        images = Images(
            np.array([1]),
            ("a.png",),
            np.array([width], np.int32),
            np.array([height], np.int32),
            np.array([True]),
        )
        source = ImageFolder(tmp_path / "in", ("a.png",))
        one = dataclasses.replace(dataset, images=images, source=source)
        draw_pairs(one, [0], draw, tmp_path / f"{width}")
    np.testing.assert_array_equal(drawn[0], image)
    np.testing.assert_array_equal(drawn[1], np.rot90(image, -1))


def evaluated(dataset, workdir, results, metrics):
    return Evaluated(
        workdir=workdir,
        dataset=dataset,
        truth=Truth(as_coco(dataset)),
        results=results,
        metrics=metrics,
        config={"note": "<b>"},
        options={"boxes": "<i>"},
        summary="so many boxes",
        pictures=2,
        min_box_score=0.5,
    )


def pose_report(dataset, workdir, results):
    truth = Truth(as_coco(dataset))
    boxes = {"box_AP": 0.512, "box_AP50": 0.6, "box_AR100": 0.7}
    metrics = evaluate_keypoints(truth, results) | boxes
    page = pose_page(evaluated(dataset, workdir, results, metrics), keypoint_table(truth, results))
    return Page(page), metrics


def poses(dataset, *, shift=0.0):
    """The labels, the first person's moved away, one more where nobody is."""
    people = dataset.people
    rows = np.flatnonzero(people.has_joints)
    points = people.keypoints[rows].astype(np.float64) + shift
    points[0] += 1e3
    points = np.concatenate([points, points[-1:] - 500])
    image_ids = dataset.images.id[people.image[np.append(rows, rows[-1])]]
    scores = np.linspace(0.9, 0.1, len(points)).astype(np.float32)
    return keypoint_results(image_ids, points, np.ones(points.shape[:2]), scores)


def test_the_page_of_a_pose_network(dataset, workdir):
    results = poses(dataset)
    page, metrics = pose_report(dataset, workdir, results)
    text = page.text
    assert 0.3 < metrics["AP"] < 1
    for name, value in metrics.items():
        assert f"{name} {value:.3f}" in text or value == -1
    assert "false positive 2 detections" in text
    assert "false negative 1 person" in text
    assert "left_wrist" in text
    assert text.count(HOSTILE) == page.tags.count("img") == sum((1, 2, 2, 1))  # four galleries
    assert "nobody there, score 0.90" in text  # the most confident error comes first
    assert '"note": "<b>"' in text
    assert '"boxes": "<i>"' in text
    assert "waiting" not in text  # no loss
    assert "people without a labelled joint are not looked into" in text
    for title in ("Losses", "Evaluation", "Learning rate"):
        assert title in text
    assert page.tags.count("script") == 1


def test_perfection_and_nothing(dataset, workdir):
    (workdir / "metrics.jsonl").unlink()
    page, metrics = pose_report(dataset, workdir, poses(dataset)[1:-1])
    assert metrics["AP"] < 1
    assert "Training" not in page.text.replace("Of the training", "")
    page, metrics = pose_report(dataset, workdir, [])
    assert metrics["AP"] == 0
    assert "good 0 joints, 0%" in page.text
    assert page.tags.count("img") == 2  # who was not found


def test_visibility_has_a_table_of_its_own(dataset, workdir):
    results, truth = poses(dataset), Truth(as_coco(dataset))
    told = [result | {"visibility": [0.75] * 17} for result in results]
    metrics = evaluate_keypoints(truth, results)
    metrics |= {"box_AP": 0.512, "box_AP50": 0.6, "box_AR100": 0.7}
    rows = keypoint_table(truth, results)[-1:]
    pages = []
    for each in (results, told):
        seen = visibility_table(truth, each)
        pages.append(Page(pose_page(evaluated(dataset, workdir, each, metrics), rows, seen)))
    without, with_it = (page.text for page in pages)
    assert "Visibility" not in without
    assert "balanced" not in without
    whole = visibility_table(truth, told)[-1]
    assert min(whole.seen, whole.hidden) > 0
    assert f"all {whole.seen} {whole.hidden} {whole.accuracy:.3f} 0.500 0.500" in with_it


def test_the_page_of_a_detector(dataset, workdir):
    people = dataset.people
    boxes = people.box.astype(np.float64)
    boxes[0] += 1e3
    image_ids = dataset.images.id[people.image]
    results = box_results(image_ids, boxes, np.linspace(0.9, 0.1, len(boxes)))
    metrics = evaluate_boxes(Truth(as_coco(dataset)), results)
    page = Page(detector_page(evaluated(dataset, workdir, results, metrics)))
    assert f"box_AP {metrics['box_AP']:.3f}" in page.text
    assert 0.3 < metrics["box_AP"] < 1
    assert page.tags.count("img") == page.text.count(HOSTILE) == 2
    assert "score 0.90" in page.text
    assert "nobody found" in page.text
    empty = evaluate_boxes(Truth(as_coco(dataset)), [])
    page = Page(detector_page(evaluated(dataset, workdir, [], empty)))
    assert "box_AP 0.000" in page.text


def test_the_table_of_joints():
    rows = [
        KeypointRow("left_ankle", 120, 99, 0.51234, 0.4, 12, 0.125, 0.25),
        KeypointRow("all", 0, 0, -1.0, -1.0, 0, -1.0, -1.0),
    ]
    assert joint_cells(rows) == [
        ("left_ankle", "120", "99", "0.512", "0.400", "12", "0.125", "0.250"),
        ("all", "0", "0", "-", "-", "0", "-", "-"),
    ]


def test_pairs_are_written_each_and_on_a_sheet(dataset, tmp_path):
    names = tuple(f"sub/{i}.png" for i in range(len(dataset.images)))
    images = dataclasses.replace(dataset.images, file_name=names)
    renamed = dataclasses.replace(dataset, images=images)
    drawn = {}

    def draw(image, row):
        np.testing.assert_array_equal(image, decode(dataset.source.read(row)))
        drawn[row] = np.full((20, 40, 3), (200, 10 * row, 0), np.uint8)
        return drawn[row]

    draw_pairs(renamed, np.array([1, 4]), draw, tmp_path / "new" / "pictures")
    pictures = tmp_path / "new" / "pictures"
    written = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.jpg"))
    assert written == ["contact_sheet.jpg", "sub/1.jpg", "sub/4.jpg"]
    assert list(drawn) == [1, 4]
    picture = cv2.imread(str(pictures / "sub" / "4.jpg"))[..., ::-1]
    assert np.abs(picture - drawn[4].astype(int)).max() < 8
    draw_pairs(renamed, [], draw, tmp_path / "none")
    assert list((tmp_path / "none").iterdir()) == []
