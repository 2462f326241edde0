"""The loop: exact resume, order, stopping."""

import importlib.util
import pathlib

import jax
import numpy as np

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training.loop import train

_spec = importlib.util.spec_from_file_location("toy", pathlib.Path(__file__).parent / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


def run(workdir, steps, **kwargs):
    batches = toy.Batches(toy.pictures)
    config = TrainConfig(
        steps=steps, batch_size=8, checkpoint_every=4, evaluate_every=5, log_every=3
    )
    optim = OptimConfig(momentum=0.9, learning_rate=0.05, averaging=0.99)
    state = train(
        toy.ConvTask(),
        config,
        optim,
        batches,
        workdir=workdir,
        config_dict={"train": {"steps": steps}},
        data_fingerprint={"records": 1},
        **kwargs,
    )
    return state, batches.given


def test_resume_is_exact(tmp_path):
    whole, whole_ids = run(tmp_path / "whole", 20)
    _, first_ids = run(tmp_path / "parts", 10)
    parts, second_ids = run(tmp_path / "parts", 20)
    assert first_ids + second_ids == whole_ids
    jax.tree.map(np.testing.assert_array_equal, whole.variables, parts.variables)
    jax.tree.map(np.testing.assert_array_equal, whole.opt_state, parts.opt_state)
    jax.tree.map(np.testing.assert_array_equal, whole.average, parts.average)
