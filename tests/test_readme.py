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
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "g_rmi/weights/README.md"),
    *("experiments/README.md", "experiments/runs/README.md"),
]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
DOCUMENTS += PAGES


def code():
    """Lines of the documents' code: indented ones and fenced shell, continuation lines joined."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text().replace("\\\n", " ")
        yield from re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
        shell = r"^```(?:bash|sh|shell|console)\n(.*?)^```"
        for block in re.findall(shell, text, re.MULTILINE | re.DOTALL):
            yield from (line.strip().removeprefix("$ ") for line in block.splitlines())


def commands(start, *, before=""):
    """The commands that start with these words, with nothing but `before` in front of them."""
    found = [re.search(rf"^{before}({start} .*)$", line.split("#")[0]) for line in code()]
    return sorted({" ".join(match[1].split()) for match in found if match})


def programs():
    """Commands of `python -m`, alone or on other hosts, and those of `g-rmi` written like them."""
    spelled = [line.split(maxsplit=2)[1:] for line in commands("g-rmi")]
    named = [line for line in spelled if not line[0].startswith("-")]
    short = [" ".join(["python -m experiments." + line[0], *line[1:]]) for line in named]
    remote = [line.rstrip('"') for line in commands("python -m", before="(?:srun|gcloud) .*[ /]")]
    return sorted({*commands("python -m"), *remote, *short})


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
    known = sorted({program(command) for command in programs()})
    done = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(known)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(known, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("command", programs())
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


@pytest.mark.parametrize("name", PAGES)
def test_files_named_are_there(name):
    """`g_rmi/ops/hough.py` in a page is a file, and so is a page that links to a heading."""
    text = (ROOT / name).read_text()
    for file in re.findall(r"`((?:data_pipeline|experiments|g_rmi|tests)/[\w/.]+\.\w+)`", text):
        assert (ROOT / file).is_file(), f"{name} names {file}"
    for page, heading in re.findall(r"\]\((\w+\.md)?#([\w-]+)\)", text):
        linked = (ROOT / "docs" / page).read_text() if page else text
        titles = re.findall(r"^#+ (.*)$", linked, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
        assert heading in anchors, f"{name} links to {page}#{heading}"
