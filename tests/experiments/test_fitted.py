"""Heads that look at the training set first, or train in steps, through the programs."""

import json

import jax
import numpy as np
import pytest

from data_pipeline import synthetic
from data_pipeline.loader import sample_joints
from experiments import configs, sweep, train
from experiments.parts.data import read_split
from g_rmi.inference.load import load_task

TINY = [
    *("--width", "8", "--crop-height", "33", "--crop-width", "33", "--steps", "2"),
    *("--batch-size", "4", "--log-every", "1", "--checkpoint-every", "1", "--threads", "1"),
    *("--keep-best", "0"),
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _users_promotion():
    """What users run under: optax's Adam mixes a Python float with its count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "scenes"
    return synthetic.make(directory, train_images=8, val_images=4, size=(96, 128), workers=1)


def run(config, data, workdir, *more):
    given = ["--config", config, "--data", str(data), "--workdir", str(workdir)]
    train.main([*given, *TINY, *more])
    return load_task(workdir)


def same(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def test_statistics_are_measured_once_and_stay_with_the_weights(data, tmp_path):
    task, variables = run("pose_parts_small", data, tmp_path / "first")
    experiment = configs.get("pose_parts_small")
    how = {"height": 33, "width": 33, "config": experiment.data, "seed": 0}
    joints = sample_joints(read_split((data,), "train"), **how)
    wanted = task.config.head.statistics(*joints)["statistics"]
    assert same(variables["statistics"], wanted)
    assert np.std(wanted["pairs"]["mean"]) > 1
    # Another seed would measure others; with the weights come theirs.
    given = "--init", str(tmp_path / "first"), "--seed", "1"
    _, taken = run("pose_parts_small", data, tmp_path / "second", *given)
    assert same(taken["statistics"], wanted)
    assert not same(taken["params"], variables["params"])


def test_a_cascade_in_three_steps_is_a_row_of_a_sweep(data, tmp_path):
    given = ["--config", "cascade", "--base", "pose_synthetic", "--data", str(data)]
    more = ["--fpn-channels", "8", "--radius", "4", "--steps", "3", "--launcher", "debug"]
    assert sweep.main([*given, *TINY, *more, "--out", str(tmp_path)]) == 0
    folders = tmp_path.glob("trainings/*")
    made = {path: json.loads((path / "config.json").read_text()) for path in folders}
    steps = {
        values["model"]["head"].get("trains"): path
        for path, values in made.items()
        if values["train"]["steps"] == 1
    }
    assert steps.keys() == {"detection", "regression", "both"}
    names = "detection", "regression", "both"
    detection, regression, both = (load_task(steps[name])[1] for name in names)
    table = (tmp_path / "cascade.csv").read_text().splitlines()
    assert table[0].startswith("point,AP,AP50,PCK,occluded_within,ms_per_crop,GFLOPs,Mparameters")
    assert len(table) == 6
    assert all(line.endswith("done") for line in table[1:])
    for name in ("trunk", "top_down", "detection"):
        assert same(detection["params"][name], regression["params"][name])
    assert not same(both["params"]["regression"], regression["params"]["regression"])
