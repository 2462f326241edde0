"""Programs as Slurm starts them on several hosts: all of them on this machine."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def start(module, arguments, *, hosts, devices, cache):
    """One process for each host; `hosts` of 0 is a single process that no Slurm has started."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    here = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    job = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(hosts),
        "SLURM_STEP_NUM_TASKS": str(hosts),
        "JAX_COORDINATOR_PORT": str(port),
    }
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ
            | here
            | (job | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} if hosts else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(max(hosts, 1))
    ]


def run(module, arguments, *, hosts=0, devices=1, cache, code=0):
    """Waits for them; standard output and error of each."""
    processes = start(module, arguments, hosts=hosts, devices=devices, cache=cache)
    outputs = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), outputs
    return outputs
