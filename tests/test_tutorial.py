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
    for name in ("photograph.jpg", "holiday/a.jpg", "holiday/b.jpg", "holiday/beach/a.jpg"):
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
        if not {"runs/pose", "onnx"} & set(line):  # somebody's trainings, an optional package
            run(line, tmp_path)
    printed = [
        run(["-c", script], tmp_path, path=tmp_path / "people")
        for script in scripts("photographs.md")
    ]
    assert len(printed) == 3
    assert "beach/a.jpg" in printed[0]
    assert "left_wrist: " in printed[1]
    fields = set(re.findall(r"^\| `(\w+)` \| ", page("photographs.md"), re.M))
    for folder, more in (("found", set()), ("video", {"frame"})):
        for person in json.loads((tmp_path / folder / "keypoints.json").read_text()):
            assert person.keys() - {"category_id"} == fields - {"frame"} | more
    for name in ("drawn.jpg", "found/beach/a.jpg", "video/clip.mp4", "boxed/a.jpg", "votes.png"):
        assert (tmp_path / name).stat().st_size > 0, name


def test_the_loop_of_the_method_is_hough_voting():
    (script,) = scripts("method.md")
    names: dict = {}
    exec(script, names)
    random = np.random.default_rng(0)
    heatmap, offset = random.random((7, 5)), 3 * random.standard_normal((7, 5, 2))
    votes = hough_vote(heatmap[..., None], offset[:, :, None], radius=2.0)
    expected = names["hough_vote"](heatmap, offset, 2.0)
    np.testing.assert_allclose(votes[..., 0], expected, rtol=1e-5, atol=1e-6)
