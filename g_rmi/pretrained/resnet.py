"""ImageNet ResNets in torchvision's and timm's naming -> variables of `g_rmi.nn.resnet.ResNet`.

The correspondence is a table; the import is strict both ways. No pickle is ever opened.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
import safetensors
import safetensors.numpy
from jax import numpy as jnp

from g_rmi.nn.resnet import UNITS, ResNet

# Modules: a pattern of the target's path -> the name in the source.
MODULES = (
    (r"conv1", r"conv1"),
    (r"norm1", r"bn1"),
    (r"block(\d)_unit(\d+)/conv(\d)", r"layer\1.\2.conv\3"),
    (r"block(\d)_unit(\d+)/norm(\d)", r"layer\1.\2.bn\3"),
    (r"block(\d)_unit(\d+)/shortcut_conv", r"layer\1.\2.downsample.0"),
    (r"block(\d)_unit(\d+)/shortcut_norm", r"layer\1.\2.downsample.1"),
)
# Their weights: collection and name of the target -> the name in the source.
WEIGHTS = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
# Dropped where they occur: the classifier and PyTorch's step counters.
DROPPED = r"fc\.weight|fc\.bias|(.+\.)?(bn\d|downsample\.1)\.num_batches_tracked"


def load_resnet(
    source: str | os.PathLike | Mapping[str, Any],
    *,
    depth: int,
    width: int = 64,
    stem_width: int | None = None,
) -> dict[str, Any]:
    """Reads the weights of an ImageNet ResNet, for a `ResNet` of that depth and those widths.

    `source` is a `.safetensors` file, or a state dict: torchvision's or timm's names to arrays
    (numpy, or what numpy converts, PyTorch's tensors among them). Returns `{"params": ...,
    "batch_stats": ...}`, float32, for norm "batch" or "frozen" and any output stride.

    Raises:
      ValueError: Weights are missing, unknown or of a wrong shape (all of them are named), belong
        to another depth, or are in a file of another kind.
      FileNotFoundError: There is no such file.
    """
    if isinstance(source, Mapping):
        label, state = "state dict", source
    else:
        label, state = str(source), _read(pathlib.Path(source))
    found = _depth_of(state)
    if found not in (None, depth):
        raise ValueError(f"{label}: the weights of a ResNet-{found}, not of depth = {depth}")

    targets = _targets(ResNet(depth, width=width, stem_width=stem_width))
    problems = [f"missing {name}" for name in targets if name not in state]
    values = {}
    for name, value in state.items():
        if name in targets:
            path, shape = targets[name]
            value = np.asarray(value)
            if value.ndim == 4:
                value = value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
            if value.shape != shape:
                problems.append(f"{name} of shape {value.shape} where {shape} is wanted")
            values[path] = jnp.asarray(value, jnp.float32)
        elif not re.fullmatch(DROPPED, name):
            problems.append(f"unknown {name}")
    if problems:
        raise ValueError(f"{label}: does not fit ResNet-{depth}: {', '.join(problems)}")
    return flax.traverse_util.unflatten_dict(values)


def _targets(network: ResNet) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """For each name in the source, the path and shape of the variable that it fills."""
    image = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    targets = {}
    for path, value in flax.traverse_util.flatten_dict(variables).items():
        collection, *modules, leaf = path
        module = "/".join(modules)
        pattern, name = next(row for row in MODULES if re.fullmatch(row[0], module))
        name = f"{re.sub(pattern, name, module)}.{WEIGHTS[collection, leaf]}"
        targets[name] = path, tuple(value.shape)  # type: ignore[missing-attribute]  # no empty nodes here
    return targets


def _depth_of(state: Mapping[str, Any]) -> int | None:
    """The depth that the numbers of bottleneck units show; None if it is none of ours."""
    units = {m.groups() for name in state if (m := re.match(r"layer(\d)\.(\d+)\.conv3\.", name))}
    counts = tuple(sum(block == number for block, _ in units) for number in "1234")
    return next((depth for depth, wanted in UNITS.items() if wanted == counts), None)


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path}: not a .safetensors file (a pickle can run any code, so none is opened); "
            "convert it once: safetensors.torch.save_file(torch.load(OLD, weights_only=True), NEW)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: unreadable: {error}") from None
