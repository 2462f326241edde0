"""Tables, against tables written by hand."""

import pytest

from g_rmi.viz import table


def test_markdown():
    rows = [("left_ankle", "1,200", "0.512", "a|b"), ("all", "0", "-", "")]
    assert table.markdown(("name", "labelled", "oks", "why"), rows) == (
        "| name       | labelled |   oks | why  |\n"
        "| ---------- | -------: | ----: | ---- |\n"
        "| left_ankle |    1,200 | 0.512 | a\\|b |\n"
        "| all        |        0 |     - |      |\n"
    )


def test_markdown_without_rows_and_with_uneven_ones():
    assert table.markdown(("name", "AP"), []) == "| name | AP |\n| ---- | -: |\n"
    with pytest.raises(ValueError, match="zip"):
        table.markdown(("name", "AP"), [("one",)])


@pytest.mark.parametrize("cell", ["-1.5", "+3", "2", "1,048,576", "2.5e-07", "-", ""])
def test_numbers(cell):
    assert table.markdown(("a", "long name"), [("b", cell)]).endswith(f"| {cell:>9} |\n")


@pytest.mark.parametrize("cell", ["3 boxes", "1.2.3", "--", "nan", "50 %", "x2"])
def test_text(cell):
    assert table.markdown(("2", "long name"), [("1", cell)]).endswith(f"| 1 | {cell:9} |\n")


def test_number():
    assert [table.number(x) for x in (-1.0, 0.0, 0.12345, 1.0)] == ["-", "0.000", "0.123", "1.000"]


def test_rows_of_numbers():
    numbers = {"as given": {"AP": 0.12345, "AR": -1.0, "AP50": 1.0}}
    numbers["no NMS"] = {"AP": 0.0, "AR": 2.0}
    rows = table.number_rows(numbers, ("AR", "AP"))
    assert rows == [["as given", "-", "0.123"], ["no NMS", "2.000", "0.000"]]
    assert table.number_rows({}, ("AP",)) == []


def test_show(capsys):
    name = "a very long name of a row, all of which is to be read on one line, however narrow"
    rows = [(name, "0.500", "[bold]"), ("b", "12.25", "")]
    table.show(("", "AP", "status"), rows, title="Which [one]?")
    title, *lines = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert title == "Which [one]?"
    first, second = (line for line in lines if "0.500" in line or "12.25" in line)
    assert name in first
    assert first.endswith("[bold]")
    assert first.index("0.500") + 5 == second.index("12.25") + 5
