"""Labelling tools' formats: what is written reads as the same people; what tools export."""

import contextlib
import dataclasses
import json
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.check import check_split
from data_pipeline.readers import READERS, WRITERS, read, splits_of
from data_pipeline.readers.reader import ImageFolder, Reader, Writer, refuse
from data_pipeline.readers.shapes import Box, Point, gather, upright
from data_pipeline.schema import DataError, Dataset, Images, People
from g_rmi.skeleton import COCO, Skeleton

HAND = Skeleton.create(
    ("wrist", "left tip", "right tip"), limbs=[("wrist", "left tip")], sigmas=(0.05, 0.1, 0.1)
)
BLANK = cv2.imencode(".png", np.zeros((60, 80, 3), np.uint8))[1].tobytes()


def put(folder, *names):
    """Pictures of 80 x 60."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BLANK)


def made(folder, skeleton, split, counts, seed):
    """Pictures with so many people each, some of whom have no joints."""
    random = np.random.default_rng(seed)
    n, k = sum(counts), len(skeleton)
    corner, side = random.uniform(-2, 40, (n, 2)), random.uniform(1, 40, (n, 2))
    visibility = random.integers(0, 3, (n, k)) * (random.random((n, 1)) < 0.8)
    keypoints = random.uniform(-5, 80, (n, k, 2)) * (visibility > 0)[..., None]
    names = (f"{'sub/' * (i % 2)}photo {i}.png" for i in range(len(counts)))
    names = tuple(sorted(names, key=Path))  # as folders are read
    people = People(
        id=np.arange(1, n + 1),
        image=np.repeat(np.arange(len(counts)), counts).astype(np.int32),
        box=np.concatenate([corner, corner + side], axis=1),
        area=0.53 * side.prod(axis=1),
        is_crowd=np.zeros(n, bool),
        keypoints=keypoints.astype(np.float32),
        visibility=visibility.astype(np.uint8),
    )
    m = len(counts)
    size = np.full(m, 80, np.int32), np.full(m, 60, np.int32)
    images = Images(np.arange(1, m + 1), names, *size, np.ones(m, bool))
    put(folder, *names)
    return Dataset(folder, split, skeleton, images, people, ImageFolder(folder, names))


def assert_same_people(found, expected):
    """To a hundredth of a pixel, which is what CVAT writes."""
    for field in ("file_name", "width", "height", "boxes_complete"):
        np.testing.assert_array_equal(getattr(found.images, field), getattr(expected.images, field))
    for field, places in (("image", 0), ("visibility", 0), ("is_crowd", 0), ("box", 0.0051)):
        theirs = getattr(expected.people, field)
        np.testing.assert_allclose(getattr(found.people, field), theirs, atol=places, rtol=0)
    np.testing.assert_allclose(found.people.keypoints, expected.people.keypoints, atol=0.0051)
    np.testing.assert_allclose(found.people.area, expected.people.area, rtol=0.02)
    assert found.skeleton == expected.skeleton


@pytest.mark.parametrize("skeleton", [COCO, HAND], ids=["COCO", "own joints"])
@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_read_as_the_same_people(name, skeleton):
    @settings(max_examples=5, deadline=None)
    @given(
        split=st.sampled_from(["train", "val"]),
        counts=st.lists(st.integers(0, 3), min_size=2, max_size=3),
        seed=st.integers(0, 2**32),
    )
    def check(split, counts, seed):
        with tempfile.TemporaryDirectory() as folder:
            dataset = made(Path(folder, "pictures"), skeleton, split, counts, seed)
            if name == "coco" and not dataset.people.visibility.any():
                return  # COCO's file declares no joints of a set of boxes
            path = WRITERS[name].write(Path(folder, "out"), dataset)
            assert path.exists()
            assert splits_of(Path(folder, "out")) == (dataset.split,)
            found = read(Path(folder, "out"), dataset.split)
            assert_same_people(found, dataset)
            assert found.source.read(0) == BLANK
            report = check_split(Path(folder, "out"), dataset.split)
            assert report.count["missing image"] == report.count["malformed"] == 0

    check()


def test_modules_are_readers_and_writers():
    assert all(isinstance(reader, Reader) for reader in READERS)
    assert all(isinstance(writer, Writer) for writer in WRITERS.values())


# What each tool exports: one person with a nose, a hidden left eye and a left ear that is nowhere,
# and one with a nose only, in two of three pictures. Every directory has the pictures in `images`.
NOSE, EYE, OTHER = (20.0, 15.0), (24.0, 12.0), (60.0, 30.0)


def yolo(folder, *, dimensions=3):
    shape = f"kpt_shape: [3, {dimensions}]\nkpt_names:\n  0: [nose, left_eye, left_ear]\n"
    names = "train: ../images\nval:\nnc: 1\nnames: ['person']\nflip_idx: [0, 1, 2]\n"
    (folder / "data.yaml").write_text(names + shape)
    v = (" 2", " 1", " 0") if dimensions == 3 else ("", "", "")
    (folder / "labels").mkdir()
    first = f"0 0.25 0.3 0.3 0.4 0.25 0.25{v[0]} 0.3 0.2{v[1]} 0 0{v[2]}\n"
    (folder / "labels/a.txt").write_text(first)
    second = f"0 0.75 0.5 0.2 0.5 0.75 0.5{v[0]} 0 0{v[2]} 0 0{v[2]}\n\n"
    (folder / "labels/b.txt").write_text(second)


def cvat(folder, *, subset="", meta=True):
    joints = "".join(
        f"<label><name>{n}</name><type>points</type><parent>person</parent></label>"
        for n in ("Nose", "Left Eye", "Left Ear")
    )
    labels = f"<meta><task><labels><label><name>person</name><type>skeleton</type></label>{joints}"
    labels += (
        "<label><name>box</name></label><label><name>car</name></label></labels></task></meta>"
    )
    element = '<points label="{}" source="manual" outside="{}" occluded="{}" points="{}"></points>'
    first = element.format("Nose", 0, 0, "20.00,15.00") + element.format("Left Ear", 1, 0, "1,1")
    first += element.format("Left Eye", 0, 1, "24.00,12.00")
    box = '<box label="{}" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}" z_order="0"{}/>'
    size = f'width="80" height="60"{subset}'
    (folder / "annotations.xml").write_text(f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>{labels if meta else ""}
<image id="0" name="a.png" {size}>
  {box.format("car", 1, 1, 9, 9, "")}
  <skeleton label="person" source="manual" z_order="0" group_id="7">{first}</skeleton>
  {box.format("box", 8, 6, 32, 30, ' group_id="7"')}
</image>
<image id="1" name="b.png" {size}>
  <skeleton label="person" z_order="0">{element.format("Nose", 0, 0, "60,30")}</skeleton>
  {box.format("person", 52, 15, 68, 45, "")}
</image>
<image id="2" name="c.png" {size}></image></annotations>
""")


