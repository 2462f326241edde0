"""Several hosts as one: each of them starts the same command."""

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from g_rmi.files import locked
from g_rmi.types import Share

Hosts = Literal["auto", "one", "all"]

# How many processes srun or mpirun has started together with this one.
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def join_hosts(hosts: Hosts) -> None:
    """Makes this process one of its job's; to be called before anything is computed.

    "one" works alone, "all" finds the others: by Slurm, Open MPI, Kubernetes or the TPU pod; "auto"
    does where srun or mpirun has started several processes. A ValueError if there should be others,
    and this process is part of no such job.
    """
    several = any(int(os.environ.get(name, "1")) > 1 for name in _TASKS)
    if hosts == "one" or (hosts == "auto" and not several):
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise ValueError(
            f"--hosts {hosts}: this is no job of Slurm (started by srun), Open MPI, Kubernetes or "
            f"a TPU pod ({error}); --hosts one works alone"
        ) from None


def shard() -> Share:
    """Which part of a data set this host reads."""
    return Share(jax.process_index(), jax.process_count())


def is_first() -> bool:
    """Whether this is the host that writes files and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def alone(directory: str | os.PathLike) -> Iterator[None]:
    """`g_rmi.files.locked` for all hosts of this job: the first one has the lock.

    Raises:
      OSError: Another job is working there, or the directory cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        refusal = None
        try:
            if is_first():
                stack.enter_context(locked(directory))
        except OSError as error:
            refusal = error
        if jax.process_count() > 1:
            refused = multihost_utils.broadcast_one_to_all(np.int32(refusal is not None))
            if refused and not refusal:
                refusal = OSError(f"{directory}: refused to the first host, which says why")
        if refusal:
            raise refusal
        yield


def wait_for_all(name: str) -> None:
    """Waits until all hosts have come here, however long they take; each call has its own name."""
    if jax.process_count() == 1:
        return
    import orbax.checkpoint as ocp  # most of a second, which one host alone does not need

    everybody = set(range(jax.process_count()))  # else it is a collective, which times out
    week = 7 * 24 * 3600
    ocp.multihost.sync_global_processes(name, timeout=week, processes=everybody)
