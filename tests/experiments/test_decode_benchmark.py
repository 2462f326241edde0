"""The decoding benchmark, on a crop of a few pixels."""

import numpy as np
import pytest

from experiments.benchmarks import decode


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setattr(decode, "numba_loops", lambda: None)


def test_times_and_checks_the_maps_of_a_file(tmp_path, capsys, without_numba):
    made = decode.made_maps(decode.Grid(33, 25, 6.0), count=3, stride=4)
    np.savez(tmp_path / "maps.npz", heatmap=made.logits, offset=made.offset)
    size = {"height": 33, "width": 25, "radius": 6.0}
    decode.main(maps=tmp_path / "maps.npz", **size, crops=2, rounds=1, processor_time=True)
    out = capsys.readouterr().out
    assert "same maximum on 51 of 51 joints, 3 of 3 crops" in out
    assert "2 crops of" in out
    assert "maps.npz, processor time" in out


def test_a_file_without_maps_is_named(tmp_path):
    np.savez(tmp_path / "maps.npz", heatmap=np.zeros(3))
    with pytest.raises(ValueError, match=r"maps\.npz: no array 'offset'; it has heatmap"):
        decode.read_maps(tmp_path / "maps.npz")


@pytest.mark.slow
def test_the_rivals_cast_the_same_votes():
    pytest.importorskip("numba")
    grid = decode.Grid(33, 25, 6.0)
    calls = decode.rivals(decode.made_maps(grid, count=1, stride=4), grid)
    results = {name: call() for name, call in calls.items()}
    votes = np.moveaxis(np.asarray(results["hough_vote, votes alone"]), 2, 0) * np.pi * 6.0**2
    for name in ("numba, votes alone", "numba, from coarse maps"):
        np.testing.assert_allclose(results[name][:, 1:-1, 1:-1], votes, atol=1e-3)
    y, x = np.divmod(np.asarray(results["whole vote maps"][0]), 25)
    np.testing.assert_array_equal(results["decode"].keypoints, np.stack([x, y], axis=-1))
