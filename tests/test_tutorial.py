"""The tutorial's commands, one after the other, as somebody types them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_tutorial_works(tmp_path):
    page = (ROOT / "docs" / "tutorial.md").read_text()
    lines = re.findall(r"^ {4}python (-m .*)$", page, re.MULTILINE)
    assert len(lines) > 10
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for line in lines:
        command = [sys.executable, *shlex.split(line)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    names = "scenes.jpg runs/pose/evaluation/metrics.json runs/end_to_end/metrics.json nose.png"
    names += " runs/found/keypoints.json pose.safetensors runs/again/metrics.json"
    names += " labelled/annotations/person_keypoints_train2017.json runs/second/config.json"
    for name in names.split():
        assert (tmp_path / name).stat().st_size > 0, name
