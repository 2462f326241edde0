"""A training that is killed twenty times ends with the bits of one that never was.

`make test-kill`. The program, the loader, the evaluation and the checkpoints are the real ones.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from data_pipeline import synthetic

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 120
TINY = [
    *("--config", "pose_synthetic", "--width", "8", "--fpn-channels", "8"),
    *("--crop-height", "33", "--crop-width", "33", "--radius", "4", "--warmup-steps", "5"),
    *("--batch-size", "8", "--log-every", "1", "--checkpoint-every", "3", "--threads", "2"),
    *("--evaluate-every", "40", "--keep", "2", "--steps", str(STEPS)),
]


def start(data, workdir, cache):
    """The training program as a process of its own."""
    command = [sys.executable, "-m", "tests.experiments.test_kill", *TINY]
    return subprocess.Popen(
        [*command, "--data", str(data), "--workdir", str(workdir)],
        cwd=ROOT,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def half_written(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")}


def records(workdir):
    """Step -> the different lists of record ids that were taken for it."""
    found = {}
    path = workdir / "records"
    for line in path.read_text().splitlines() if path.exists() else ():
        step, ids = line.split(" ", 1)
        found.setdefault(int(step), set()).add(ids)
    return found


def kill(process, workdir, moment, target, rng, startup):
    """Waits for the moment and kills; the step it came to, and whether a save was under way."""
    if moment == "starting":
        time.sleep(rng.uniform(0, startup))
    old = half_written(workdir)
    while moment != "starting" and process.poll() is None:
        now = half_written(workdir)
        old &= now
        if max(records(workdir), default=0) >= target and (moment == "anywhere" or now - old):
            time.sleep(rng.uniform(0, 0.05 if moment == "saving" else 0.3))
            break
        time.sleep(0.002)
    process.kill()
    out, _ = process.communicate()
    assert process.returncode == -9, f"finished before it was killed: {out}"
    return max(records(workdir), default=0), bool(half_written(workdir) - old)


def finish(process):
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return out


def numbers(workdir):
    """What metrics.jsonl says, but for the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = ("time", "train/examples_per_second", "train/waiting")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def last_state(workdir):
    """All arrays of the last checkpoint."""
    path, checkpointer = workdir / "checkpoints" / str(STEPS) / "state", ocp.PyTreeCheckpointer()
    names = checkpointer.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), names)
    return checkpointer.restore(path, restore_args=as_numpy)


@pytest.mark.slow
def test_killed_twenty_times(tmp_path, capsys):
    data = synthetic.make(
        tmp_path / "data", train_images=12, val_images=6, size=(96, 128), workers=1
    )
    whole, killed, cache = (tmp_path / name for name in ("whole", "killed", "cache"))
    finish(start(data, whole, cache))
    begin = time.monotonic()
    process = start(data, tmp_path / "warm", cache)
    while not (tmp_path / "warm" / "records").exists() and process.poll() is None:
        time.sleep(0.01)
    startup = time.monotonic() - begin
    process.kill()
    process.communicate()

    rng = random.Random(0)
    moments = ["saving"] * 10 + ["anywhere"] * 6 + ["starting"] * 4
    rng.shuffle(moments)
    saving = 0
    for i, moment in enumerate(moments):
        target = 2 + i * (STEPS - 20) // len(moments)
        process = start(data, killed, cache)
        step, midst = kill(process, killed, moment, target, rng, startup)
        saving += midst
        with capsys.disabled():
            where = " in the midst of a save" if midst else ""
            print(f"\nkill {i + 1}, {moment}: at step {step}{where}", end="")
    out = finish(start(data, killed, cache))
    assert f"continuing {killed} at step" in out
    assert saving >= 5

    assert records(killed) == records(whole)
    assert sorted(records(whole)) == list(range(1, STEPS + 1))
    assert {len(ids) for ids in records(killed).values()} == {1}
    assert numbers(killed) == numbers(whole)
    first, second = map(last_state, (whole, killed))
    assert {"params", "model_state", "opt_state", "average", "key", "step"} <= first.keys()
    jax.tree.map(np.testing.assert_array_equal, first, second)
    left = {path.name for path in (killed / "checkpoints").iterdir()}
    assert left == {path.name for path in (whole / "checkpoints").iterdir()}


if __name__ == "__main__":
    from data_pipeline.stream import Batches
    from experiments import cli, train

    def logged(batches, real=Batches.__next__):
        """Writes down which records each step is made of."""
        ids, batch = real(batches)
        with open("records", "a") as file:
            file.write(f"{batches.get_state()['step']} {ids.tolist()}\n")
        return ids, batch

    workdir = pathlib.Path(sys.argv[-1])
    workdir.mkdir(parents=True, exist_ok=True)
    os.chdir(workdir)
    Batches.__next__ = logged
    cli.run(train.main)
