"""The networks as ONNX's convolutions, [B, C, H, W], norms folded into their kernels.

Written out and not converted: what jax2onnx makes of the networks takes onnxruntime twice as long
as jax, this about as long.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from g_rmi.inference.onnx.graph import Graph, Value
from g_rmi.nn.network import NetworkConfig
from g_rmi.nn.norm import EPSILON
from g_rmi.nn.resnet import UNITS, ResNetConfig

Tree = Mapping[str, Any]
# `mask(x, stride=4)` makes 0 what lies beside the picture, on maps of 4 pixels a cell.
Mask = Callable[..., Value]


class Layers:
    """The layers below one name of a network's variables."""

    def __init__(self, params: Tree, statistics: Tree):
        """Of "params" and "batch_stats"."""
        self._params, self._statistics = params, statistics

    def __getitem__(self, name: str) -> "Layers":
        return Layers(self._params[name], self._statistics.get(name, {}))

    def __contains__(self, name: str) -> bool:
        return name in self._params

    def conv(
        self, x: Value, name: str, norm: str = "", *, stride: int = 1, dilation: int = 1
    ) -> Value:
        """A convolution and the norm after it, if any, as `g_rmi.nn.conv` and `g_rmi.nn.norm`."""
        layer = self._params[name]
        kernel = np.asarray(layer["kernel"], np.float64)
        shift = np.asarray(layer.get("bias", np.zeros(kernel.shape[-1])), np.float64)
        if norm:
            scale, bias, mean, var = (
                np.asarray(tree[norm][key], np.float64)
                for tree, keys in ((self._params, ("scale", "bias")), (self._statistics, _STATS))
                for key in keys
            )
            slope = scale / np.sqrt(var + EPSILON)
            kernel, shift = kernel * slope, bias + (shift - mean) * slope
        pad = dilation * (kernel.shape[0] // 2)
        return x.Conv(
            kernel.transpose(3, 2, 0, 1),
            shift,
            strides=[stride, stride],
            dilations=[dilation, dilation],
            pads=[pad] * 4,
        )

    def dense(self, x: Value, name: str) -> Value:
        """A linear layer of rows."""
        return x.MatMul(self._params[name]["kernel"]) + np.asarray(self._params[name]["bias"])


_STATS = ("mean", "var")


def check_backbone(config: NetworkConfig) -> None:
    """A ValueError if these functions have no words for a network's backbone."""
    if (kind := config.backbone.kind) != "resnet":
        raise ValueError(f"a backbone of kind {kind!r}: only 'resnet' goes to ONNX as a whole")
    if config.norm == "group":
        raise ValueError('norm = "group": only "batch" and "frozen" go to ONNX as a whole')


def normalise(x: Value, config: NetworkConfig) -> Value:
    """RGB in 0..255 to what the backbone takes."""
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in config.backbone.statistics)
    return x * (1 / (255 * std)) - mean / std


def _units(config: NetworkConfig) -> tuple[int, ...]:
    """Of each block."""
    assert isinstance(config.backbone, ResNetConfig)  # what `check_backbone` sees to
    return UNITS[config.backbone.depth]


def resnet(
    x: Value, layers: Layers, config: NetworkConfig, *, blocks: int = 4, mask: Mask | None = None
) -> list[Value]:
    """`g_rmi.nn.resnet.ResNet`: the blocks, finest first."""
    mask = mask or (lambda x, *, stride: x)
    x = layers.conv(mask(x, stride=1), "conv1", "norm1", stride=2).Relu()
    x = mask(x, stride=2).MaxPool(kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    found, reached, dilation = [], 4, 1
    for block, units in enumerate(_units(config)[:blocks], 1):
        wanted = 1 if block == 1 else 2
        stride = wanted if reached * wanted <= config.output_stride else 1
        first, dilation = dilation, dilation * wanted // stride
        for number in range(units):
            options = (stride, first) if number == 0 else (1, dilation)
            before, reached = reached, reached * options[0]
            x = _unit(
                x, layers[f"block{block}_unit{number}"], *options, partial(mask, stride=before)
            )
        x = mask(x, stride=reached)
        found.append(x)
    return found


def block4(x: Value, layers: Layers, config: NetworkConfig) -> Value:
    """`g_rmi.nn.resnet.Block4` on regions."""
    for number in range(_units(config)[3]):
        x = _unit(x, layers[f"block4_unit{number}"], 1, 1, lambda y: y)
    return x


def _unit(
    x: Value, layers: Layers, stride: int, dilation: int, masked: Callable[[Value], Value]
) -> Value:
    y = masked(layers.conv(x, "conv1", "norm1").Relu())
    y = layers.conv(y, "conv2", "norm2", stride=stride, dilation=dilation).Relu()
    y = layers.conv(y, "conv3", "norm3")
    if "shortcut_conv" in layers:
        x = layers.conv(x, "shortcut_conv", "shortcut_norm", stride=stride)
    return (y + x).Relu()


def pyramid(blocks: list[Value], layers: Layers) -> Value:
    """`g_rmi.pose.network.FeaturePyramid`."""
    *finer, x = blocks
    x = layers.conv(x, "top")
    for level, lateral in reversed(list(enumerate(finer, 1))):
        x = resize(x, lateral.sides(slice(2, 4)))
        x = x + layers.conv(lateral, f"lateral{level}")
        x = _normed(layers, x, f"norm{level}a").Relu()
        x = layers.conv(x, f"merge{level}", f"norm{level}b").Relu()
    return x


def _normed(layers: Layers, x: Value, name: str) -> Value:
    scale, bias = (np.asarray(layers._params[name][key], np.float64) for key in ("scale", "bias"))
    mean, var = (np.asarray(layers._statistics[name][key], np.float64) for key in _STATS)
    slope = scale / np.sqrt(var + EPSILON)
    by_channel = (1, -1, 1, 1)
    return x * slope.reshape(by_channel) + (bias - mean * slope).reshape(by_channel)


def resize(x: Value, size: Any) -> Value:
    """`g_rmi.ops.image.resize_align_corners` to rows and columns, int64 [2]."""
    graph: Graph = x.graph
    sizes = graph.concat(x.sides(slice(0, 2)), size, axis=0)
    options = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return x.Resize(None, None, sizes, **options)
