"""The commands and scripts of the documentation, one after the other, as somebody types them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest

from data_pipeline import check
from data_pipeline.readers import read
from data_pipeline.readers.categories import declared_skeleton
from g_rmi.ops.hough import hough_vote

ROOT = Path(__file__).parent.parent


def page(name):
    return (ROOT / "docs" / name).read_text()


def commands(name):
    """The indented lines of a page that run a program."""
    return [shlex.split(line) for line in re.findall(r"^ {4}python (-m .*)$", page(name), re.M)]


def scripts(name):
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)


def run(words, folder, *, path=ROOT):
    """Runs Python as in a shell; returns what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(path)])}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_works(tmp_path):
    lines = commands("tutorial.md")
    assert len(lines) > 10
    for line in lines:
        run(line, tmp_path)
    names = "scenes.jpg runs/pose/evaluation/metrics.json runs/end_to_end/metrics.json nose.png"
    names += " runs/found/keypoints.json pose.safetensors runs/again/metrics.json"
    names += " labelled/annotations/person_keypoints_train2017.json runs/second/config.json"
    for name in names.split():
        assert (tmp_path / name).stat().st_size > 0, name


@pytest.mark.slow
def test_the_page_on_photographs_works(tmp_path):
    source = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    (tmp_path / "holiday" / "beach").mkdir(parents=True)
    (tmp_path / "frames").mkdir()
    pictures = "photograph.jpg", "holiday/a.jpg", "holiday/b.jpg", "holiday/beach/a.jpg"
    for name in (*pictures, "frames/1.jpg", "frames/2.jpg"):
        shutil.copy(source, tmp_path / name)
    size = 320, 240
    clip = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
    for _ in range(6):
        clip.write(cv2.resize(cv2.imread(str(tmp_path / "photograph.jpg")), size))
    clip.release()
    (boxes,) = (
        b
        for b in re.findall(r"^```json\n(.*?)^```", page("photographs.md"), re.M | re.S)
        if "category_id" not in b
    )
    (tmp_path / "boxes.json").write_text(boxes)
    for line in commands("photographs.md"):
        if "runs/pose" not in line:  # somebody's training
            run(line, tmp_path)
    printed = [
        run(["-c", script], tmp_path, path=tmp_path / "people")
        for script in scripts("photographs.md")
    ]
    assert len(printed) == 5
    assert "beach/a.jpg" in printed[0]
    assert "holiday" not in printed[1]
    assert "a.jpg" in printed[1]
    assert "[1]" in printed[2]
    assert "left_wrist: " in printed[3]
    fields = set(re.findall(r"^\| `(\w+)` \| ", page("photographs.md"), re.M))
    for folder, more in (("found", set()), ("video", {"frame", "time"})):
        for person in json.loads((tmp_path / folder / "keypoints.json").read_text()):
            assert person.keys() - {"category_id"} == fields - {"frame", "time", "track_id"} | more
    for name in ("drawn.jpg", "found/beach/a.jpg", "video/clip.mp4", "boxed/a.jpg", "votes.png"):
        assert (tmp_path / name).stat().st_size > 0, name


@pytest.mark.slow
def test_the_page_on_runtimes_works(tmp_path):
    """But for cameras and addresses: tests/experiments/test_streams.py makes those."""
    for package in ("onnx", "onnxruntime", "jax2onnx"):
        pytest.importorskip(package)
    source = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    (tmp_path / "holiday").mkdir()
    for name in ("photograph.jpg", "holiday/a.jpg"):
        shutil.copy(source, tmp_path / name)
    code, size = cv2.VideoWriter.fourcc(*"MJPG"), (320, 240)
    clip = cv2.VideoWriter(str(tmp_path / "recording.mkv"), code, 25, size)
    for _ in range(6):
        clip.write(cv2.resize(cv2.imread(str(source)), size))
    clip.release()
    lines = [line for line in commands("runtimes.md") if "0" not in line]
    lines = [line for line in lines if not any("://" in word for word in line)]
    assert len(lines) == 4
    for line in lines:
        run(line, tmp_path)
    assert json.loads((tmp_path / "recording" / "keypoints.json").read_text())
    (script,) = scripts("runtimes.md")
    assert "[[" in run(["-c", script], tmp_path, path=tmp_path)
    assert "1 people, drawn" in run(["people.py", "photograph.jpg"], tmp_path)
    for name in (
        "recording/recording.mkv.mp4",
        "photograph.jpg.people.jpg",
        "pose.onnx",
        "small.onnx",
    ):
        assert (tmp_path / name).stat().st_size > 0, name


