"""The programs on a bottom-up network: a training, what it fits in the end, and what reads it."""

import dataclasses
import json
import re

import cv2
import jax
import numpy as np
import pytest

from data_pipeline import synthetic
from data_pipeline.schema import DataError
from experiments import evaluate, explain, export, predict, sweep, train
from experiments.benchmarks import bottom_up as benchmark
from experiments.parts import training
from experiments.parts.data import read_split
from experiments.parts.pairs import fit_pairs
from g_rmi.evaluation.truth import KEYPOINT_METRICS
from g_rmi.inference.load import PAIRS, load_task
from g_rmi.training.weights import read_config, write_weights

# Pictures fill their canvas.
TINY = [
    *("--config", "parts_small", "--width", "8", "--canvas", "65", "97", "--radius", "14"),
    *("--candidates", "4", "--min-score", "0.001", "--suppression", "6"),
    *("--batch-size", "4", "--log-every", "1", "--checkpoint-every", "1", "--threads", "1"),
]


@pytest.fixture(scope="module", autouse=True)
def _users_promotion():
    """What users run under: optax's Adam mixes a Python float with its count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "scenes"
    return synthetic.make(directory, train_images=8, val_images=3, size=(65, 97), workers=1)


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    """A training of two steps."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train.main([*TINY, "--steps", "2", "--data", str(data), "--workdir", str(workdir)])
    return workdir


@pytest.fixture(scope="module")
def surer(workdir, tmp_path_factory):
    """The weights as a file, with scores that find something after two steps."""
    file = tmp_path_factory.mktemp("weights") / "parts.safetensors"
    _, variables = load_task(workdir)
    score = variables["params"]["score"]
    params = variables["params"] | {"score": score | {"bias": score["bias"] + 5.0}}
    write_weights(file, read_config(workdir), variables | {"params": params})
    return file


def test_train_evaluates_and_fits_the_regressions(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {"train/loss", "train/pairwise", "eval/AP"} <= set().union(*lines)
    assert (workdir / PAIRS).is_file()
    task, variables = load_task(workdir)
    assert task.stage == "parts"
    assert variables["pairs"]["known"].any()
    assert np.isfinite(variables["pairs"]["weights"]).all()


def test_evaluate_and_predict_find_the_same_people(surer, data, tmp_path, capsys):
    evaluate.main(["--workdir", str(surer), "--data", str(data), "--out", str(tmp_path / "e")])
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert set(KEYPOINT_METRICS) | {"box_AP", "boxes"} <= metrics.keys()
    assert metrics["boxes"] > 0
    assert (tmp_path / "e" / "joints.md").is_file()
    assert "people in 3 pictures" in capsys.readouterr().out
    found = json.loads((tmp_path / "e" / "keypoints.json").read_text())

    pictures, out = str(data / "val2017"), str(tmp_path / "p")
    predict.main([pictures, "--pose", str(surer), "--out", out, "--min-score", "0"])
    people = json.loads((tmp_path / "p" / "keypoints.json").read_text())
    assert len(list((tmp_path / "p").glob("*.jpg"))) == 3
    assert len(people) == len(found) > 0
    keypoints, wanted = (
        sorted(np.reshape(one["keypoints"], (17, 3)).tolist() for one in table)
        for table in (people, found)
    )
    np.testing.assert_allclose(np.array(keypoints), np.array(wanted), atol=0.1)


def test_what_reads_the_weights_and_what_refuses_them(workdir, data, tmp_path):
    file = tmp_path / "parts.safetensors"
    export.main(["weights", "--workdir", str(workdir), "--out", str(file)])
    there, back = load_task(workdir), load_task(file)
    assert there[0] == back[0]
    np.testing.assert_array_equal(there[1]["pairs"]["weights"], back[1]["pairs"]["weights"])
    whole = ["--workdir", str(workdir), "--data", str(data)]
    picture, out = str(min((data / "val2017").iterdir())), str(tmp_path / "one.png")
    for program, words, message in (
        (
            export,
            ["onnx", "--pose", str(file), "--out", f"{file}.onnx"],
            "pose network is needed|needs the package onnx",
        ),
        (
            explain,
            [picture, "--pose", str(file), "--out", out, "--joint", "nose"],
            "--joint: of no use with --pose .*, which looks at everybody",
        ),
        (evaluate, [*whole, "--boxes", "detector"], "--boxes: .* finds people without boxes"),
        (evaluate, [*whole, "--flip-test"], "flip_test = True: not with a network"),
        (evaluate, [*whole, "--decoding", "hough"], "the parts have stages, whole, tree, exact"),
    ):
        with pytest.raises(ValueError, match=message):
            program.main(words)


def test_explain_draws_how_people_are_found(surer, data, tmp_path, capsys):
    picture, out = min((data / "val2017").iterdir()), tmp_path / "one.png"
    explain.main([str(picture), "--pose", str(surer), "--out", str(out)])
    people, candidates = re.search(r"(\d+) people of (\d+) cand", capsys.readouterr().out).groups()
    assert 0 < int(people) <= int(candidates)
    drawn, original = cv2.imread(str(out)), cv2.imread(str(picture))
    rows, columns, _ = drawn.shape
    assert rows >= 480
    assert columns > 3 * 480 * original.shape[1] / original.shape[0]


@pytest.mark.slow
def test_it_is_timed_beside_the_top_down_pipeline(surer, data, tmp_path):
    options = ["--rounds", "1", "--people", "1", "--pictures", "1", "--out", str(tmp_path)]
    benchmark.main(["--parts", str(surer), "--data", str(data), *options])
    table = json.loads((tmp_path / "bottom_up.json").read_text())
    assert [row["rival"] for row in table["rows"]] == ["bottom-up", "top-down"]
    assert all(row["ms"] > 0 for row in table["rows"])
    with pytest.raises(DataError, match="no picture in landscape with 400 people"):
        benchmark.main(["--parts", str(surer), "--data", str(data), "--people", "400"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("solver", ["in stages", "at once", "tree walk", "exact"]),
        (
            "geometry",
            ["both ways, with angles", "both ways, no angles", "one way", "geometry alone"],
        ),
    ],
)
def test_points_are_compared_on_one_training(name, points, workdir, data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "run", lambda arguments: pytest.fail("it is there"))
    options = ["--base", str(workdir), "--data", str(data), "--launcher", "debug"]
    assert sweep.main(["--config", name, *options, "--out", str(tmp_path)]) == 0
    head, _, *rows = (tmp_path / f"{name}.md").read_text().split("\n| ")[1:]
    assert "ms_per_image" in head
    assert [row.partition("|")[0].strip() for row in rows[: len(points)]] == points


@pytest.mark.parametrize("features", ["distances", "geometry"])
def test_other_features_are_fitted_anew(features, workdir, data):
    task, variables = load_task(workdir)
    decoding = dataclasses.replace(task.config.decoding, features=features)
    task = dataclasses.replace(task, config=dataclasses.replace(task.config, decoding=decoding))
    pairs = fit_pairs(task, variables, read_split([data], "train"))
    assert pairs.known.any()
    angles = pairs.weights[..., [1, 3, 5, 7]]
    assert angles.any() == (features == "geometry")
