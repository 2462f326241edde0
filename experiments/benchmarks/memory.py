"""Memory and work of a config's training step, read from the compiled program; nothing is run.

    python -m experiments.benchmarks.memory --config NAME [--FIELD VALUE ...]
    python -m experiments.benchmarks.memory --config NAME --platform tpu --topology v5e:1x1

`--platform tpu` compiles for a real TPU without having one; it needs `pip install libtpu`.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Literal

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from experiments import cli
from experiments.benchmarks.batches import made_up_batch
from g_rmi.config import Experiment, PoseExperiment
from g_rmi.pipeline import make_task
from g_rmi.training import sharding
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state
from g_rmi.training.step import train_step

# Bytes per device, where the platform does not say.
DEVICE_MEMORY = {"TPU v5 lite": 16 * 2**30}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Prints parameters, FLOPs and peak memory of a config's training step.

    Attributes:
      config: Name of a file in experiments/configs; its fields are the options below.
      platform: Compile for this machine, or for a TPU that need not be there.
      topology: The TPU: generation and devices, such as v5e:1x1 or v5e:2x2.
      experiment: The config's values.
    """

    config: str = "pose_resnet101"
    platform: Literal["cpu", "tpu"] = "cpu"
    topology: str = "v5e:1x1"
    experiment: Experiment = PoseExperiment()


def devices(platform: str, topology: str) -> list[jax.Device]:
    """The devices to compile for.

    Raises:
      ValueError: The topology is not written as GENERATION:ROWSxCOLUMNS, or libtpu is missing.
    """
    if platform == "cpu":
        return jax.devices("cpu")[:1]
    if not re.fullmatch(r"\w+:\d+(x\d+)+", topology):
        raise ValueError(f"topology = {topology!r}: must be like v5e:1x1 or v5e:2x2")
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError('platform = "tpu": needs `pip install libtpu`; no TPU is needed')
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no TPU machine to ask
    single = re.fullmatch(r"\w+:1(x1)+", topology)
    options = {"chips_per_host_bounds": (1, 1, 1)} if single else {}
    description = topologies.get_topology_desc(topology, "tpu", num_slices=1, **options)
    return list(description.devices)


def compile_step(experiment: Experiment, mesh: Mesh):
    """The training step as the loop compiles it, and the number of parameters."""
    task = make_task(experiment)
    optimizer = make_optimizer(experiment.optim, experiment.train.steps)
    averaging = experiment.optim.averaging
    state = jax.eval_shape(
        lambda key: create_state(task, optimizer, key, average=averaging > 0), jax.random.key(0)
    )
    step = jax.jit(
        train_step(task, optimizer, accumulate=experiment.train.accumulate, averaging=averaging),
        donate_argnums=0,
        in_shardings=(sharding.replicated(mesh), sharding.batch_sharding(mesh)),
        out_shardings=sharding.replicated(mesh),
    )
    batch = jax.eval_shape(lambda: made_up_batch(experiment))
    compiled = step.lower(state, batch).compile()
    return compiled, sum(p.size for p in jax.tree.leaves(state.params))


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog="python -m experiments.benchmarks.memory")
    mesh = sharding.data_mesh(devices(arguments.platform, arguments.topology))
    compiled, parameters = compile_step(arguments.experiment, mesh)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    if memory is None or cost is None:
        raise ValueError(f"platform = {arguments.platform}: its compiler does not report memory")
    # The state is donated: results lie where the arguments were, as far as they alias.
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    kind = mesh.devices.flat[0].device_kind
    room = DEVICE_MEMORY.get(kind)
    verdict = f" of {room / 2**30:.0f}: {'fits' if peak < room else 'does not fit'}" if room else ""
    rows = {
        "device": f"{mesh.size} x {kind}",
        "parameters": f"{parameters / 1e6:.1f} M",
        "FLOPs": f"{cost['flops'] / 1e9:.0f} G per step and device",
        "state and batch": f"{memory.argument_size_in_bytes / 2**30:.2f} GiB",
        "temporaries": f"{memory.temp_size_in_bytes / 2**30:.2f} GiB",
        "peak": f"{peak / 2**30:.2f} GiB{verdict}",
    }
    for name, value in rows.items():
        print(f"{name:18}{value}")


if __name__ == "__main__":
    cli.run(main)
