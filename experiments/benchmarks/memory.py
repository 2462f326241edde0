"""Memory and work of a config's steps, read from the compiled programs; nothing is run.

    python -m experiments.benchmarks.memory --config NAME --platform tpu --FIELD VALUE ...
    python -m experiments.benchmarks.memory --config NAME --share 0.4

A row for the training step with the config's batch, and one for the step of an evaluation with its.
`--platform tpu` compiles for a real TPU without having one; it needs `pip install libtpu`, and
minutes for each large network.

With `--share`, what the training step would take on machines that are not there. Work and messages
are those of the step for two virtual CPU devices, the config's batch on each; then

    seconds = FLOPs / (share of the peak x peak) + 2 (n - 1) / n x message bytes / link rate

An all-reduce over n chips sends everything twice; it does not overlap with computing here, so that
the second term is an upper bound.
"""

import dataclasses
import importlib.util
import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from jaxtyping import PyTree

from experiments.benchmarks.made import evaluation_batch, made_up_batch
from experiments.benchmarks.timing import RESULTS, Row, save
from experiments.parts import cli
from experiments.parts.experiment import Experiment, Options, PoseExperiment
from experiments.parts.stages import STAGES
from g_rmi.inference.dataset import prediction_step
from g_rmi.training import sharding
from g_rmi.training.loop import jit_step

Program = Literal["training", "evaluation"]


class Chip(NamedTuple):
    """A kind of device, as its makers publish it."""

    peak: float  # Dense bfloat16 FLOP/s.
    link: float  # Bytes per second that it sends to the others, over all its links.
    # Bytes that the compiler gives to programs, where that was looked up.
    memory: int | None = None


CHIPS = {
    "NVIDIA H100 80GB HBM3": Chip(989e12, 450e9),
    "NVIDIA H200": Chip(989e12, 450e9),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 300e9),
    "TPU v4": Chip(275e12, 150e9),
    "TPU v5 lite": Chip(197e12, 100e9, int(15.75 * 2**30)),
    "TPU v5": Chip(459e12, 300e9),
}
MACHINES = {
    "TPU v4-8": (4, CHIPS["TPU v4"]),
    "TPU v4-64": (32, CHIPS["TPU v4"]),
    "TPU v5e-16": (16, CHIPS["TPU v5 lite"]),
    "TPU v5p-16": (8, CHIPS["TPU v5"]),
    "TPU v5p-256": (128, CHIPS["TPU v5"]),
    "8 x H100": (8, CHIPS["NVIDIA H100 80GB HBM3"]),
}
_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "s64": 8, "u8": 1, "pred": 1}
_COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Reads parameters, FLOPs and memory per device off the steps of a config."""

    # Name of a file in experiments/configs; its fields are the options below.
    config: str = "pose_resnet101"
    programs: tuple[Program, ...] = ("training", "evaluation")  # Steps to compile.
    # Compile for this machine, or for a TPU that need not be there.
    platform: Literal["cpu", "tpu"] = "cpu"
    topology: str = "v5e:1x1"  # The TPU: generation and devices, such as v5e:1x1 or v5e:2x2.
    # Predict a training step's time on large machines instead, at this share of their peak.
    share: float | None = None
    out: Path = RESULTS  # Folder of the results.
    experiment: Options = PoseExperiment()  # The config's values.


class Use(NamedTuple):
    """What a step takes on each device; sizes in bytes."""

    flops: float  # Floating-point operations, the bodies of loops once.
    arguments: int  # State (or weights) and batch.
    temporaries: int  # Space for what lies between.
    peak: int  # All of it, with results and program, where donated arguments are used again.


def devices(platform: str, topology: str) -> list[jax.Device]:
    """The devices to compile for.

    A ValueError if the topology is not written as GENERATION:ROWSxCOLUMNS, or libtpu is missing.
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


def count_parameters(experiment: Experiment) -> int:
    """Numbers that are trained."""
    variables = jax.eval_shape(experiment.model.task().init, jax.random.key(0))
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


def _place(shapes: PyTree, where: jax.sharding.Sharding) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)


def compile_step(experiment: Experiment, program: Program, mesh: Mesh) -> jax.stages.Compiled:
    """The training step as the loop compiles it, or an evaluation's from a batch to predictions."""
    task = experiment.model.task()
    if program == "training":
        _, state, step = jit_step(task, experiment.train, experiment.optim, mesh)
        batch = jax.eval_shape(lambda: made_up_batch(experiment))
    else:
        stage = STAGES[experiment.stage]
        variables = jax.eval_shape(task.init, jax.random.key(0))
        state = _place(variables, sharding.replicated(mesh))
        step = prediction_step(stage.prediction(task), mesh)
        batch = evaluation_batch(experiment, mesh.size * stage.rows)
    return step.lower(state, _place(batch, sharding.batch_sharding(mesh))).compile()