def put_picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((480, 640, 3), np.uint8))


def test_the_sets_on_the_page_on_formats_are_read(tmp_path, monkeypatch, capsys):
    """All say the same: a nose, and a left eye that is hidden."""
    blocks = re.findall(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```", page("formats.md"), re.M | re.S)
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in re.findall(r"^The picture is `(.*)`\.$", page("formats.md"), re.M):
        put_picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names = ("yolo_set", "cvat_set", "label_studio_set", "labelme_set", "bikes_as_coco")
    (script,) = scripts("formats.md")
    exec(script, {})
    for name in names:
        assert check.main(Path(name)) == 0, capsys.readouterr().out
        people = read(name, "train").people
        assert people.box.tolist() == [[192, 48, 448, 432]], name
        assert people.keypoints[0, :2].tolist() == [[320, 120], [340, 96]]
        assert people.visibility[0].tolist() == [2, 1] + [0] * 15
    (declared,) = (text for name, text in blocks if name == "hands/skeleton.json")
    category = json.loads(declared)
    assert declared_skeleton(category).names == tuple(category["keypoints"])


@pytest.mark.slow
def test_the_pre_labels_on_the_page_on_formats_are_made(tmp_path):
    source = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    (tmp_path / "holiday").mkdir()
    shutil.copy(source, tmp_path / "holiday" / "a.jpg")
    lines = [line for line in commands("formats.md") if "experiments.label" in line]
    assert len(lines) == 2
    for line in lines:
        assert "of 1 people" in run(line, tmp_path)
    assert 'outside="0"' in (tmp_path / "for_cvat/train/annotations.xml").read_text()


@pytest.mark.slow
def test_the_python_of_the_readme_works(tmp_path):
    for name in ("photo.jpg", "photograph.jpg"):
        shutil.copy(ROOT / "experiments/pictures/city.jpg", tmp_path / name)
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    run(["-c", blocks[0]], tmp_path)
    assert "'left_ankle'" in run(["-c", blocks[1]], tmp_path)
    assert (tmp_path / "drawn.jpg").stat().st_size > 0
    run(["-m", "experiments.export", "program", "--out", "runs/people"], tmp_path)
    image = "from PIL import Image\nimage = Image.open('photo.jpg')\n"
    run(["-c", image + blocks[2]], tmp_path, path=tmp_path / "runs/people")


@pytest.mark.slow
def test_the_people_of_the_page_on_bottom_up_are_found(tmp_path):
    (script,) = scripts("bottom_up.md")
    numbers = re.findall(r"[\d.]+", run(["-c", script], tmp_path))
    (given,) = re.findall(r"people = np.array\((.*), np.float32\)", script)
    people, found = np.array(json.loads(given)), np.array(numbers, float).reshape(-1, 3, 2)
    np.testing.assert_allclose(sorted(found.tolist()), sorted(people.tolist()), atol=1e-3)


def test_the_loop_of_the_method_is_hough_voting():
    (script,) = scripts("method.md")
    names: dict = {}
    exec(script, names)
    random = np.random.default_rng(0)
    heatmap, offset = random.random((7, 5)), 3 * random.standard_normal((7, 5, 2))
    votes = hough_vote(heatmap[..., None], offset[:, :, None], radius=2.0)
    expected = names["hough_vote"](heatmap, offset, 2.0)
    np.testing.assert_allclose(votes[..., 0], expected, rtol=1e-5, atol=1e-6)
