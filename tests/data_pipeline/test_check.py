import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline.check import ERRORS, NOTES, WARNINGS, check_split, main
from data_pipeline.prepare import prepare
from g_rmi.skeleton import COCO

K = len(COCO)


def people(content):
    return content["annotations"]


# Each fault, planted alone in a sound directory: kind, count, change of the annotation file.
FAULTS = {
    "duplicate image id": lambda c: c["images"][3].update(id=c["images"][0]["id"]),
    "duplicate annotation id": lambda c: people(c)[1].update(id=people(c)[0]["id"]),
    "unsafe file name": lambda c: c["images"][0].update(file_name="../x.jpg"),
    "missing image": lambda c: c["images"][0].update(file_name="nothing.jpg"),
    "size mismatch": lambda c: c["images"][0].update(width=95, height=81),
    "unknown image": lambda c: people(c)[0].update(image_id=3),
    "unknown category": lambda c: people(c)[0].update(category_id=9),
    "keypoint count": lambda c: people(c)[0].update(keypoints=[0.0] * 50),
    "keypoint flag": lambda c: people(c)[0]["keypoints"].__setitem__(2, 4),
    "no area": lambda c: people(c)[0].update(area=0),
    "degenerate box": lambda c: people(c)[0].update(bbox=[1, 2, 0, 5]),
    "malformed": lambda c: people(c)[0].update(bbox=[1, 2, "x", 5]),
    "wrong joints": lambda c: c["categories"][0]["keypoints"].reverse(),
    "keypoint outside": lambda c: people(c)[0]["keypoints"].__setitem__(slice(0, 3), [-3, 4, 2]),
    "box outside": lambda c: people(c)[0].update(bbox=[0, 0, 130, 80]),
    "joints outside box": lambda c: people(c)[0].update(bbox=[90, 2, 5, 3]),
    "joints in the corner": lambda c: people(c)[0]["keypoints"].__setitem__(slice(0, 3), [0, 0, 2]),
    "normalised": lambda c: people(c)[0].update(bbox=[0.1, 0.2, 0.3, 0.4]),
    "num_keypoints": lambda c: people(c)[0].update(num_keypoints=3),
    "no keypoints": lambda c: people(c)[0].update(keypoints=[0] * 3 * K, num_keypoints=0),
    "assumed": lambda c: people(c)[0].pop("area"),
    "mask": lambda c: people(c)[0].update(segmentation={"size": [80, 96], "counts": "b'a1'"}),
    "same picture": lambda c: c["images"].append(c["images"][0] | {"id": 1}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found(make_coco, edit, kind):
    directory = make_coco()
    assert not check_split(directory, "train").count
    edit(directory, FAULTS[kind])
    report = check_split(directory, "train")
    assert report.count[kind] == 1
    assert report.examples[kind]
    others = set(report.count) - {kind}
    # The people of an image that is left out have none.
    assert others <= ({"unknown image"} if "image" in kind or "file" in kind else set())
    assert report.errors == sum(report.count[k] for k in report.count if k in ERRORS)


def test_one_fault_does_not_hide_another(make_coco, edit):
    directory = make_coco()
    kinds = ("malformed", "keypoint outside", "missing image")

    def change(content):
        FAULTS["malformed"](content)
        content["annotations"][1]["keypoints"][:3] = [-3, 4, 2]
        content["annotations"][2]["area"] = 0
        content["images"][0]["file_name"] = "nothing.jpg"

    edit(directory, change)
    report = check_split(directory, "train")
    assert report.count == dict.fromkeys((*kinds, "no area"), 1)
    assert report.examples["no area"] == ["annotation 102: area 0"]
    assert (report.images, report.people) == (6, 5)


def test_another_category_is_a_warning(make_coco, edit):
    directory = make_coco()

    def change(content):
        content["categories"].append({"id": 3, "name": "car"})
        people(content)[0]["category_id"] = 3

    edit(directory, change)
    report = check_split(directory, "train")
    assert report.count == {"other category": 1}
    assert report.errors == 0


def test_a_directory_without_people(make_coco, edit):
    directory = make_coco()
    edit(directory, lambda content: people(content).clear())
    assert check_split(directory, "train").count == {"no people": 1}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": []}', '{"images": [], "annotations": [1]}']
)
def test_a_file_that_is_no_annotation_file(make_coco, text):
    directory = make_coco()
    (directory / "annotations/person_keypoints_train2017.json").write_text(text)
    assert check_split(directory, "train").count == {"malformed": 1}


def test_every_kind_is_planted_here():
    tested = {
        *FAULTS,
        "undecodable image",
        "other category",
        "no people",
        *("not mirrored", "orientation", "central", "no joints", "shares", "corners", "lying"),
    }
    assert tested == ERRORS.keys() | WARNINGS.keys() | NOTES.keys()


def break_pixels(path):
    """Leaves the header intact."""
    ok, data = cv2.imencode(".png", np.zeros((80, 96, 3), np.uint8))
    assert ok
    path.write_bytes(data.tobytes()[:45] + b"garbage")


def test_an_orientation_that_sizes_do_not_decide_is_a_warning(make_coco):
    directory = make_coco()
    for name, orientation in (("000000", 3), ("000001", 1)):
        path, exif = directory / f"train2017/{name}.jpg", Image.Exif()
        exif[0x0112] = orientation
        Image.open(path).save(path, exif=exif, quality=95)
    report = check_split(directory, "train")
    assert report.count == {"orientation": 1}
    assert not report.errors


def test_a_split_without_its_pictures_is_not_passed_over(make_coco, capsys):
    directory = make_coco()
    make_coco("other", split="val")
    for part in ("annotations/person_keypoints_val2017.json", "val2017"):
        (directory.parent / "other" / part).rename(directory / part)
    assert main(directory) == 0
    (directory / "val2017").rename(directory / "validation")
    assert main(directory) == 1
    assert "no image folder" in capsys.readouterr().out


def test_a_picture_under_two_names_is_a_warning(make_coco):
    directory = make_coco(images=1)
    folder = directory / "train2017"
    path = directory / "annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 1, "file_name": "again.jpg"})
    path.write_text(json.dumps(content))
    (folder / "again.jpg").write_bytes((folder / "000000.jpg").read_bytes())
    (text,) = check_split(directory, "train").examples["same picture"]
    assert re.fullmatch(r".*again\.jpg: the same as .*000000\.jpg", text)


def upright(x, y, side):
    """A body of three joints' rows, COCO's layout, in the box (x, y, side, 2 side)."""
    rows = [0.1] * 5 + [0.2] * 2 + [0.4] * 4 + [0.6] * 2 + [0.8] * 2 + [1.0] * 2
    points = [(x + side * (0.3 + 0.4 * (k % 2)), y + 2 * side * row) for k, row in enumerate(rows)]
    return {
        "bbox": [x, y, side, 2 * side],
        "area": side**2,
        "keypoints": [v for point in points for v in (*point, 2)],
    }


def corners(person):
    x, y, w, h = person["bbox"]
    return person | {"bbox": [x, y, x + w, y + h]}


def exchanged(person):
    (x, y, w, h), joints = person["bbox"], person["keypoints"]
    flat = [v for k in range(K) for v in (joints[3 * k + 1], joints[3 * k], joints[3 * k + 2])]
    return person | {"bbox": [y, x, h, w], "keypoints": flat}


@pytest.mark.parametrize(
    ("change", "count", "kind"),
    [
        (dict, 12, None),
        (corners, 12, "corners"),
        (corners, 4, None),  # too few to say so
        (exchanged, 12, "lying"),
        (exchanged, 9, None),
    ],
)
def test_what_holds_of_most_people_is_said(make_coco, edit, change, count, kind):
    directory = make_coco(images=1, size=(200, 200))

    def fill(content):
        image = {"image_id": content["images"][0]["id"], "category_id": 1, "iscrowd": 0}
        bodies = (upright(10 + 2 * i, 12 + i, 40 + i) for i in range(count))
        content["annotations"] = [
            {"id": i + 1, **image, **change(body)} for i, body in enumerate(bodies)
        ]

    edit(directory, fill)
    report = check_split(directory, "train")
    assert report.count == ({kind: 1} if kind else {})
    assert not report.errors


def test_headers_alone_are_quicker_but_see_less(make_coco):
    directory = make_coco()
    break_pixels(directory / "train2017/000000.jpg")
    report = check_split(directory, "train")
    assert report.count == {"undecodable image": 1}
    assert "000000.jpg" in report.examples["undecodable image"][0]
    assert not check_split(directory, "train", decoding=False).count


def test_the_command(make_coco, edit, tmp_path, capsys):
    directory = make_coco()
    assert main(directory) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    edit(directory, FAULTS["no keypoints"])
    assert main(directory) == 0
    out = capsys.readouterr().out
    assert "0 errors, 0 warnings" in out
    assert re.search(r"no keypoints +\W? *note +\W? *1", out)
    edit(directory, lambda c: people(c)[1].update(num_keypoints=3))
    assert main(directory) == 0
    edit(directory, FAULTS["no area"])
    assert main(directory, split="train", report=tmp_path / "report.json") == 1
    out = capsys.readouterr().out
    assert "no area" in out
    assert "annotation 100: area 0" in out
    found = json.loads((tmp_path / "report.json").read_text())["train"]
    assert found["errors"] == {"no area": 1}
    assert found["warnings"] == {"num_keypoints": 1}
    assert found["notes"] == {"no keypoints": 1}
    assert found["images"] == 6


def test_the_command_names_what_is_missing(make_coco, capsys):
    directory = make_coco()
    assert main(directory.parent / "dat") == 1
    assert f"did you mean {directory}" in capsys.readouterr().err
    assert main(directory, split="val") == 1
    assert "no annotations of split 'val'" in capsys.readouterr().err


def test_splits_of_different_joints_are_an_error(make_coco, edit, capsys):
    directory = make_coco()
    make_val = make_coco("other", split="val")
    for name in ("annotations/person_keypoints_val2017.json", "val2017"):
        (make_val / name).rename(directory / name)
    assert main(directory) == 0
    edit(directory, lambda c: c["categories"][0].update(sigmas=[0.05] * K), split="val")
    assert main(directory) == 1
    assert "as in train" in " ".join(capsys.readouterr().out.split())


def test_a_prepared_directory_can_be_checked(make_coco, edit, tmp_path):
    directory = make_coco()
    edit(directory, FAULTS["no area"])
    prepare(directory, tmp_path / "out")
    report = check_split(tmp_path / "out", "train")
    assert report.count == {"no area": 1}
    assert report.images == 6


def test_a_set_of_boxes_lacks_nothing(voc, tmp_path):
    assert not check_split(voc, "train").count
    assert check_split(voc, "train").people == 3
    prepare(voc, tmp_path / "out")
    report = check_split(tmp_path / "out", "train")
    assert not report.count
    assert (report.images, report.people) == (4, 3)