def use_of(compiled: jax.stages.Compiled) -> Use:
    """Reads a compiled program; a ValueError if the platform's compiler does not say."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    if memory is None or cost is None:
        raise ValueError("this platform's compiler does not report memory")
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    # What is donated holds results, too: they lie where the arguments were, as far as they alias.
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = arguments + results + temporaries + memory.generated_code_size_in_bytes
    return Use(cost["flops"], arguments, temporaries, peak)


def measure(experiment: Experiment, program: Program, mesh: Mesh) -> Use | str:
    """Compiles a step and reads it; a string is what the compiler says if it does not fit."""
    return use_or_need(lambda: compile_step(experiment, program, mesh))


def use_or_need(compiled: Callable[[], jax.stages.Compiled]) -> Use | str:
    """Reads what is compiled here; a string is what the compiler says if it does not fit."""
    try:
        return use_of(compiled())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return " of ".join(re.findall(r"\b[\d.]+[KMG]\b", str(error))[:2])


def row(name: str, experiment: Experiment, program: Program, mesh: Mesh) -> Row:
    """A row of the table: what the step takes, or what the compiler says if that is too much."""
    use = measure(experiment, program, mesh)
    kind, batch = mesh.devices.flat[0].device_kind, experiment.train.batch_size // mesh.size
    room = CHIPS[kind].memory if kind in CHIPS else None
    fits = f"in {room / 2**30:.2f} GiB" if room else "fits"
    cells: Row = {
        f"{mesh.size} x {kind}": f"`{name}`",
        "step": program,
        "batch per device": batch if program == "training" else STAGES[experiment.stage].rows,
        "parameters": f"{count_parameters(experiment) / 1e6:.1f} M",
        **dict.fromkeys(("GFLOPs", "state and batch", "temporaries", "peak", fits), ""),
    }
    if isinstance(use, str):
        return cells | {"peak": f"needs {use}", fits: "no"}
    cells["GFLOPs"] = f"{use.flops / 1e9:,.1f}"
    cells |= zip(("state and batch", "temporaries", "peak"), map(size, use[1:]))
    return cells | {fits: "" if room is None else "yes" if use.peak < room else "no"}


def size(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def work_per_device(experiment: Experiment) -> tuple[float, list[int]]:
    """FLOPs and `message_sizes` of a training step of two devices, the config's batch on each."""
    train = dataclasses.replace(experiment.train, batch_size=2 * experiment.train.batch_size)
    both = dataclasses.replace(experiment, train=train)
    compiled = compile_step(both, "training", sharding.data_mesh(jax.devices()[:2]))
    return use_of(compiled).flops, message_sizes(str(compiled.as_text()))


def message_sizes(program: str) -> list[int]:
    """Bytes of the result of each collective operation in an HLO program's text."""
    return [
        sum(
            _BYTES[kind] * math.prod(int(side) for side in shape.split(",") if side)
            for kind, shape in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", found["result"])
        )
        for found in _COLLECTIVE.finditer(program)
    ]


def predict(
    flops: float, message: int, machine: tuple[int, Chip], *, share: float
) -> tuple[float, float]:
    """Seconds of computing, at that share of the peak, and of sending."""
    chips, chip = machine
    return flops / (share * chip.peak), 2 * (chips - 1) / chips * message / chip.link


def prediction(name: str, experiment: Experiment, share: float) -> Row:
    """The row of a config: its work, and the prediction for each machine."""
    (flops, messages), rows = work_per_device(experiment), experiment.train.batch_size
    size = f"{sum(messages) / 2**20:,.0f} MiB in {len(messages)} messages"
    cells: Row = {
        "config": f"`{name}`, {rows} each",
        "per device and step": f"{flops / 1e9:,.0f} GFLOPs, {size}",
    }
    for kind, machine in MACHINES.items():
        compute, send = predict(flops, sum(messages), machine, share=share)
        rate = machine[0] * rows / (compute + send)
        cells[kind] = f"{1e3 * compute:.0f} + {1e3 * send:.1f} ms, {rate:,.0f}/s"
    return cells


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog=cli.program("benchmarks.memory"))
    name, experiment = Path(arguments.config).stem, arguments.experiment
    share = arguments.share
    if share:
        jax.config.update("jax_num_cpu_devices", 2)
        table, kind = [prediction(name, experiment, share)], "scaling"
    else:
        mesh = sharding.data_mesh(devices(arguments.platform, arguments.topology))
        table, kind = [row(name, experiment, step, mesh) for step in arguments.programs], "memory"
    save(f"{kind}_{name}", table, arguments.out, note=shlex.join(argv))


if __name__ == "__main__":
    cli.run(main)
