"""Configs and checkpoints of earlier versions are read, and mean what they meant."""

import json
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from g_rmi.evaluation.evaluator import predict_crops

from experiments.parts.experiment import experiment_from_dict
from g_rmi.pipeline import SHIPPED, load_task, make_task
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
    task = make_task(experiment_from_dict(old).model)
    fresh = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, fresh) == jax.tree.map(np.shape, variables)
