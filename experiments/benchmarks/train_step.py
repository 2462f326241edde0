"""Forward and backward pass of a config's network, against the same network in PyTorch.

    python -m experiments.benchmarks.train_step --config NAME [--FIELD VALUE ...]

Both sides are given the same crops, use all usable cores and take turns. The PyTorch twin, which a
clone has (`tests/oracles/torch_resnet.py`), is a ResNet with one 1x1 convolution on top, so feature
pyramid and auxiliary head are off on both sides. The last row is our whole training step as
configured: targets, losses, optimiser and averaging included.
"""

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.batches import made_up_batch
from experiments.benchmarks.rivals import twin
from experiments.benchmarks.timing import RESULTS, Call, Case, available, compare, save
from experiments.parts import cli
from experiments.parts.experiment import Experiment, PoseExperiment
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.network import PoseNetwork
from g_rmi.pose.task import PoseTask
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state
from g_rmi.training.step import train_step

# Dense bfloat16 FLOP/s by device kind, as the makers publish them.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Times a config's training step, and its network against PyTorch's.

    Attributes:
      config: Name of a file in experiments/configs; its fields are the options below.
      rounds: Turns of each rival.
      out: Folder of the results.
      experiment: The config's values.
    """

    config: str = "pose_synthetic"
    rounds: int = 10
    out: Path = RESULTS
    experiment: Experiment = PoseExperiment()


def network_gradient(experiment: PoseExperiment, image: np.ndarray) -> Call:
    """Gradient of a simple loss on the maps, compiled."""
    head = Disks(auxiliary_weight=0.0)
    config = dataclasses.replace(experiment.model, fpn_channels=0, head=head)
    network = PoseNetwork(config, 17)
    variables = jax.jit(network.init)(jax.random.key(0), image[:1])

    @jax.jit
    def gradient(variables, image):
        def loss(params):
            maps, updates = network.apply(
                {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
            )
            return sum(jnp.square(each).mean() for each in maps.values()), updates

        return jax.grad(loss, has_aux=True)(variables["params"])

    crops = jnp.asarray(image)
    return lambda: gradient(variables, crops)


def torch_gradient(experiment: PoseExperiment, image: np.ndarray, *, layout: str) -> Call:
    """The same in PyTorch, in one of its memory layouts.

    Raises:
      ImportError: The twin or PyTorch is missing.
    """
    torch_resnet = twin("torch_resnet")
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config, order = experiment.model, getattr(torch, layout)
    trunk = torch_resnet.ResNet(config.depth, config.output_stride, config.width)
    head = torch.nn.Conv2d(32 * config.width, 51, 1)
    network = torch.nn.ModuleList([trunk, head]).to(memory_format=order)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(np.array(image))  # a copy that may be written to

    def gradient():
        x = ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2)
        maps = network[1](network[0](x.contiguous(memory_format=order))[-1])
        network.zero_grad()
        (maps[:, :17].square().mean() + maps[:, 17:].square().mean()).backward()

    return gradient


def whole_step(experiment: PoseExperiment) -> tuple[Call, float]:
    """Our training step, each call of which continues from the last one's state; and its FLOPs."""
    task, optim = PoseTask(experiment.model), experiment.optim
    batch = made_up_batch(experiment)
    optimizer = make_optimizer(optim, experiment.train.steps)
    state = jax.jit(lambda key: create_state(task, optimizer, key, average=optim.averaging > 0))(
        jax.random.key(0)
    )
    accumulate = experiment.train.accumulate
    step = jax.jit(
        train_step(task, optimizer, accumulate=accumulate, averaging=optim.averaging),
        donate_argnums=0,
    )
    cost: Any = step.lower(state, batch).cost_analysis()

    def advance():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return advance, cost["flops"]


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog="python -m experiments.benchmarks.train_step")
    experiment = arguments.experiment
    if not isinstance(experiment, PoseExperiment):
        raise ValueError(f"--config {arguments.config}: only pose networks have a PyTorch twin")
    model, rows = experiment.model, experiment.train.batch_size
    image = np.asarray(made_up_batch(experiment).image)
    advance, flops = whole_step(experiment)
    rivals = {
        "ours": network_gradient(experiment, image),
        **available(
            {
                f"PyTorch, {layout}": partial(torch_gradient, experiment, image, layout=layout)
                for layout in ("contiguous_format", "channels_last")
            }
        ),
        "our whole training step": advance,
    }
    timings, table = compare(Case("gradient", rivals, rows), rounds=arguments.rounds)
    rate = flops / timings.median("our whole training step")
    peak = PEAKS.get(jax.devices()[0].device_kind)
    share = f", {rate / peak / len(jax.devices()):.2f} of the peak" if peak else ""
    note = (
        f"{arguments.config}: ResNet-{model.depth}, width {model.width}, output stride "
        f"{model.output_stride}, {rows} x {model.crop_height} x {model.crop_width}, {model.dtype}; "
        f"the whole step: {flops / 1e9:.1f} GFLOPs by XLA's count, {rate / 1e9:.1f} G/s{share}"
    )
    save("train_step", table, arguments.out, note=note)


if __name__ == "__main__":
    cli.run(main)
