"""Labelling tools' formats: what is written reads as the same people; what tools export."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.check import check_split
from data_pipeline.readers import READERS, WRITERS, read, splits_of
from data_pipeline.readers.reader import ImageFolder, Reader, Writer
from data_pipeline.schema import Dataset, Images, People
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
    names = tuple(f"{'sub/' * (i % 2)}photo {i}.png" for i in range(len(counts)))
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
    @settings(max_examples=8, deadline=None)
    @given(
        st.sampled_from(["train", "val"]),
        st.lists(st.integers(0, 3), min_size=2, max_size=3),
        st.integers(0, 2**32),
    )
    def check(*what):
        with tempfile.TemporaryDirectory() as folder:
            dataset = made(Path(folder, "pictures"), skeleton, *what)
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


EXPORTS = {
    "yolo": (yolo, "no areas"),
    "yolo without visibility": (lambda f: yolo(f, dimensions=2), "no visibility"),
    "cvat": (cvat, "no areas"),
    "cvat, a project": (lambda f: cvat(f, subset=' subset="Train"'), "no areas"),
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
