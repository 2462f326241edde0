"""Experiment configs: one file each, found by file name; a file's docstring is its lab note."""

import importlib
import pkgutil

from experiments.parts.experiment import Experiment
from g_rmi.config import nearest


def names() -> list[str]:
    """Names of all configs."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Experiment:
    """The config of that name.

    Raises:
      ValueError: There is none; the message names the nearest.
    """
    if name not in names():
        raise ValueError(f"no config {name!r}{nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name}").get_config()
