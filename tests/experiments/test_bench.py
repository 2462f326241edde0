"""All benchmarks as one command."""

import json

import pytest

from experiments import bench
from experiments.benchmarks.timing import Timings


def test_rows_are_those_of_the_table():
    timings = Timings({"ours": [0.001, 0.002, 0.003], "theirs, too": [0.004, 0.004, 0.004]})
    assert bench.rows(f"a title\n{timings.table('theirs, too')}\nan end 3 ms") == {
        "ours": {"ms": 2.0, "ratio": 0.5},
        "theirs, too": {"ms": 4.0, "ratio": 1.0},
    }


def test_results_are_kept_and_failures_named(tmp_path, monkeypatch, capfd):
    small = ("--boxes", "40", "--regions", "10", "--detections", "5", "--rounds", "1")
    monkeypatch.setattr(bench, "BENCHMARKS", {"nms": small, "roi": ("--only", "nothing")})
    assert bench.main(["--out", str(tmp_path), "--only", "nms", "roi"]) == 1
    values = json.loads((tmp_path / "bench.json").read_text())
    assert values["failed"] == ["roi"]
    assert values["benchmarks"]["nms"]
    assert all(row["ms"] > 0 for row in values["benchmarks"]["nms"].values())
    assert "## nms" in (tmp_path / "bench.md").read_text()
    assert "failed: roi" in capfd.readouterr().err


def test_an_unknown_one_is_refused():
    with pytest.raises(ValueError, match="--only nmz: no such benchmark; did you mean 'nms'"):
        bench.main(["--only", "nmz"])
