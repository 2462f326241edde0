"""What a release needs beside the code: versions that agree, typing markers, exact versions."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import g_rmi

ROOT = Path(__file__).parent.parent


def requirements(name):
    lines = (line.partition(" #")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {
        Requirement(line).name.replace("_", "-").lower(): Requirement(line)
        for line in lines
        if line and not line.startswith(("#", "-r"))
    }


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_locked_versions_lie_within_the_ranges(python):
    environment = {**default_environment(), "python_version": python}
    environment["python_full_version"] = f"{python}.0"
    text = (ROOT / "requirements.lock").read_text()
    locked = {}
    for line in map(Requirement, re.findall(r"^[a-zA-Z].*$", text, re.MULTILINE)):
        if line.marker is None or line.marker.evaluate(environment):
            assert line.name.lower() not in locked, (
                f"{line.name} has two versions for Python {python}"
            )
            (version,) = line.specifier
            locked[line.name.lower()] = version.version
    for name, wanted in requirements("requirements.txt").items():
        assert wanted.specifier.contains(locked[name]), f"{name}: {locked[name]} is not {wanted}"


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == g_rmi.__version__
    newest = re.search(r"^## (\d.*?) - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == g_rmi.__version__


def test_weights_and_typing_markers_are_package_data():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package, patterns in data["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package}: nothing matches {pattern}"
    assert {"weights/*", "py.typed"} <= set(data["package-data"]["g_rmi"])
