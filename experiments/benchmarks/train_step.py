"""Forward and backward pass of a config's network, against the same network in PyTorch.

    python -m experiments.benchmarks.train_step --config NAME [--FIELD VALUE ...]

Both sides are given the same crops, use all usable cores and take turns. The PyTorch twin, which a
clone has (`tests/oracles/torch_resnet.py`), is a ResNet with one 1x1 convolution on top, so feature
pyramid and auxiliary head are off on both sides. The last row is our whole training step as
configured, on one device: targets, losses, optimiser and averaging included.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.made import made_up_batch
from experiments.benchmarks.memory import CHIPS
from experiments.benchmarks.timing import (
    LAYOUTS,
    Call,
    Case,
    Turns,
    available,
    oracle,
)
from experiments.parts import cli
from experiments.parts.experiment import Options, PoseExperiment
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.network import PoseNetwork
from g_rmi.skeleton import COCO
from g_rmi.training.loop import jit_step
from g_rmi.training.sharding import data_mesh


@dataclasses.dataclass(frozen=True)
class Arguments(Turns):
    """Times a config's training step, and its network against PyTorch's."""

    # Name of a file in experiments/configs; its fields are the options below.
    config: str = "pose_synthetic"
    experiment: Options = PoseExperiment()  # The config's values.


def network_gradient(experiment: PoseExperiment, image: np.ndarray) -> Call:
    """Gradient of a simple loss on the maps, compiled."""
    head = Disks(auxiliary_weight=0.0)
    config = dataclasses.replace(experiment.model, fpn_channels=0, head=head)
    network = PoseNetwork(config, COCO)
    variables = jax.jit(network.init)(jax.random.key(0), image[:1])

    @jax.jit
    def gradient(variables, image):
        def loss(params):
            maps, updates = network.apply(
                {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
            )
            return sum(jnp.square(each).mean() for each in maps.values()), updates

        return jax.grad(loss, has_aux=True)(variables["params"])

    return partial(gradient, variables, jnp.asarray(image))


def whole_step(experiment: PoseExperiment) -> tuple[Call, float]:
    """Our training step, each call of which continues from the last one's state; and its FLOPs."""
    task, mesh = experiment.model.task(), data_mesh(jax.devices()[:1])
    create, _, step = jit_step(task, experiment.train, experiment.optim, mesh)
    state, batch = jax.jit(create)(None), made_up_batch(experiment)
    cost: Any = step.lower(state, batch).cost_analysis()

    def advance():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return advance, cost["flops"]


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog=cli.program("benchmarks.train_step"))
    experiment = arguments.experiment
    if not isinstance(experiment, PoseExperiment):
        raise ValueError(f"--config {arguments.config}: only pose networks have a PyTorch twin")
    model, rows = experiment.model, experiment.train.batch_size
    image = np.asarray(made_up_batch(experiment).image)
    advance, flops = whole_step(experiment)
    rivals = {
        "ours": network_gradient(experiment, image),
        **available(lambda layout: oracle("torch_resnet").gradient(model, image, layout), LAYOUTS),
        "our whole training step": advance,
    }
    seconds, table = arguments.compare(Case("gradient", rivals, rows))
    rate = flops / np.median(seconds["our whole training step"])
    chip = CHIPS.get(jax.devices()[0].device_kind)
    share = f", {rate / chip.peak:.2f} of the peak" if chip else ""
    note = (
        f"{arguments.config}: ResNet-{model.backbone.depth}, width {model.backbone.width}, output "
        f"stride {model.output_stride}, "
        f"{rows} x {model.crop_height} x {model.crop_width}, {model.dtype}; "
        f"the whole step: {flops / 1e9:.1f} GFLOPs by XLA's count, {rate / 1e9:.1f} G/s{share}"
    )
    arguments.save("train_step", table, note=f"{note}.")


if __name__ == "__main__":
    cli.run(main)
