"""Timings as values, and all benchmarks as one command."""

import json
import time

import numpy as np
import pytest

from experiments import bench
from experiments.benchmarks.timing import (
    Case,
    Turns,
    available,
    differences,
    rows,
    time_in_turns,
)


def test_rows_have_medians_quartiles_and_ratios_to_the_first():
    seconds = {"ours": [0.001, 0.002, 0.003], "theirs": [0.004, 0.004, 0.004]}
    ours, theirs = rows("x", seconds, items=4, apart={"ours": 0.0, "theirs": 0.5})
    assert ours == {
        "case": "x", "rival": "ours", "ms": 2.0, "from": 1.5, "to": 2.5, "ratio": 1.0,
        "per_second": 2000.0, "difference": 0.0,
    }  # fmt: skip
    # Within each round: 4 / 1, 4 / 2, 4 / 3.
    assert theirs["ratio"] == pytest.approx(2.0)
    assert theirs["per_second"] == pytest.approx(1000.0)
    assert theirs["difference"] == 0.5


def test_rivals_take_turns_and_must_agree():
    turns = []
    calls = {name: lambda name=name: turns.append(name) or len(name) for name in ("a", "bcd")}
    apart = Case("x", calls, difference=lambda ours, theirs: theirs - ours, tolerance=2)
    _, table = Turns(rounds=2).compare(apart)
    assert "".join(turns) == "abcd" * 4  # checked, warmed up, two rounds
    assert [row["difference"] for row in table] == [0.0, 2.0]
    with pytest.raises(ValueError, match=r"x: bcd differs from a by 2\.0e\+00"):
        differences(apart._replace(tolerance=1))
    with pytest.raises(ValueError, match="differs from a by nan"):
        differences(apart._replace(difference=lambda *_: np.nan))
    assert differences(Case("x", calls)) == {}


def test_rivals_that_cannot_be_had_are_named(capsys):
    def missing():
        raise ImportError("No module named 'numba'")

    makers = {"here": lambda: 1, "numba": missing}
    assert available(lambda make: make(), makers) == {"here": 1}
    assert capsys.readouterr().out == "numba: left out (No module named 'numba')\n"


def test_processor_time_leaves_out_what_others_take():
    case = Case("x", {"sleeper": lambda: time.sleep(0.02)})
    for processor_time, least, most in ((False, 20, 1000), (True, 0, 10)):
        _, (row,) = Turns(rounds=3, processor_time=processor_time).compare(case)
        assert least <= row["ms"] < most


def test_turns_are_timed_by_every_clock_and_divided_by_their_items():
    now, items = np.zeros(2), iter([1, 1, 2, 4])

    def call():
        now[:] += [8, 4]

    seconds = time_in_turns(
        {"x": call}, rounds=3, clock=lambda: now.copy(), items=lambda: next(items)
    )
    np.testing.assert_array_equal(seconds["x"], [[8, 4], [4, 2], [2, 1]])


def test_results_are_values_and_a_table(tmp_path, capsys):
    table = [{"case": "a|b", "ms": 1234.567}, {"case": "c", "ms": 0.25}]
    lines = "| case |    ms |\n| ---- | ----: |\n| a\\|b | 1,235 |\n| c    |  0.25 |\n"
    Turns(rounds=3, processor_time=True, out=tmp_path / "new").save("mine", table, note="Two rows.")
    values = json.loads((tmp_path / "new" / "mine.json").read_text())
    assert values["rows"] == table
    assert values["note"] == "Two rows. Milliseconds of processor time, medians of 3 rounds."
    page = (tmp_path / "new" / "mine.md").read_text()
    assert page.startswith(f"# mine\n\n{values['date']}, commit {values['commit']}; ")
    assert page.endswith(lines)
    assert lines in capsys.readouterr().out


def test_every_benchmark_runs_and_failures_are_named(tmp_path, monkeypatch, capfd):
    tiny = ("--only", "nms", "--rounds", "1")
    monkeypatch.setattr(bench, "BENCHMARKS", {"kernels": tiny, "loader": ("--rounds", "no")})
    assert bench.main(["--out", str(tmp_path), "--only", "kernels", "loader"]) == 1
    assert json.loads((tmp_path / "kernels.json").read_text())["rows"]
    assert "failed: loader" in capfd.readouterr().err


def test_an_unknown_one_is_refused():
    with pytest.raises(ValueError, match="--only kernel: no such benchmark; did you mean 'kernels"):
        bench.main(["--only", "kernel"])


def test_where_results_cannot_go_is_said_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        bench.main(["--out", str(tmp_path / "file")])
