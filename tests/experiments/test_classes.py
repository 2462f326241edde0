"""Two classes with joints of their own, from annotations to numbers, files and drawings."""

import csv
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoIndex
from pycocotools.cocoeval import COCOeval

from data_pipeline.readers import read
from experiments import evaluate, label, predict, train
from experiments.parts.measure import mean_over_classes
from g_rmi.config import to_dict
from g_rmi.geometry import from_xywh
from g_rmi.inference.export import export_program
from g_rmi.inference.load import load_task
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.training.weights import write_weights
from tests.networks import DETECTOR, POSE, draw
from tests.two_classes import KITE, TRIANGLE, write_set

BOTH = ["kite", "triangle"]
POSE_OPTIONS = ["--config=pose_synthetic", "--width=8", "--fpn-channels=16", "--steps=150"]
POSE_OPTIONS += ["--crop-height=65", "--crop-width=65", "--evaluate-every=0"]
DETECTOR_OPTIONS = ["--config=detector_synthetic", "--width=8", "--canvas", "72", "112"]
DETECTOR_OPTIONS += ["--steps=150", "--evaluate-every=0"]
SIGMAS = {"kite": [1.0] * 4, "triangle": [0.9] * 3}  # for a network that knows nothing to be right


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    categories = [c | {"sigmas": SIGMAS[c["name"]]} for c in (KITE, TRIANGLE)]
    return write_set(tmp_path_factory.mktemp("data") / "shapes", categories=categories, balls=False)


@pytest.fixture(scope="module")
def networks(data, tmp_path_factory):
    """Weights files of both stages, untrained, whose detector has the classes in another order."""
    files = []
    for experiment, names in ((POSE, BOTH), (DETECTOR, BOTH[::-1])):
        skeleton = read(data, "val", categories=names).skeleton
        values = to_dict(experiment) | {"skeleton": skeleton.to_dict()}
        file = tmp_path_factory.mktemp("networks") / f"{experiment.stage}.safetensors"
        write_weights(file, values, draw(experiment.model.task(skeleton)))
        files.append(file)
    return files


def judge(data, category, entries, kind):
    """Pycocotools' numbers of one category of an annotation file, by itself."""
    content = json.loads((data / "annotations/person_keypoints_val2017.json").read_text())
    own = [a for a in content["annotations"] if a["category_id"] == category["id"]]
    content |= {"annotations": own, "categories": [category]}
    index = CocoIndex()
    index.dataset = content
    index.createIndex()
    fields = ("image_id", "category_id", kind, "score")
    found = [{f: e[f] for f in fields} for e in entries if e["category_id"] == category["id"]]
    judge = COCOeval(index, index.loadRes(found), kind)
    judge.params.kpt_oks_sigmas = np.array(SIGMAS[category["name"]])
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats


@pytest.mark.parametrize("boxes", ["gt", "detector", "file"])
def test_each_class_has_pycocotools_numbers(data, networks, tmp_path, boxes):
    pose, detector = networks
    given = []
    if boxes == "detector":
        given = ["--boxes", "detector", "--detector", str(detector)]
    elif boxes == "file":
        labels = json.loads((data / "annotations/person_keypoints_val2017.json").read_text())
        entries = [
            {"image_id": a["image_id"], "category_name": name, "bbox": a["bbox"], "score": 0.5}
            for a in labels["annotations"]
            for name in ("kite" if a["category_id"] == 7 else "triangle",)
        ]
        (tmp_path / "boxes.json").write_text(json.dumps(entries))
        given = ["--boxes", str(tmp_path / "boxes.json")]
    out = tmp_path / "out"
    where = ["--data", str(data), "--out", str(out), "--pictures", "2"]
    evaluate.main(["--workdir", str(pose), *where, *given])
    found, numbers = (json.loads((out / f).read_text()) for f in ("keypoints.json", "metrics.json"))
    for category in (KITE, TRIANGLE):
        name = category["name"]
        mine = [e for e in found if e["category_name"] == name]
        assert mine
        assert {len(e["keypoints"]) for e in mine} == {3 * len(category["keypoints"])}
        stats = judge(data, category, found, "keypoints")
        ours = [numbers[f"{name}/{metric}"] for metric in ("AP", "AP50", "AP75")]
        np.testing.assert_allclose(ours, stats[:3], atol=1e-9)
        assert (out / name / "joints.md").read_text().count("wing") == (2 if name == "kite" else 0)
        assert len(list((out / name / "pictures").iterdir())) > 0
    assert numbers["AP"] == np.mean([numbers[f"{name}/AP"] for name in BOTH])
    assert numbers["AP50"] > 0


def test_boxes_of_each_class_have_pycocotools_numbers(data, networks, tmp_path):
    _, detector = networks
    where = ["--data", str(data), "--out", str(tmp_path), "--pictures", "0"]
    evaluate.main(["--workdir", str(detector), *where])
    found = json.loads((tmp_path / "boxes.json").read_text())
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert {e["category_id"] for e in found} == {3, 7}
    stats = [judge(data, category, found, "bbox") for category in (KITE, TRIANGLE)]
    for name, one in zip(BOTH, stats):
        np.testing.assert_allclose(numbers[f"{name}/box_AP"], one[0], atol=1e-9)
        np.testing.assert_allclose(numbers[f"{name}/box_AR100"], one[8], atol=1e-9)
    np.testing.assert_allclose(numbers["box_AR100"], np.mean([s[8] for s in stats]), atol=1e-9)


