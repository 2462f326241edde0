"""The documents' commands exist, and so does every option they show."""

import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "experiments/README.md", "experiments/runs/README.md"]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def commands(start):
    """Indented lines of the documents that start with these words, continuation lines joined."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text().replace("\\\n", " ")
        found += re.findall(rf"^ {{4,}}({start} .*)$", text, re.MULTILINE)
    return sorted({" ".join(line.split("#")[0].split()) for line in found})


def program(command):
    """Module of a command, and what its options depend on: a verb, or a config."""
    _, _, module, *words = command.split()
    if module == "experiments.export" and not words[0].startswith("-"):
        return module, words[0]
    if "--config" in words:
        return module, "--config", words[words.index("--config") + 1]
    return (module,)


# One interpreter for all of them: starting it takes longer than its work.
HELP = """
import contextlib, io, json, runpy, sys
for module, *words in json.loads(sys.argv[1]):
    sys.argv = [module, *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, f"{sys.argv}: {end.code}"
    print(json.dumps(text.getvalue()))
"""


@functools.cache
def usages():
    """What every program that the documents show says of its options."""
    programs = sorted({program(command) for command in commands("python -m")})
    done = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(programs)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(programs, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("command", commands("python -m"))
def test_programs_have_the_options_shown(command):
    usage = usages()[program(command)]
    for option in (word.partition("=")[0] for word in command.split() if word.startswith("--")):
        assert re.search(rf"{option}\b", usage), f"{command}: there is no {option}"


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
