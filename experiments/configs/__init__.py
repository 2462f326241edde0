"""Experiment configs, found by file name: recipes here, what made the shipped weights in `runs`.

A file's docstring is its lab note: command, hardware, time, the paper's number, ours. Small
configs are a few changes of the embedded ones, by `override`.
"""

import importlib
import pkgutil

from experiments import runs
from experiments.parts.experiment import Experiment
from g_rmi.config import OptimConfig, nearest

_PACKAGES = {__name__: __path__, runs.__name__: runs.__path__}

# Of all trainings that are not the paper's.
ADAMW = OptimConfig(
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    schedule="cosine",
    warmup_steps=50,
    clip_norm=1.0,
    averaging=0.99,
)


def _modules() -> dict[str, str]:
    return {
        module.name: f"{package}.{module.name}"
        for package, path in _PACKAGES.items()
        for module in pkgutil.iter_modules(path)
    }


def names() -> list[str]:
    """Names of all configs."""
    return sorted(_modules())


def get(name: str) -> Experiment:
    """The config of that name; a ValueError names the nearest if there is none."""
    modules = _modules()
    if name not in modules:
        raise ValueError(f"no config {name!r}{nearest(name, modules)}")
    return importlib.import_module(modules[name]).get_config()
