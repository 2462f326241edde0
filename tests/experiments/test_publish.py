"""Weights as one file, and the picture of how they vote."""

import dataclasses
import re

import cv2
import jax
import numpy as np
import pytest

from experiments import evaluate, explain, export, publish
from g_rmi.inference.load import load_settings, load_task
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.task import PoseTask
from g_rmi.training.weights import read_weights, write_weights
from tests.networks import POSE, save, scene


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A published training of a tiny pose network."""
    folder = tmp_path_factory.mktemp("published")
    save(folder / "run", POSE, PoseTask(POSE.model))
    export.main(
        ["weights", "--workdir", str(folder / "run"), "--out", str(folder / "pose.safetensors")]
    )
    return folder / "pose.safetensors"


def test_a_published_file_stands_for_its_training(weights):
    (task, read), (other, written) = map(load_task, (weights, weights.parent / "run"))
    assert task == other
    kernel = written["params"]["heatmap"]["kernel"]
    np.testing.assert_allclose(read["params"]["heatmap"]["kernel"], kernel, rtol=1e-3, atol=1e-7)


def test_prediction_may_use_other_values_than_training(weights, tmp_path):
    run, out = weights.parent / "run", tmp_path / "pose.safetensors"
    arguments = ["weights", "--workdir", str(run), "--out", str(out)]
    export.main([*arguments, "--box-scale", "1.1", "--crop-height", "65", "--norm", "frozen"])
    (task, variables), (before, _) = map(load_task, (out, weights))
    changes = {"box_scale": 1.1, "crop_height": 65, "norm": "frozen"}
    assert task.config == dataclasses.replace(before.config, **changes)
    maps = jax.eval_shape(task.predict, variables, np.zeros((1, 65, 33, 3), np.uint8))
    assert maps["heatmap"].shape == (1, 17, 9, 17)


def test_the_former_name_answers(weights, tmp_path, capsys):
    out = tmp_path / "pose.safetensors"
    arguments = ["--workdir", str(weights.parent / "run"), "--out", str(out)]
    publish.main([*arguments, "--change", "box_scale=1.1", "crop_height=65"])
    assert "`publish` is called `export weights` now" in capsys.readouterr().err
    config = load_task(out)[0].config
    assert (config.box_scale, config.crop_height) == (1.1, 65)


def test_settings_are_kept_beside_the_weights(weights, tmp_path):
    out = tmp_path / "pose.safetensors"
    words = ["weights", "--workdir", str(weights.parent / "run"), "--out", str(out)]
    export.main([*words, "--settings.min-score", "0.25", "--settings.max-people", "7"])
    assert load_settings(out) == Settings(min_score=0.25, max_people=7)
    assert load_settings(weights) == load_settings(weights.parent / "run") == Settings()
    assert PosePipeline.load(pose=out, boxes_given=True).settings == load_settings(out)
    again = tmp_path / "again.safetensors"
    export.main(["weights", "--workdir", str(out), "--out", str(again)])
    assert load_settings(again) == load_settings(out)


def test_weights_are_averaged_with_others(weights, tmp_path):
    values, tensors = read_weights(weights)
    third = jax.tree.map(lambda x: np.asarray(x, np.float32) / 3, tensors)
    write_weights(tmp_path / "third.safetensors", values, third)
    arguments = ["weights", "--workdir", str(weights.parent / "run")]
    arguments += ["--out", str(tmp_path / "mean.safetensors")]
    export.main([*arguments, "--average-with", str(tmp_path / "third.safetensors")])
    _, mean = load_task(tmp_path / "mean.safetensors")
    _, first = load_task(weights)
    for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(first), strict=True):
        np.testing.assert_allclose(a, 2 / 3 * np.asarray(b, np.float32), rtol=3e-3, atol=1e-6)
    other = dataclasses.replace(
        POSE, model=dataclasses.replace(POSE.model, backbone=ResNetConfig(depth=26, width=4))
    )
    save(tmp_path / "other", other, PoseTask(other.model))
    with pytest.raises(ValueError, match=r"--average-with .*other: of another network"):
        export.main([*arguments, "--average-with", str(tmp_path / "other")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--box-scale", "wide"], "box-scale"),
        (["--box-scal", "1.1"], "--box-scale"),
        (["--box-scale", "-1.0"], "box_scale = -1.0: must be positive"),
        (["--backbone.width", "16"], "width = 16: the weights do not fit such a network"),
        (["--settings.oks-nms", "2"], "oks_nms = 2.0: must be a number from 0 to 1"),
    ],
)
def test_a_change_that_cannot_be_is_named(weights, tmp_path, change, message, capsys):
    out = tmp_path / "pose.safetensors"
    with pytest.raises((ValueError, SystemExit)) as error:
        export.main(
            ["weights", "--workdir", str(weights.parent / "run"), "--out", str(out), *change]
        )
    assert message in str(error.value) + capsys.readouterr().err
    assert not out.exists()


def test_a_file_has_no_place_for_results(weights):
    with pytest.raises(ValueError, match=r"--out DIR is needed: .*pose\.safetensors is a file"):
        evaluate.main(["--workdir", str(weights)])


def test_explain_draws_a_joint(weights, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), scene())
    out = tmp_path / "new" / "votes.png"
    arguments = [str(tmp_path / "a.png"), "--pose", str(weights), "--out", str(out)]
    explain.main([*arguments, "--box", "10", "5", "60", "55", "--joint", "left_wrist"])
    page = cv2.imread(str(out))
    assert page.shape[1] > 4 * 400
    said = capsys.readouterr().out
    assert re.search(r"left_wrist scores \d\.\d\d, the person \d\.\d\d$", said)
    assert page.std() > 10
    other = tmp_path / "kernel.png"
    oks = [*arguments[:-1], str(other), "--decoding", "hough_oks"]
    explain.main([*oks, "--box", "10", "5", "60", "55", "--joint", "left_wrist"])
    panel = page.shape[1] // 4
    differs = (cv2.imread(str(other)) != page).any((0, 2))
    assert differs[3 * panel :].any()  # the votes
    with pytest.raises(ValueError, match="left_wirst: no such joint; did you mean 'left_wrist'"):
        explain.main([*arguments, "--joint", "left_wirst"])
    with pytest.raises(FileNotFoundError):
        explain.main(["nowhere.png", *arguments[1:], "--box", "1", "2", "3", "4"])
    with pytest.raises(ValueError, match="beside its picture of"):
        explain.main([*arguments, "--box", "500", "500", "600", "600"])
    (tmp_path / "no.png").write_text("<html>")
    with pytest.raises(ValueError, match=r"no\.png: not a picture"):
        explain.main([str(tmp_path / "no.png"), *arguments[1:]])
