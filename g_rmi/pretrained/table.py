"""Strict import by a table: every name of the source is used, every target is filled."""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from jax import numpy as jnp

# A `.safetensors` file, or names to arrays: numpy's, or what numpy converts, such as PyTorch's.
Source = str | os.PathLike | Mapping[str, Any]

# Weights of a module: collection and name of the target -> the name in PyTorch.
WEIGHTS = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}


class Table(NamedTuple):
    """What corresponds to what.

    `modules` are patterns of the path of a target's module, and its name in the source; `dropped`
    is a pattern of names in the source that have no target.
    """

    modules: tuple[tuple[str, str], ...]
    dropped: str

    def source_of(self, path: tuple[str, ...]) -> str:
        """The name in the source of the variable at this path."""
        collection, *modules, leaf = path
        module = "/".join(modules)
        pattern, name = next(row for row in self.modules if re.fullmatch(row[0], module))
        return f"{re.sub(pattern, name, module)}.{WEIGHTS[collection, leaf]}"


def read(source: Source) -> tuple[str, Mapping[str, Any]]:
    """What to call a source in messages, and its arrays.

    Raises:
      ValueError: It is a file of another kind, or unreadable.
      FileNotFoundError: There is no such file.
    """
    if isinstance(source, Mapping):
        return "state dict", source
    path = pathlib.Path(source)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path}: not a .safetensors file (a pickle can run any code, so none is opened); "
            "convert it once: safetensors.torch.save_file(torch.load(OLD, weights_only=True), NEW)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return str(path), safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: unreadable: {error}") from None


def fill(
    network: nn.Module, table: Table, state: Mapping[str, Any], *, label: str, name: str
) -> dict[str, Any]:
    """The variables of a network, float32; `label` is the source and `name` the network's.

    Raises:
      ValueError: Weights are missing, unknown or of a wrong shape; all of them are named.
    """
    image = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    targets = {
        table.source_of(path): (path, tuple(value.shape))  # type: ignore[missing-attribute]  # no empty nodes here
        for path, value in flax.traverse_util.flatten_dict(variables).items()
    }
    problems = [f"missing {target}" for target in targets if target not in state]
    values = {}
    for given, value in state.items():
        if given in targets:
            path, shape = targets[given]
            value = np.asarray(value)
            if value.ndim == 4:
                value = value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
            if value.shape != shape:
                problems.append(f"{given} of shape {value.shape} where {shape} is wanted")
            values[path] = jnp.asarray(value, jnp.float32)
        elif not re.fullmatch(table.dropped, given):
            problems.append(f"unknown {given}")
    if problems:
        raise ValueError(f"{label}: does not fit {name}: {', '.join(problems)}")
    return flax.traverse_util.unflatten_dict(values)
