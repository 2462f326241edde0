"""The documents' commands exist, and so does every option they show."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "experiments/README.md"]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def commands(start):
    """Indented lines of the documents that start with these words, continuation lines joined."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text().replace("\\\n", " ")
        found += re.findall(rf"^ {{4,}}({start} .*)$", text, re.MULTILINE)
    return sorted({" ".join(line.split("#")[0].split()) for line in found})


@functools.cache
def usage(module, config):
    given = ["--config", config] if config else []  # whose fields are options
    done = subprocess.run(
        [sys.executable, "-m", module, *given, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", commands("python -m"))
def test_programs_have_the_options_shown(command):
    _, _, module, *words = command.split()
    config = words[words.index("--config") + 1] if "--config" in words else None
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", usage(module, config)), f"{module} has no {option}"


@pytest.mark.parametrize("command", commands("make"))
def test_make_targets_exist(command):
    words = shlex.split(command)[1:]
    done = subprocess.run(["make", "-n", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    makefile = (ROOT / "Makefile").read_text()
    for variable in (word.partition("=")[0] for word in words if "=" in word):
        assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), f"no variable {variable}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{name} links to {target}"