def cvat_points(folder):
    """Without skeletons: points that are grouped, and points that have the order of the joints."""
    points = '<points label="{}" occluded="{}" points="{}" z_order="0"{}></points>'
    box = '<box label="person" xtl="{}" ytl="{}" xbr="{}" ybr="{}"{}/>'
    group = ' group_id="7"'
    (folder / "annotations.xml").write_text(f"""<annotations>
<image id="0" name="images/a.png" width="80" height="60">
  {points.format("nose", 0, "20.00,15.00", group)}{points.format("left_eye", 1, "24,12", group)}
  {box.format(8, 6, 32, 30, group)}</image>
<image id="1" name="b.png" width="80" height="60">
  {points.format("nose", 0, "60,30", "")}{box.format(52, 15, 68, 45, "")}</image>
<image id="2" name="c.png" width="80" height="60"/></annotations>""")


def region(kind, label, x, y, **more):
    value = {"x": x / 0.8, "y": y / 0.6, "width": 0.3, kind: [label], **more.pop("value", {})}
    size = {"original_width": 80, "original_height": 60, "image_rotation": 0}
    return {"type": kind, "from_name": "k", "to_name": "i", "value": value, **size, **more}


def rectangle(x0, y0, x1, y1, **more):
    value = {"width": (x1 - x0) / 0.8, "height": (y1 - y0) / 0.6, "rotation": 0}
    return region("rectanglelabels", "Person", x0, y0, value=value, **more)


