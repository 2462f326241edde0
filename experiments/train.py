"""Trains a network: `python -m experiments.train --config NAME --workdir DIR [--data DIR]`."""

import contextlib
import json
from collections.abc import Iterator, Sequence

import jax

from experiments.benchmarks import memory
from experiments.parts import cli, data
from experiments.parts.stages import STAGES
from experiments.parts.training import Arguments, initial_variables, read_data, run
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import to_dict
from g_rmi.training import sharding
from g_rmi.training.hosts import alone, is_first, join_hosts
from g_rmi.training.loop import jit_step


def dry_run(arguments: Arguments) -> Iterator[str]:
    """Lines about the training that would be; one batch is read, and the step is compiled."""
    experiment, stage = arguments.experiment, STAGES[arguments.experiment.stage]
    enable_compilation_cache()
    datasets, validation = read_data(arguments)
    yield json.dumps(to_dict(experiment), indent=2)
    weights = experiment.data.mix or (1.0,) * len(datasets)
    with contextlib.closing(stage.batches(experiment, datasets)) as batches:
        _, batch = next(batches)
    for dataset, weight in zip(datasets, weights, strict=True):
        count, share = stage.examples(experiment, dataset), weight / sum(weights)
        steps = count / (share * experiment.train.batch_size)
        yield f"{_counts(dataset)}; {count} to train on, a pass is {steps:,.0f} steps"
    yield from map(_counts, validation)
    mesh = sharding.data_mesh()
    yield f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}"
    task = experiment.model.task(datasets[0].skeleton)
    initial_variables(arguments, task, {})  # to see that they are there and fit
    _, state, step = jit_step(task, experiment.train, experiment.optim, mesh)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    yield f"parameters: {parameters / 1e6:.1f} M"
    yield "compiling the step ..."
    batch = sharding.put_batch(mesh, batch)
    use = memory.use_or_need(lambda: step.lower(state, batch).compile())
    if isinstance(use, str):
        yield f"the step does not fit: it needs {use} of each device's memory"
    else:
        what = f"{use.flops / 1e9:,.1f} GFLOPs, {memory.size(use.peak)} of memory"
        yield f"each step on each device: {what}"
    state = "continues" if (arguments.directory / "checkpoints").is_dir() else "would begin"
    yield f"{experiment.train.steps} steps; {state} {arguments.directory}"


def _counts(dataset: data.Dataset) -> str:
    counts = f"{len(dataset.images)} images, {len(dataset.people)} people"
    return f"{dataset.split} data: {dataset.directory}: {counts}"


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog=cli.program("train"))
    join_hosts(arguments.hosts)
    if arguments.dry_run:
        for line in dry_run(arguments):
            if is_first():
                print(line, flush=True)
        return
    enable_compilation_cache()  # before hosts ask each other
    with alone(arguments.directory):
        run(arguments)


if __name__ == "__main__":
    cli.run(main)
