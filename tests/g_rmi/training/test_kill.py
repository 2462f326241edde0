"""A run that is killed in the midst of a save goes on as if nothing had happened."""

import json
import pathlib
import subprocess
import sys
import time

import jax

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training import sharding
from g_rmi.training.loop import train
from tests.g_rmi.training import toy
from tests.g_rmi.training.test_loop import assert_same, lines

ROOT = pathlib.Path(__file__).parents[3]


def run(workdir, steps):
    batches = toy.Batches(toy.pictures)
    state = train(
        toy.ConvTask(),
        TrainConfig(steps=30, batch_size=8, checkpoint_every=3, log_every=1, keep=2),
        OptimConfig(momentum=0.9, learning_rate=0.05, ema_decay=0.99),
        batches,
        workdir=workdir,
        config_dict={"train": {"steps": steps}},
        data_fingerprint={},
        mesh=sharding.data_mesh(jax.devices()[:1]),
    )
    return state, batches.given


def half_written(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")}


def kill_while_saving(workdir):
    """Starts this file and kills it in the midst of a save; returns what that has left."""
    command = [sys.executable, "-m", "tests.g_rmi.training.test_kill", str(workdir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        old = half_written(workdir)
        while process.poll() is None:
            now = half_written(workdir)
            old &= now
            if now - old:
                process.kill()
                break
            time.sleep(0.001)
    assert process.returncode == -9, "finished before it could be killed"
    return half_written(workdir)


def numbers(workdir):
    hidden = ("time", "train/examples_per_second", "train/waiting")
    return [{k: v for k, v in line.items() if k not in hidden} for line in lines(workdir)]


def test_killed_in_the_midst_of_a_save(tmp_path):
    killed = tmp_path / "killed"
    for _ in range(2):
        while not kill_while_saving(killed):  # it may just have been completed
            pass
    state, ids = run(killed, 30)
    whole, all_ids = run(tmp_path / "whole", 30)
    assert_same(state, whole)
    assert all_ids[-len(ids) :] == ids
    assert numbers(killed) == numbers(tmp_path / "whole")
    names = sorted(path.name for path in (killed / "checkpoints").iterdir())
    assert names == ["27", "30"]  # nothing is left of what was half-written
    assert json.loads((killed / "config.json").read_text()) == {"train": {"steps": 30}}


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    run(pathlib.Path(sys.argv[1]), 30)