def tasks():
    first = [
        region("keypointlabels", "nose", *NOSE, id="k1", parentID="p"),
        region("keypointlabels", "left_eye", *EYE, id="k2", parentID="p"),
        {"type": "choices", "id": "k2", "value": {"choices": ["Occluded"]}},
        rectangle(8, 6, 32, 30, id="p"),
    ]
    second = [
        region("keypointlabels", "nose", *OTHER, id="k3"),
        rectangle(52, 15, 68, 45, id="q"),
    ]
    return [
        {"id": 5, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [
            {"was_cancelled": True, "result": []}, {"was_cancelled": False, "result": first}]},
        {"id": 6, "data": {"photo": "/data/local-files/?d=x/images/b.png", "n": 3},
         "annotations": [{"result": second}]},
        {"id": 7, "data": {"image": "https://example.org/c.png?s=1"},
         "annotations": [{"result": []}]},
        {"id": 8, "data": {"image": "d.png"}, "annotations": [],
         "predictions": [{"result": first}]},
    ]  # fmt: skip


def label_studio(folder):
    (folder / "project-1-at-2024-01-01.json").write_text(json.dumps(tasks()))


def old_label_studio(folder):
    """Before version 1.0: completions, and no sizes."""
    old = tasks()
    for task in old:
        task["completions"] = task.pop("annotations")
        for completion in task["completions"]:
            for result in completion["result"]:
                result.pop("original_width", None)
    (folder / "result.json").write_text(json.dumps(old))


def json_min(folder):
    items = []
    for task in tasks()[:3]:
        item = {**task["data"], "id": task["id"], "annotator": 1, "lead_time": 3.2}
        for result in task["annotations"][-1]["result"]:
            if result["type"] != "choices":
                size = {"original_width": 80, "original_height": 60}
                item.setdefault(result["type"], []).append({**result["value"], **size})
        items.append(item)
    (folder / "min.json").write_text(json.dumps(items, indent=1))


def labelme(folder, *, version="5.5.0"):
    def shape(label, *points, group=None, **flags):
        kind = "point" if len(points) == 1 else "rectangle"
        old = {"label": label, "points": points, "line_color": None, "fill_color": None}
        if version.startswith("3"):
            return old
        return old | {"group_id": group, "shape_type": kind, "flags": flags, "description": ""}

    first = [
        shape("nose", NOSE, group=1),
        shape("person", (32, 30), (8, 6), group=1),
        shape("left_eye", EYE, group=1, occluded=True),
    ]
    second = [shape("person", (52, 15), (68, 45)), shape("nose", OTHER)]
    if version.startswith("3"):
        first, second = first[::2], second[1:]
    for name, shapes in (("a", first), ("b", second), ("c", [])):
        content = {"version": version, "flags": {}, "shapes": shapes, "imageData": None}
        content["imagePath"] = f"..\\somewhere\\images\\{name}.png"
        if not version.startswith("3"):
            content |= {"imageHeight": 60, "imageWidth": 80}
        (folder / f"{name}.json").write_text(json.dumps(content))


def marked(folder):
    """With byte order marks, as some editors write them."""
    yolo(folder)
    (folder / "list.txt").write_text("images/a.png\nimages/b.png\nimages/c.png\n")
    edit("data.yaml", "../images", "list.txt")(folder)
    for name in ("data.yaml", "list.txt", "labels/a.txt"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())


def four_corners(folder):
    labelme(folder)
    edit(A, "[[32, 30], [8, 6]]", "[[8, 6], [32, 6], [32, 30], [8, 30]]")(folder)


