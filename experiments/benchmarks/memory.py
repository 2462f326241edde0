"""Memory and work of a config on each device, read from the compiled programs; nothing is run.

    python -m experiments.benchmarks.memory --config NAME --platform tpu --FIELD VALUE ...

A row for the training step with the config's batch, and one for the step of an evaluation with its.
`--platform tpu` compiles for a real TPU without having one; it needs `pip install libtpu`, and
minutes for each large network.
"""

import dataclasses
import importlib.util
import os
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from jaxtyping import PyTree

from experiments.benchmarks.batches import evaluation_batch, made_up_batch
from experiments.benchmarks.timing import RESULTS, Row, save
from experiments.parts import cli
from experiments.parts.experiment import Experiment, PoseExperiment
from experiments.parts.stages import STAGES
from g_rmi.inference.dataset import prediction_step
from g_rmi.training import sharding
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state
from g_rmi.training.step import train_step

Program = Literal["training", "evaluation"]

# Bytes of a device that its compiler gives to programs.
DEVICE_MEMORY = {"TPU v5 lite": int(15.75 * 2**30)}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Reads parameters, FLOPs and memory per device off the steps of a config.

    Attributes:
      config: Name of a file in experiments/configs; its fields are the options below.
      programs: Steps to compile.
      platform: Compile for this machine, or for a TPU that need not be there.
      topology: The TPU: generation and devices, such as v5e:1x1 or v5e:2x2.
      out: Folder of the results.
      experiment: The config's values.
    """

    config: str = "pose_resnet101"
    programs: tuple[Program, ...] = ("training", "evaluation")
    platform: Literal["cpu", "tpu"] = "cpu"
    topology: str = "v5e:1x1"
    out: Path = RESULTS
    experiment: Experiment = PoseExperiment()


class Use(NamedTuple):
    """What a step takes on each device; sizes in bytes.

    Attributes:
      flops: Floating-point operations, the bodies of loops once.
      arguments: State (or weights) and batch.
      temporaries: Space for what lies between.
      peak: All of it, with results and program, where donated arguments are used again.
    """

    flops: float
    arguments: int
    temporaries: int
    peak: int


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


@lru_cache
def count_parameters(experiment: Experiment) -> int:
    """Numbers that are trained."""
    variables = jax.eval_shape(experiment.model.task().init, jax.random.key(0))
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


def _place(shapes: PyTree, where: jax.sharding.Sharding) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)


def compile_training(experiment: Experiment, mesh: Mesh) -> jax.stages.Compiled:
    """The training step as the loop compiles it."""
    task, train, optim = experiment.model.task(), experiment.train, experiment.optim
    sharding.check_batch_size(mesh, train.batch_size, train.accumulate)
    optimizer = make_optimizer(optim, train.steps)

    def create():
        return create_state(task, optimizer, jax.random.key(0), average=optim.averaging > 0)

    state = sharding.abstract(create, mesh, fsdp=train.fsdp)
    step = jax.jit(
        train_step(task, optimizer, accumulate=train.accumulate, averaging=optim.averaging),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, state), sharding.replicated(mesh)),
    )
    batch = jax.eval_shape(lambda: made_up_batch(experiment))
    return step.lower(state, _place(batch, sharding.batch_sharding(mesh))).compile()


def rows_per_device(experiment: Experiment, program: Program, devices: int) -> int:
    """Crops or pictures of a step on each device."""
    if program == "training":
        return experiment.train.batch_size // devices
    return STAGES[experiment.stage].rows


def compile_evaluation(experiment: Experiment, mesh: Mesh) -> jax.stages.Compiled:
    """The step of an evaluation: the weights and a batch to people or joints."""
    task = experiment.model.task()
    predict = STAGES[experiment.stage].prediction(task)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    rows = mesh.size * rows_per_device(experiment, "evaluation", mesh.size)
    batch = evaluation_batch(experiment, rows)
    return (
        prediction_step(predict, mesh)
        .lower(
            _place(variables, sharding.replicated(mesh)),
            _place(batch, sharding.batch_sharding(mesh)),
        )
        .compile()
    )


def use_of(compiled: jax.stages.Compiled) -> Use:
    """Reads a compiled program.

    Raises:
      ValueError: The platform's compiler does not say.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    if memory is None or cost is None:
        raise ValueError("this platform's compiler does not report memory")
    # What is donated holds results, too: they lie where the arguments were, as far as they alias.
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    return Use(cost["flops"], memory.argument_size_in_bytes, memory.temp_size_in_bytes, peak)


def measure(experiment: Experiment, program: Program, mesh: Mesh) -> Use | str:
    """Compiles a step and reads it; a string is what the compiler says if it does not fit."""
    build = compile_training if program == "training" else compile_evaluation
    try:
        return use_of(build(experiment, mesh))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return " of ".join(re.findall(r"\b[\d.]+[KMG]\b", str(error))[:2])


def row(name: str, experiment: Experiment, program: Program, mesh: Mesh) -> Row:
    """A row of the table: what the step takes, or what the compiler says if that is too much."""
    use = measure(experiment, program, mesh)
    kind = mesh.devices.flat[0].device_kind
    room = DEVICE_MEMORY.get(kind)
    fits = f"in {room / 2**30:.2f} GiB" if room else "fits"
    cells: Row = {
        f"{mesh.size} x {kind}": f"`{name}`",
        "step": program,
        "batch per device": rows_per_device(experiment, program, mesh.size),
        "parameters": f"{count_parameters(experiment) / 1e6:.1f} M",
        **dict.fromkeys(("GFLOPs", "state and batch", "temporaries", "peak", fits), ""),
    }
    if isinstance(use, str):
        return cells | {"peak": f"needs {use}", fits: "no"}
    cells["GFLOPs"] = f"{use.flops / 1e9:,.1f}"
    cells |= zip(("state and batch", "temporaries", "peak"), map(_size, use[1:]))
    return cells | {fits: "" if room is None else "yes" if use.peak < room else "no"}


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog="python -m experiments.benchmarks.memory")
    mesh = sharding.data_mesh(devices(arguments.platform, arguments.topology))
    name, experiment = arguments.config, arguments.experiment
    table = [row(name, experiment, program, mesh) for program in arguments.programs]
    save(f"memory_{name}", table, arguments.out, note=shlex.join(argv))


if __name__ == "__main__":
    cli.run(main)
