"""Configs and checkpoints of earlier versions are read, and mean what they meant."""

import dataclasses
import json
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parts.experiment import experiment_from_dict
from g_rmi.config import default_values, to_dict, upgrade
from g_rmi.inference.load import SHIPPED, load_task
from g_rmi.inference.people import predict_crops
from g_rmi.inference.settings import Settings
from g_rmi.training.mismatch import Mismatch, check_same
from g_rmi.training.weights import read_weights

OLD = Path(__file__).parent.parent / "fixtures" / "v1"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("v1")
    with tarfile.open(OLD / "workdir.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory / "workdir"


def test_an_old_checkpoint_predicts_what_it_did(workdir):
    task, variables = load_task(workdir)
    crop = jnp.asarray((np.mgrid[:33, :33, :3].sum(0) * 7 % 251).astype(np.uint8))[None]

    @jax.jit
    def run(variables):
        whole = jnp.float32([[0, 0, 32, 32]])
        return predict_crops(task, variables, crop, whole, look=Settings(flip_test=True).look)

    poses = run(variables)
    for name, before in json.loads((OLD / "poses.json").read_text()).items():
        np.testing.assert_allclose(getattr(poses, name)[0], before, atol=1e-3)


@pytest.mark.parametrize("stage", ["pose", "detector"])
def test_the_weights_that_shipped_fit_what_their_config_asks_for(stage):
    old = json.loads((OLD / f"{stage}.json").read_text())
    _, variables = read_weights(SHIPPED[stage])
    task = experiment_from_dict(old).model.task()
    fresh = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, fresh) == jax.tree.map(np.shape, variables)


def test_every_old_field_has_its_place_today():
    """The JSON of what shipped, by the words of then and now."""
    old = json.loads((OLD / "pose.json").read_text())
    model = experiment_from_dict(old).model
    assert (model.fpn_channels, model.head.radius, model.head.decoding) == (96, 10.0, "hough_oks")
    assert (model.head.kind, model.head.loss_stride, model.head.huber_delta) == ("disks", 4, 1.0)
    new = to_dict(experiment_from_dict(old))
    assert upgrade(new) == new
    assert new["data"]["augmentation"]["random_erasing"] == 0.3
    assert list(new["data"]["mix"]) == old["data"]["weights"]
    assert new["optim"]["ema_decay"] == 0.999
    kept = {name: value for name, value in old["model"].items() if name in new["model"]}
    assert kept.items() <= new["model"].items()
    del old["stage"]  # as before there were detectors
    assert experiment_from_dict(old) == experiment_from_dict(new)


def test_a_detectors_fields_are_called_as_in_the_field():
    old = json.loads((OLD / "detector.json").read_text())
    new = upgrade(old)
    assert new["model"].pop("kind") == "faster_rcnn"
    assert old["model"].pop("min_score") == 0.0
    size = {name: old["model"].pop(name) for name in ("depth", "width")}
    assert new["model"].pop("backbone") == {"kind": "resnet", **size}
    words = {"rpn_even": "rpn_balanced", "proposal_iou": "rpn_nms_iou", "box_iou": "box_nms_iou"}
    model = {words.get(name, name): value for name, value in old["model"].items()}
    assert new["model"] == model


def test_an_old_training_goes_on(workdir):
    """With the config of today; a changed radius is named by its name of today."""
    task, _ = load_task(workdir)
    old = json.loads((workdir / "config.json").read_text())
    today = experiment_from_dict(old)
    defaults = default_values(today)
    how = {"free": frozenset(), "defaults": defaults}
    check_same(workdir, "another config", upgrade(old), to_dict(today), **how)
    other = dataclasses.replace(task.config.head, radius=5.0)
    changed = to_dict(
        dataclasses.replace(today, model=dataclasses.replace(today.model, head=other))
    )
    with pytest.raises(Mismatch, match=r"config: model.head.radius was 4.0, is 5.0 \(go"):
        check_same(workdir, "another config", upgrade(old), changed, **how)
