"""A training's result as one file: the variables to predict with, and the config."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from g_rmi.config import upgrade
from g_rmi.training.task import Variables

SUFFIX = ".safetensors"


def write_weights(path: str | os.PathLike, config: Mapping[str, Any], variables: Variables) -> None:
    """Writes variables and config as a safetensors file; replaces the file as a whole.

    Kernels are rounded to float16, which halves the file; vectors, such as the statistics of norms,
    whose range is wider, stay float32.

    Args:
      path: The file; its name ends in .safetensors.
      config: Of the experiment, as plain JSON values.
      variables: To predict with, such as the averaged ones of `load_variables`.

    Raises:
      ValueError: The name has another ending, or a kernel is not finite in float16.
    """
    path = pathlib.Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: the name of a weights file must end in {SUFFIX}")
    arrays = {}
    for name, value in flax.traverse_util.flatten_dict(variables, sep="/").items():
        value = np.asarray(value, np.float32)
        if value.ndim > 1:
            if not (np.abs(value) <= np.finfo(np.float16).max).all():
                raise ValueError(f"{name}: not finite in float16")
            value = value.astype(np.float16)
        arrays[name] = np.ascontiguousarray(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(safetensors.numpy.save(arrays, {"config": json.dumps(config)}))
    partial.replace(path)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """The config of a training, under today's names (`g_rmi.config.upgrade`).

    Args:
      path: Its directory, or its weights file.

    Raises:
      ValueError: There is none, or it cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} is not a workdir: it has no config.json")
        return upgrade(json.loads((path / "config.json").read_text()))
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            config = (file.metadata() or {}).get("config")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: unreadable: {error}") from None
    if config is None:
        raise ValueError(f"{path}: holds weights of another project: it has no config")
    return upgrade(json.loads(config))


def read_weights(path: str | os.PathLike) -> tuple[dict[str, Any], Variables]:
    """Reads what `write_weights` wrote.

    Returns:
      The config and the variables, float32, on the default device.

    Raises:
      ValueError: As `read_config`.
    """
    config = read_config(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    variables = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32), flax.traverse_util.unflatten_dict(arrays, sep="/")
    )
    return config, variables
