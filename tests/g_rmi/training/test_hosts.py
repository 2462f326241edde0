"""Two processes with two devices each are one process with four."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training.checkpoint import load_variables
from g_rmi.training.hosts import join_hosts
from g_rmi.training.loop import train
from tests.g_rmi.training import toy

ROOT = pathlib.Path(__file__).parents[3]


class HostBatches(toy.Batches):
    """This host's half of each batch; the position says which host it belongs to."""

    def __init__(self, host, hosts, pause=0.0):
        super().__init__(toy.pictures)
        self.host, self.hosts, self.pause = host, hosts, pause

    def __next__(self):
        time.sleep(self.pause)
        ids, batch = super().__next__()
        share = len(ids) // self.hosts
        rows = slice(share * self.host, share * (self.host + 1))
        return ids[rows], jax.tree.map(lambda x: x[rows], batch)

    def get_state(self):
        return {"position": self.position, "host": self.host}

    def set_state(self, state):
        assert state["host"] == self.host
        super().set_state(state)


def run(workdir, steps, *, pause=0.0):
    train(
        toy.ConvTask(),
        TrainConfig(steps=steps, batch_size=8, checkpoint_every=5, log_every=2),
        OptimConfig(momentum=0.9, learning_rate=0.05, ema_decay=0.9),
        HostBatches(jax.process_index(), jax.process_count(), pause),
        workdir=workdir,
        config_dict={"train": {"steps": steps}},
        data_fingerprint={},
        evaluate=lambda variables, step: {"AP": 0.5},
    )


@pytest.mark.parametrize(
    ("hosts", "tasks", "joins"),
    [
        ("auto", {}, False),
        ("auto", {"SLURM_STEP_NUM_TASKS": "1"}, False),  # srun of one task, an interactive shell
        ("auto", {"SLURM_NTASKS": "8"}, False),  # a batch script, before srun
        ("auto", {"SLURM_STEP_NUM_TASKS": "2"}, True),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ("one", {"SLURM_STEP_NUM_TASKS": "2"}, False),
        ("all", {}, True),
    ],
)
def test_hosts_that_were_started_together_are_joined(hosts, tasks, joins, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda: calls.append("joined"))
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in tasks.items():
        monkeypatch.setenv(name, value)
    join_hosts(hosts)
    assert bool(calls) == joins


def test_hosts_that_cannot_be_found_are_named(monkeypatch):
    def initialize():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match=r"--hosts all: .*coordinator.*--hosts one works alone"):
        join_hosts("all")


def start(workdir, steps, pause=0.0):
    """Two processes that run this file."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.g_rmi.training.test_hosts"]
            + [str(value) for value in (port, host, workdir, steps, pause)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in (0, 1)
    ]


def finish(processes, code=0):
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [code] * 2, outputs
    return outputs


@pytest.mark.slow
def test_two_hosts_are_one(tmp_path):
    run(tmp_path / "one", 10)
    finish(start(tmp_path / "two", 5))
    (first, _), (second, _) = finish(start(tmp_path / "two", 10))
    assert "continuing" in first
    assert "step 10/10" in first
    assert "step 10" not in second
    _, one = load_variables(tmp_path / "one")
    _, two = load_variables(tmp_path / "two")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, two)
    text = (tmp_path / "two" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines if "eval/AP" in line] == [5, 10]


@pytest.mark.slow
def test_two_hosts_stop_at_the_same_step(tmp_path):
    processes = start(tmp_path, 1000, pause=0.2)
    while not (tmp_path / "checkpoints" / "5").exists():
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    (out, _), (second, _) = finish(processes, 128 + signal.SIGTERM)
    assert "stopped" not in second
    assert "the same command continues" in out
    step = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert f"stopped at step {step}" in out


if __name__ == "__main__":
    _, port, host, workdir, steps, pause = sys.argv
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(host))
    run(pathlib.Path(workdir), int(steps), pause=float(pause))
