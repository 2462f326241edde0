"""Drawings never overwrite each other."""

import pytest

from experiments.parts.outputs import drawing_names


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ("a/x.png b/x.png", "a/x.jpg b/x.jpg"),
        ("x.png x.jpg y.png", "x.png.jpg x.jpg.jpg y.jpg"),
        ("x.jpg x.png x.jpg.png", "x.jpg.jpg.jpg x.png.jpg x.jpg.jpg"),
        ("sheet.png x.png", "sheet.png.jpg x.jpg"),
        ("noending .hidden", "noending.jpg .hidden.jpg"),
    ],
)
def test_each_has_a_file_of_its_own(names, files):
    wanted = dict(zip(names.split(), files.split(), strict=True))
    found = drawing_names(dict.fromkeys(wanted, ".jpg"), taken=["sheet.jpg"])
    assert found == wanted