EXPORTS = {
    "yolo with byte order marks": (marked, "no areas"),
    "labelme with four corners": (four_corners, "no areas"),
    "yolo": (yolo, "no areas"),
    "yolo without visibility": (lambda f: yolo(f, dimensions=2), "no visibility"),
    "cvat": (cvat, "no areas"),
    "cvat, a project": (lambda f: cvat(f, subset=' subset="Train"'), "no areas"),
    "cvat, points": (cvat_points, "no areas"),
    "cvat without meta": (lambda f: cvat(f, meta=False), "no areas"),
    "label studio": (label_studio, "1 tasks that nobody has labelled"),
    "label studio, old": (old_label_studio, "1 tasks that nobody has labelled"),
    "label studio, min": (json_min, "no visibility"),
    "labelme": (labelme, "no areas"),
    "labelme, old": (lambda f: labelme(f, version="3.16.7"), "no boxes of 2 of 2 people"),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_what_tools_export(tmp_path, name, capsys):
    make, assumed = EXPORTS[name]
    put(tmp_path / "images", "a.png", "b.png", "c.png")
    make(tmp_path)
    dataset = read(tmp_path, "train")
    people, images = dataset.people, dataset.images
    assert dataset.skeleton == COCO
    assert images.file_name == ("a.png", "b.png", "c.png")
    assert (images.width.tolist(), images.height.tolist()) == ([80] * 3, [60] * 3)
    assert people.image.tolist() == [0, 1]
    hidden = 2 if "no visibility" in capsys.readouterr().err else 1
    assert np.flatnonzero(people.visibility[0]).tolist() == [0, 1]
    assert people.visibility[0, :2].tolist() == [2, hidden]
    assert np.flatnonzero(people.visibility[1]).tolist() == [0]
    expected = np.array([NOSE, EYE, OTHER])
    found = np.concatenate([people.keypoints[0, :2], people.keypoints[1, :1]])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    boxes = [[8, 6, 32, 30], [52, 15, 68, 45]]
    if "no boxes" in assumed:  # a tenth of the longer side, here .4, but at least a pixel
        boxes = [[19, 11, 25, 16], [59, 29, 61, 31]]
    np.testing.assert_allclose(people.box, boxes, atol=1e-4)
    np.testing.assert_allclose(
        people.area, 0.53 * np.prod(np.diff(people.box.reshape(2, 2, 2), axis=1), axis=2)[:, 0]
    )
    assert dataset.source.read(1) == BLANK
    report = check_split(tmp_path, "train")
    assert report.errors == 0
    assert report.count["assumed"] == 1
    assert assumed in report.examples["assumed"][0]
    assert "\n" not in report.examples["assumed"][0]


def edit(name, *changes):
    """A change of a text file: pairs of what is there, once or more, and what replaces it."""

    def apply(folder):
        text = (folder / name).read_text()
        for old, new in zip(changes[::2], changes[1::2]):
            assert old in text
            text = text.replace(old, new, 1)
        (folder / name).write_text(text)

    return apply


XML, JSON, YAML, A = "annotations.xml", "project-1-at-2024-01-01.json", "data.yaml", "a.json"
SECOND_BOX = '<box label="person" xtl="50" ytl="10" xbr="75" ybr="50"/>\n</image>\n<image id="2"'
FAULTS = {
    "yolo, no number": (yolo, edit("labels/a.txt", "0.25", "x"), "labels/a.txt, line 1: not 14"),
    "yolo, count": (yolo, edit("labels/a.txt", " 0 0 0", ""), "line 1: 11 numbers, not 5 .+ 3 x 3"),
    "yolo, pixels": (yolo, edit("labels/a.txt", "0.3", "24"), "line 1: 24 is no share"),
    "yolo, flag": (yolo, edit("labels/a.txt", "0.25 2", "0.25 3"), "line 1: v of nose is 3, not"),
    "yolo, commas": (yolo, edit("labels/a.txt", "0.25 ", "0.25, "), "line 1: has commas"),
    "yolo, nan": (yolo, edit("labels/a.txt", "0.25", "nan"), "line 1: not 14 numbers: 'nan'"),
    "yolo, predictions": (
        yolo,
        edit("labels/a.txt", "0.25 2", "0.25 0.97"),
        "line 1: v of nose is 0.97, not 0, 1 or 2, but a confidence",
    ),
    "yolo, a confidence": (yolo, edit("labels/a.txt", "\n", " .9"), "line 1: 15 .*a confidence"),
    "yolo, text": (yolo, edit(YAML, "nc: 1", "nc: ["), "data.yaml: not a YAML file"),
    "yolo, no object": (yolo, lambda f: (f / YAML).write_text("- a"), "data.yaml: no object"),
    "yolo, shape": (yolo, edit(YAML, "[3, 3]", "[3, 4]"), r"'kpt_shape' = \[3, 4\] is not"),
    "yolo, flips": (yolo, edit(YAML, "[0, 1, 2]", "[0, 1]"), "'flip_idx' must be 3 joint numbers"),
    "yolo, pairs": (
        yolo,
        edit(YAML, "[0, 1, 2]", "[1, 2, 0]", "nose", "snout"),
        "data.yaml: skeleton flip must pair the 3 joints",
    ),
    "yolo, names": (yolo, edit(YAML, ", left_ear", ""), "2 joints have names, 'kpt_shape' has 3"),
    "yolo, classes": (yolo, edit(YAML, "'person'", "cat, dog"), "categories 'cat', 'dog': none"),
    "yolo, folder": (yolo, edit(YAML, "../images", "../photos"), "../photos: no such folder"),
    "yolo, picture": (
        yolo,
        lambda f: (f / "images/b.png").write_text("version"),
        "images/b.png: .*not a picture",
    ),
    "cvat, text": (cvat, edit(XML, "</meta>", ""), "annotations.xml: not an XML file: mismatched"),
    "cvat, root": (cvat, lambda f: (f / XML).write_text("<a/>"), "<a> is not CVAT's <annotations>"),
    "cvat, video": (cvat, edit(XML, "</meta>", "</meta><track/>"), "has tracks; export it as"),
    "cvat, entities": (
        cvat,
        edit(XML, "<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'),
        "declares entities",
    ),
    "cvat, size": (cvat, edit(XML, 'width="80"', 'width="x"'), "image 0: needs 'name', 'width'"),
    "cvat, box": (cvat, edit(XML, 'xtl="52"', 'xtl=""'), "b.png, shape 2, <box>: 'xtl', 'ytl'"),
    "cvat, point": (cvat, edit(XML, "20.00,15.00", "20.00"), "a.png, shape 2, .*must be 1 x,y"),
    "cvat, joint": (
        cvat,
        edit(XML, 'label="Left Eye"', 'label="Left Toe"'),
        "a.png, shape 2, <skeleton>: no joint 'Left Toe' is declared",
    ),
    "cvat, twice": (cvat, edit(XML, 'label="Left Eye"', 'label="Nose"'), "a second 'Nose' of one"),
    "cvat, two boxes": (cvat, edit(XML, '</image>\n<image id="2"', SECOND_BOX), "in 2 boxes; gr"),
    "cvat, two skeletons": (
        cvat,
        edit(XML, "</labels>", "<label><name>a</name><parent>car</parent></label></labels>"),
        "2 skeletons with joints of their own",
    ),
    "label studio, text": (label_studio, edit(JSON, "]", "", "[", "[["), "not a JSON file"),
    "label studio, list": (
        label_studio,
        lambda f: (f / JSON).write_text("[1]"),
        "not a list of tasks",
    ),
    "label studio, COCO's results": (
        label_studio,
        lambda f: (f / JSON).write_text('[{"file_name": "a.png", "bbox": [1, 2, 3, 4]}]'),
        "entry 0: neither a task nor of JSON_MIN",
    ),
    "label studio, two": (
        label_studio,
        lambda f: (f / "second.json").write_text("[]"),
        "two exports, project-1-at-2024-01-01.json and second.json",
    ),
    "label studio, name": (label_studio, edit(JSON, "b.png", "b"), "task 6: no field of its data"),
    "label studio, parent": (
        label_studio,
        edit(JSON, '"parentID": "p"', '"parentID": "zz"'),
        "task 5, region k1: 'parentID' = 'zz' is no region",
    ),
    "label studio, number": (
        label_studio,
        edit(JSON, '"x": 25.0', '"x": null'),
        "task 5, region k1: x, y must be numbers",
    ),
    "label studio, label": (
        label_studio,
        edit(JSON, '["nose"]', '["nose", "chin"]'),
        "task 5, region k1: 'keypointlabels' must be one label",
    ),
    "label studio, joint": (
        label_studio,
        edit(JSON, '["nose"]', '["noise"]'),
        r"joint 'noise' is not one of COCO's; did you mean 'nose'\?; declare joints of your own",
    ),
    "label studio, turned": (
        label_studio,
        edit(JSON, '"image_rotation": 0', '"image_rotation": 90'),
        "task 5: 'image_rotation' = 90",
    ),
    "labelme, cut": (labelme, lambda f: (f / "b.json").write_text('{"a":'), r"b\.json"),
    "labelme, shapes": (labelme, edit(A, '"shapes": [', '"shapes": [1,'), "no list of 'shapes"),
    "labelme, points": (labelme, edit(A, "[20.0, 15.0]", "[20.0]"), "a.json: shape 1: 'points' of"),
    "labelme, no label": (
        labelme,
        edit(A, '"label": "nose"', '"label": null'),
        "a.json: shape 1: 'label' of a point = None",
    ),
    "labelme, four points": (
        labelme,
        edit(A, "[[32, 30], [8, 6]]", "[[32, 30], [8, 6], [9, 9], [1, 1]]"),
        "a.json: shape 2: 'points' of a rectangle must be two corners",
    ),
    "labelme, picture": (labelme, edit(A, '"imagePath"', '"path"'), "field 'imagePath' = N"),
    "labelme, group": (labelme, edit(A, '"label": "left_eye"', '"label": "nose"'), "second 'nose'"),
    "labelme, joint": (labelme, edit(A, "left_eye", "tip"), "joint 'tip' is not one of COCO's"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named_in_one_line(tmp_path, name):
    make, change, words = FAULTS[name]
    put(tmp_path / "images", "a.png", "b.png", "c.png")
    make(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path, "train")
    message = str(error.value)
    assert str(tmp_path) in message
    assert "\n" not in message
    assert check_split(tmp_path, "train").errors


def test_other_things_than_people_are_told_of(tmp_path):
    put(tmp_path / "images", "a.png", "b.png", "c.png")
    cvat(tmp_path)
    report = check_split(tmp_path, "train")
    assert report.examples["other category"] == ["a.png, shape 1, <box> of 'car'"]


@pytest.mark.parametrize("make", [yolo, cvat, label_studio, labelme])
def test_joints_can_be_declared(tmp_path, make, capsys):
    put(tmp_path / "images", "a.png", "b.png", "c.png")
    make(tmp_path)
    names = ["left_ear", "nose", "left_eye"]
    declared = {"name": "person", "keypoints": names, "skeleton": [[1, 2]]}
    (tmp_path / "skeleton.json").write_text(json.dumps(declared))
    dataset = read(tmp_path, "train")
    assert dataset.skeleton.names == tuple(names)
    assert dataset.skeleton.limbs == ((0, 1),)
    assert set(dataset.skeleton.sigmas) == {0.067}
    assert "no sigmas (0.067 for each joint)" in capsys.readouterr().err
    assert dataset.people.visibility[0].tolist()[:2] == [0, 2]
    (tmp_path / "skeleton.json").write_text(json.dumps(declared | {"keypoints": ["a", "b", "c"]}))
    with pytest.raises(DataError, match=r"skeleton.json: does not declare joint '(nose|Nose)'"):
        read(tmp_path, "train")


def test_joints_of_yolo_keep_their_mirror_images(tmp_path):
    put(tmp_path / "images", "a.png", "b.png", "c.png")
    yolo(tmp_path)
    edit("data.yaml", "[0, 1, 2]", "[0, 2, 1]", "kpt_names", "other")(tmp_path)
    skeleton = read(tmp_path, "train").skeleton
    assert skeleton.names == ("joint_0", "joint_1", "joint_2")
    assert skeleton.flip == (0, 2, 1)
    (tmp_path / "skeleton.json").write_text('{"keypoints": ["tip", "side", "other"]}')
    assert read(tmp_path, "train").skeleton.names == ("tip", "side", "other")
    (tmp_path / "skeleton.json").unlink()
    WRITERS["yolo"].write(tmp_path / "again", read(tmp_path, "train"))
    assert read(tmp_path / "again", "train").skeleton == skeleton


def test_a_persons_points_in_cvat_have_the_order_of_the_joints(tmp_path):
    put(tmp_path / "images", "a.png")
    (tmp_path / "skeleton.json").write_text('{"name": "cat", "keypoints": ["nose", "left_eye"]}')
    shape = '<points label="Cat" occluded="0" points="{}"/>'
    image = (
        '<annotations><image id="0" name="a.png" width="80" height="60">{}</image></annotations>'
    )
    path = tmp_path / "annotations.xml"
    path.write_text(image.format(shape.format("20,15;24,12") + shape.format("60,30;62,28")))
    people = read(tmp_path, "train").people
    assert people.keypoints.tolist() == [[[20, 15], [24, 12]], [[60, 30], [62, 28]]]
    path.write_text(image.format(shape.format("20,15;24,12;1,1")))
    with pytest.raises(DataError, match=r"a.png, shape 1, <points>: 'points' must be 2 x,y, got"):
        read(tmp_path, "train")


def test_limbs_of_cvat_are_its_drawing(tmp_path):
    put(tmp_path / "pictures", "a.png")
    (tmp_path / "out").mkdir()
    dataset = made(tmp_path / "pictures", HAND, "train", [1], 0)
    path = WRITERS["cvat"].write(tmp_path / "out", dataset, model="net")
    (path.parent / "skeleton.json").unlink()
    skeleton = read(tmp_path / "out", "train").skeleton
    assert (skeleton.names, skeleton.limbs) == (HAND.names, HAND.limbs)
    assert 'source="auto"' in path.read_text()
    (label, box) = json.loads((path.parent / "labels.json").read_text())
    assert [each["name"] for each in label["sublabels"]] == list(HAND.names)
    assert box["type"] == "rectangle"


def test_what_a_model_found_is_no_label_before_somebody_submits_it(tmp_path):
    put(tmp_path / "pictures", "a.png")
    dataset = made(tmp_path / "pictures", COCO, "train", [2], 0)
    path = WRITERS["label-studio"].write(tmp_path / "out", dataset, model="net")
    (task,) = json.loads(path.read_text())
    assert task["predictions"][0]["model_version"] == "net"
    assert task["data"]["image"] == "/data/local-files/?d=pictures/photo%200.png"
    assert len(read(tmp_path / "out", "train").images) == 0
    report = check_split(tmp_path / "out", "train")
    assert "1 have predictions, which become labels when" in report.examples["assumed"][0]
    assert report.examples["no people"] == ["0 annotations of people"]
    task["annotations"] = task.pop("predictions")
    path.write_text(json.dumps([task]))
    assert_same_people(read(tmp_path / "out", "train"), dataset)


def test_what_no_tool_has_a_place_for_is_said(tmp_path):
    put(tmp_path / "pictures", "a.png")
    dataset = made(tmp_path / "pictures", COCO, "train", [3], 0)
    crowd = dataclasses.replace(dataset.people, is_crowd=np.array([True, False, False]))
    dataset = dataclasses.replace(dataset, people=crowd)
    problems = []
    WRITERS["yolo"].write(tmp_path / "out", dataset, problems.append)
    assert [(p.kind, p.text) for p in problems] == [("assumed", "left out: 1 crowds")]
    assert len(read(tmp_path / "out", "train").people) == 2


def test_pictures_that_would_share_a_file_are_refused(tmp_path):
    names = ("a.jpg", "a.png")
    dataset = made(tmp_path / "pictures", COCO, "train", [1, 1], 0)
    images = dataclasses.replace(dataset.images, file_name=names)
    for name in ("yolo", "labelme"):
        with pytest.raises(DataError, match=r"a\.jpg and a\.png would have one file of labels"):
            WRITERS[name].write(tmp_path / name, dataclasses.replace(dataset, images=images))


@pytest.mark.parametrize(
    ("angle", "corners"),
    [(0, (0, 0, 4, 2)), (90, (-2, 0, 0, 4)), (180, (-4, -2, 0, 0)), (-90, (0, -4, 2, 0))],
)
def test_turned_boxes_stand_upright(angle, corners):
    """Clockwise on the screen around the corner (0, 0)."""
    found = upright((0.0, 0.0, 4.0, 2.0), float(angle), (0.0, 0.0))
    np.testing.assert_allclose(found, corners, atol=1e-9)


LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
WIDE = (-5.0, -5.0, 40.0, 40.0)


@pytest.mark.parametrize(
    ("boxes", "points", "people", "problem"),
    [
        ([], [], [], None),
        ([(None, LEFT)], [], [(LEFT, "")], None),
        ([], [(None, 5), (None, 25)], [(None, "ab")], None),
        ([(None, LEFT)], [(None, 5), (None, 25)], [(LEFT, "ab")], None),  # there is nobody else
        ([(None, LEFT), (None, RIGHT)], [(None, 5), (None, 25)], [(LEFT, "a"), (RIGHT, "b")], None),
        ([(1, LEFT), (2, RIGHT)], [(2, 5), (1, 25)], [(LEFT, "b"), (RIGHT, "a")], None),
        ([(None, LEFT)], [(7, 5), (8, 25)], [(LEFT, "a"), (None, "b")], None),
        ([(None, LEFT), (None, WIDE)], [(1, 25), (1, 26)], [(LEFT, ""), (WIDE, "ab")], None),
        (
            [(None, LEFT), (None, WIDE)],
            [(None, 5)],
            [(LEFT, ""), (WIDE, "")],
            "in 2 people's boxes",
        ),
        ([(1, LEFT), (2, RIGHT)], [(None, 15)], [(LEFT, ""), (RIGHT, "")], "is in nobody's box"),
        ([(None, LEFT), (None, WIDE)], [(1, 5)], [(LEFT, ""), (WIDE, "")], "in 2 boxes; group the"),
        ([(1, LEFT), (1, RIGHT)], [], [(LEFT, "")], "a second box in group 1"),
    ],
)
def test_boxes_and_points_are_gathered_to_people(boxes, points, people, problem):
    """Points are a and b, on the line y = 5."""
    said = []
    boxes = [Box("box", group, corners) for group, corners in boxes]
    points = [Point("p", group, name, (x, 5.0, 2)) for name, (group, x) in zip("ab", points)]
    found = gather(boxes, points, lambda kind, text: said.append(text))
    got = [(person.box, "".join(sorted(person.joints))) for person in found]
    assert sorted(got, key=str) == sorted(people, key=str)
    assert len(said) == (problem is not None)
    assert not said or problem in said[0]


ODD = (None, "x", -1, 1e300, [], {}, [[]], True)


def mutants(value):
    """A value of JSON's with one part of it replaced by something odd, or left out."""
    yield from ODD
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: other} for other in mutants(value[key]))
    if isinstance(value, list):
        for i in range(len(value)):
            yield from ([*value[:i], other, *value[i + 1 :]] for other in mutants(value[i]))


def texts_of(name, text):
    if name.endswith("json"):
        return map(json.dumps, mutants(json.loads(text)))
    if name.endswith("yaml"):
        return map(yaml.safe_dump, mutants(yaml.safe_load(text)))
    if name.endswith("xml"):
        words = [match.span(1) for match in re.finditer(r'="([^"]*)"', text)]
        return (text[:a] + odd + text[b:] for a, b in words for odd in ("", "x", "-1", "1e300"))
    words = [match.span() for match in re.finditer(r"\S+", text)]
    return (text[:a] + odd + text[b:] for a, b in words for odd in ("", "x", "-1", "1e300", "nan"))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (yolo, "data.yaml"),
        (yolo, "labels/a.txt"),
        (cvat, "annotations.xml"),
        (label_studio, "project-1-at-2024-01-01.json"),
        (json_min, "min.json"),
        (labelme, "a.json"),
    ],
)
def test_whatever_is_odd_is_read_or_named_in_one_line(tmp_path, make, name):
    put(tmp_path / "images", "a.png", "b.png", "c.png")
    make(tmp_path)
    path, said = tmp_path / name, []
    texts = list(texts_of(name, path.read_text()))
    for text in texts[:: 1 + len(texts) // 60]:  # all of them take half a minute
        path.write_text(text)
        with contextlib.suppress(DataError):
            try:
                people = read(tmp_path, "train", refuse_in_silence).people
            except DataError as error:
                said.append(str(error))
                raise
            assert np.isfinite(people.box).all()
            assert np.isfinite(people.keypoints).all()
    assert len(said) > 5
    assert all(str(tmp_path) in line and "\n" not in line for line in said)


def refuse_in_silence(problem):
    if problem.kind != "assumed":
        refuse(problem)
