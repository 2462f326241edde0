"""Jobs: order, limits, failures, Slurm's commands (played by scripts), and being stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.parts import launch
from experiments.parts.launch import Executor, Job, Resources, run_jobs

# Slurm's commands as far as submitit uses them; jobs run here, in the background.
SLURM = {
    "sbatch": 'cp "$1" "$SLURM_TEST/script"\n'
    'SLURM_JOB_ID=$$ setsid bash "$1" > "$SLURM_TEST/log" 2>&1 &\n'
    'echo "Submitted batch job $$"',
    "srun": 'while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift;; esac; shift; '
    'done\nexec "$@"',
    "sacct": 'echo "JobID|State|NodeList"\nwhile [ $# -gt 0 ]; do [ "$1" = -j ] && '
    'echo "$2|RUNNING|here"; shift; done',
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in SLURM.items():
        (commands / name).write_text(f"#!/bin/bash\n{body}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_TEST", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("launcher", ["local", "slurm", "debug"])
def test_jobs_run_in_order_and_survive_a_failure(launcher, tmp_path, slurm):
    tree = tmp_path / "a" / "b"
    jobs = [
        Job("inner", os.mkdir, (tree,), frozenset({"outer"})),
        Job("outer", os.mkdir, (tree.parent,)),
        Job("bad", os.rmdir, (tmp_path / "missing",)),
        Job("after bad", os.mkdir, (tmp_path / "never",), frozenset({"outer", "bad"})),
    ]
    ended = {}
    executor = Executor(launcher, tmp_path / "jobs", Resources(cpus=1, partition="night"))
    outcomes = run_jobs(jobs, executor, limit=3, ended=lambda job, e: ended.update({job.name: e}))
    assert ended == outcomes
    assert outcomes["outer"] is outcomes["inner"] is None
    assert tree.is_dir()
    assert outcomes["bad"].startswith("FileNotFoundError")
    assert outcomes["after bad"] == outcomes["bad"]
    assert not (tmp_path / "never").exists()
    if launcher == "slurm":
        assert "#SBATCH --partition=night" in (slurm / "script").read_text()


def test_a_job_that_slurm_still_has_is_taken_over(tmp_path, slurm):
    executor = Executor("slurm", tmp_path / "jobs", Resources())
    (tmp_path / "jobs").mkdir()
    ticket = '{"folder": "%s", "job_id": "77"}' % (tmp_path / "earlier")
    (tmp_path / "jobs" / "train.json").write_text(ticket)
    assert executor.submit(Job("train", os.mkdir, (tmp_path / "x",)), 0).job_id == "77"
    assert not (slurm / "script").exists()


def test_without_slurm_the_option_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="--launcher slurm: "):
        Executor("slurm", tmp_path, Resources())


class Handle:
    """A job that ends at the third look."""

    def __init__(self):
        self.looks = 0

    def done(self):
        self.looks += 1
        return self.looks > 2


class Recorder:
    launcher = "debug"

    def __init__(self):
        self.running, self.most, self.order, self.stopped = {}, 0, [], None

    def submit(self, job, slot):
        assert slot not in self.running.values()
        self.running[job.name] = slot
        self.most = max(self.most, len(self.running))
        self.order.append(job.name)
        return Handle()

    def error(self, handle):
        return None

    def stop(self, handles):
        self.stopped = list(handles)


def test_no_more_than_the_limit_at_once():
    recorder = Recorder()
    jobs = [Job(name, print, ()) for name in "abcde"]
    run_jobs(jobs, recorder, limit=2, ended=lambda job, error: recorder.running.pop(job.name))
    assert recorder.order == list("abcde")
    assert recorder.most == 2
    assert recorder.stopped == []


@pytest.mark.parametrize(
    ("visible", "gpus", "slot", "devices"),
    [
        (None, None, 1, None),
        ("4,5", None, 1, "4,5"),
        (None, 2, 1, "2,3"),
        ("4,5,6", 1, 2, "6"),
        ("4,5", 0, 0, ""),
    ],
)
def test_jobs_side_by_side_have_accelerators_of_their_own(
    visible, gpus, slot, devices, tmp_path, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    executor = Executor("local", tmp_path / "jobs", Resources(gpus=gpus))
    seen = tmp_path / "seen"
    code = (
        f"import os; open({str(seen)!r}, 'w').write(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))"
    )
    assert executor._devices(slot) == devices
    if slot == 1 and visible:  # one real process is enough
        handle = executor.submit(Job("look", exec, (code,)), slot)
        assert executor.error(handle) is None
        assert seen.read_text() == repr(devices)


def test_a_stopped_launcher_stops_its_jobs(tmp_path):
    pid = tmp_path / "pid"
    sleep = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"""
from pathlib import Path
from experiments.parts.launch import Executor, Job, Resources, run_jobs
executor = Executor("local", Path({str(tmp_path / "jobs")!r}), Resources())
run_jobs([Job("sleep", exec, ({sleep!r},))], executor, limit=1, ended=print)
"""
    root = Path(launch.__file__).parents[2]
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(timeout=30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