@pytest.mark.slow
def test_people_have_a_class_and_its_joints(data, networks, tmp_path):
    pose, detector = networks
    picture = data / "val2017" / "1.png"
    out, both = tmp_path / "out", ["--detector", str(detector), "--pose", str(pose)]
    low = ["--min-box-score", "0", "--min-score", "0", "--min-keypoint-score", "0", "--csv"]
    assert predict.main([str(picture), *both, *low, "--out", str(out)]) == 0
    found = json.loads((out / "keypoints.json").read_text())
    with open(out / "people.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(found) == len(rows) > 2
    assert {(e["category_id"], e["category_name"], len(e["keypoints"])) for e in found} == {
        (7, "kite", 12),
        (3, "triangle", 9),
    }
    for entry, row in zip(found, rows):
        kite = entry["category_name"] == row["category_name"] == "kite"
        assert (row["tail_x"] != "") == kite
        assert (row["left_foot_x"] == "") == kite
        assert float(row["top_x"]) == entry["keypoints"][0]
    assert cv2.imread(str(out / "1.jpg")).shape == (72, 112, 3)
    # In the same boxes with the same classes, a pipeline without detector finds the same.
    boxes = from_xywh(np.array([entry["bbox"] for entry in found]))
    names = [entry["category_name"] for entry in found]
    settings = Settings(min_box_score=0.0, min_score=0.0, decoding="hough")
    pipeline = PosePipeline.load(pose=pose, boxes_given=True, settings=settings)
    image = cv2.imread(str(picture))[..., ::-1]
    people = pipeline(image, boxes, box_classes=names)
    assert sorted(people.classes) == sorted(names)
    for name, block in pipeline.pose.skeleton.blocks.items():
        own = people.of_class(name)
        wanted = [e for e in found if e["category_name"] == name]
        expected = np.reshape([e["keypoints"] for e in wanted], (len(wanted), -1, 3))
        np.testing.assert_allclose(own.keypoints, expected[..., :2], atol=0.6)
        np.testing.assert_allclose(own.scores, [e["score"] for e in wanted], rtol=0.05, atol=1e-4)
        others = np.delete(people[people.classes == name].keypoints, np.r_[block], axis=1)
        assert not others.any()
    assert people[0].class_name == people.classes[0]
    for bad, message in [
        (None, "box_classes must be a list of .* names, each one of kite, triangle"),
        (["kite"], "box_classes must be a list"),
        (["kit"] * len(boxes), "box_classes: no class 'kit'; did you mean 'kite'"),
    ]:
        with pytest.raises(ValueError, match=message):
            pipeline(image, boxes, box_classes=bad)


def test_means_leave_out_classes_of_which_there_is_nobody():
    numbers = {"a": {"AP": 0.5, "APM": -1.0}, "b": {"AP": 0.25, "APM": 0.75}, "c": {"AP": -1.0}}
    means = mean_over_classes(numbers)
    assert (means["AP"], means["APM"], means["c/AP"]) == (0.375, 0.75, -1.0)
    assert mean_over_classes({"c": {"AP": -1.0}})["AP"] == -1


def test_what_is_for_one_class_says_so(data, networks, tmp_path):
    pose, detector = networks
    both = ["--detector", str(detector), "--pose", str(pose), "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--track: not with several classes, as here kite, tri"):
        predict.main([str(data / "val2017"), *both, "--track"])
    with pytest.raises(ValueError, match="has several classes, kite, triangle: only one is label"):
        label.main(["--data", str(data), "--workdir", str(pose), "--out", str(tmp_path / "l")])
    with pytest.raises(ValueError, match="several classes, kite, triangle: only one goes"):
        export_program(PosePipeline.load(detector, pose), height=72, width=112)
    with pytest.raises(ValueError, match="has kite, triangle, and the detector finds people"):
        PosePipeline.load(pose=pose)
    with pytest.raises(ValueError, match="the detector finds 'triangle', and the pose network is"):
        PosePipeline.load(detector=detector)
    where = ["--workdir", str(tmp_path / "run"), "--data", str(data)]
    with pytest.raises(ValueError, match="--category kite: not for a bottom-up network"):
        train.main(["--config=parts_small", "--category", "kite", *where])


@pytest.mark.slow
def test_both_are_learnt_by_heart(data, tmp_path):
    """One training of each stage, and from pictures to people of either class."""
    where = ["--data", str(data), "--category", *BOTH, "--threads=1", "--batch-size=4"]
    train.main([*POSE_OPTIONS, *where, "--workdir", str(tmp_path / "pose")])
    train.main([*DETECTOR_OPTIONS, *where, "--workdir", str(tmp_path / "detector")])
    (pose, _), (detector, _) = (load_task(tmp_path / name) for name in ("pose", "detector"))
    assert pose.skeleton.classes == (("kite", 7, 4), ("triangle", 3, 3))
    assert detector.classes == ("kite", "triangle")
    last = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("pose", "detector")
    ]
    print(last)
    out = tmp_path / "out"
    options = ["--boxes", "detector", "--detector", str(tmp_path / "detector"), "--data", str(data)]
    evaluate.main(["--workdir", str(tmp_path / "pose"), *options, "--out", str(out)])
    numbers = json.loads((out / "metrics.json").read_text())
    for name in BOTH:
        assert numbers[f"{name}/AP"] > 0.8, numbers
        assert numbers[f"{name}/box_AP50"] > 0.9, numbers
