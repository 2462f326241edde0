"""A training's result as one file: the variables to predict with, and the config."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
import safetensors
import safetensors.numpy

from g_rmi.config import upgrade
from g_rmi.files import write_whole
from g_rmi.training.task import Variables

SUFFIX = ".safetensors"


def write_weights(path: str | os.PathLike, config: Mapping[str, Any], variables: Variables) -> None:
    """Writes config (plain JSON values) and variables as a safetensors file, whole or not at all.

    Kernels are rounded to float16, which halves the file; vectors, such as the statistics of norms,
    whose range is wider, stay float32. A ValueError if the name has another ending, or a kernel is
    not finite in float16.
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
    write_whole(path, safetensors.numpy.save(arrays, {"config": json.dumps(config)}))


def is_training(path: str | os.PathLike) -> bool:
    """Whether this is a training's directory or weights file, not another project's weights."""
    path = pathlib.Path(path)
    if not path.is_file():
        return path.is_dir()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return "config" in (file.metadata() or {})
    except safetensors.SafetensorError:
        return False  # the importer says what is wrong with it


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """The config in a training's directory or weights file, under today's names (`upgrade`).

    A ValueError if there is none, or it cannot be read.
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
    """Reads config and variables, float32, on the default device; errors as `read_config`'s."""
    config = read_config(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        names = file.keys()
        arrays = {name: file.get_tensor(name).astype(np.float32) for name in names}
    # All at once: `jnp.asarray` compiles a program for each shape.
    arrays = jax.device_put(arrays)
    return config, flax.traverse_util.unflatten_dict(arrays, sep="/")
