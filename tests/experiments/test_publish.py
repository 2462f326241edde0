"""Weights as one file, and the picture of how they vote."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest

from experiments import evaluate, explain, publish
from g_rmi.config import PoseConfig, PoseExperiment
from g_rmi.pipeline import load_task
from g_rmi.pose.task import PoseTask
from g_rmi.training.weights import read_weights, write_weights
from tests.experiments.networks import save, scene

POSE = PoseExperiment(
    model=PoseConfig(
        depth=26, width=8, output_stride=32, top_down=8, crop_height=33, crop_width=33, radius=4.0
    )
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A published training of a tiny pose network."""
    folder = tmp_path_factory.mktemp("published")
    save(folder / "run", POSE, PoseTask(POSE.model))
    publish.main(["--workdir", str(folder / "run"), "--out", str(folder / "pose.safetensors")])
    return folder / "pose.safetensors"


def test_a_published_file_stands_for_its_training(weights):
    (task, read), (other, written) = map(load_task, (weights, weights.parent / "run"))
    assert task == other
    kernel = written["params"]["heatmap"]["kernel"]
    np.testing.assert_allclose(read["params"]["heatmap"]["kernel"], kernel, rtol=1e-3, atol=1e-7)


def test_prediction_may_use_other_values_than_training(weights, tmp_path):
    run, out = weights.parent / "run", tmp_path / "pose.safetensors"
    arguments = ["--workdir", str(run), "--out", str(out), "--change"]
    publish.main([*arguments, "box_scale=1.1", "crop_height=65", "norm=frozen"])
    (task, variables), (before, _) = map(load_task, (out, weights))
    changes = {"box_scale": 1.1, "crop_height": 65, "norm": "frozen"}
    assert task.config == dataclasses.replace(before.config, **changes)
    maps = jax.eval_shape(task.predict, variables, np.zeros((1, 65, 33, 3), np.uint8))
    assert maps.heatmap.shape == (1, 17, 9, 17)


def test_weights_are_averaged_with_others(weights, tmp_path):
    values, tensors = read_weights(weights)
    third = jax.tree.map(lambda x: np.asarray(x, np.float32) / 3, tensors)
    write_weights(tmp_path / "third.safetensors", values, third)
    arguments = ["--workdir", str(weights.parent / "run"), "--out", str(tmp_path / "mean")]
    arguments[-1] += ".safetensors"
    publish.main([*arguments, "--average-with", str(tmp_path / "third.safetensors")])
    _, mean = load_task(tmp_path / "mean.safetensors")
    _, first = load_task(weights)
    for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(first), strict=True):
        np.testing.assert_allclose(a, 2 / 3 * np.asarray(b, np.float32), rtol=3e-3, atol=1e-6)
    other = dataclasses.replace(POSE, model=dataclasses.replace(POSE.model, width=4))
    save(tmp_path / "other", other, PoseTask(other.model))
    with pytest.raises(ValueError, match=r"--average-with .*other: of another network"):
        publish.main([*arguments, "--average-with", str(tmp_path / "other")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("box_scale", "--change box_scale: must be NAME=VALUE"),
        ("box_scale=wide", "model.box_scale = 'wide': must be float"),
        ("box_scal=1.1", r"unknown field 'model.box_scal'; did you mean 'box_scale'\?"),
        ("box_scale=-1.0", "model.box_scale = -1.0: must be positive"),
        ("width=16", "--change width=16: the weights do not fit such a network"),
        ("top_down=0", "--change top_down=0: the weights do not fit such a network"),
    ],
)
def test_a_change_that_cannot_be_is_named(weights, tmp_path, change, message):
    out = tmp_path / "pose.safetensors"
    with pytest.raises(ValueError, match=message):
        publish.main(
            ["--workdir", str(weights.parent / "run"), "--out", str(out), "--change", change]
        )
    assert not out.exists()


def test_a_file_has_no_place_for_results(weights):
    with pytest.raises(ValueError, match=r"--out DIR is needed: .*pose\.safetensors is a file"):
        evaluate.main(["--workdir", str(weights)])


def test_explain_draws_a_joint(weights, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), scene())
    out = tmp_path / "new" / "votes.png"
    arguments = [str(tmp_path / "a.png"), "--pose", str(weights), "--out", str(out)]
    explain.main([*arguments, "--box", "10", "5", "60", "55", "--joint", "left_wrist"])
    page = cv2.imread(str(out))
    assert page.shape[1] > 4 * 400
    assert page.std() > 10
    other = tmp_path / "kernel.png"
    oks = [*arguments[:-1], str(other), "--method", "hough_oks"]
    explain.main([*oks, "--box", "10", "5", "60", "55", "--joint", "left_wrist"])
    panel = page.shape[1] // 4
    differs = (cv2.imread(str(other)) != page).any((0, 2))
    assert differs[3 * panel :].any()  # the votes
    assert not differs[panel : 3 * panel].any()  # the network's maps
    with pytest.raises(ValueError, match="left_wirst: no such joint; did you mean 'left_wrist'"):
        explain.main([*arguments, "--joint", "left_wirst"])
    with pytest.raises(FileNotFoundError):
        explain.main(["nowhere.png", *arguments[1:], "--box", "1", "2", "3", "4"])
