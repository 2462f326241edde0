"""Experiment configs, found by file name: recipes here, what made the shipped weights in `runs`.

A file elsewhere is one, too, if the user names its path: any `.py` with a `get_config`.

A file's docstring is its lab note: command, hardware, time, the paper's number, ours. Small
configs are a few changes of the embedded ones, by `override`.
"""

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

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
    ema_decay=0.99,
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


def listing() -> str:
    """All configs, a line each: the first of its docstring."""
    modules = {name: importlib.import_module(module) for name, module in _modules().items()}
    lines = {name: (module.__doc__ or "").partition("\n")[0] for name, module in modules.items()}
    return "\n".join(f"  {name:<{max(map(len, lines))}}  {lines[name]}" for name in sorted(lines))


def is_config(name: str) -> bool:
    """Whether this names a config, or is a path of a file with one."""
    return name.endswith(".py") or name in names()


def get(name: str) -> Experiment:
    """The config of that name, or of the file whose path ends in `.py`, which is run.

    Raises:
      ValueError: There is no such config, the message names the nearest; or no such file, or its
        `get_config()` does not return an experiment.
    """
    modules = _modules()
    if name.endswith(".py"):
        module = _run(Path(name))
    elif name in modules:
        module = importlib.import_module(modules[name])
    else:
        raise ValueError(f"no config {name!r}{nearest(name, modules)}")
    if not callable(get_config := getattr(module, "get_config", None)):
        raise ValueError(f"{name}: has no function get_config()")
    experiment = get_config()
    if not isinstance(experiment, Experiment):
        found = type(experiment).__name__
        wanted = "a PoseExperiment, DetectorExperiment or PartsExperiment"
        raise ValueError(f"{name}: get_config() returns {found}, must be {wanted}")
    return experiment


def _run(path: Path) -> ModuleType:
    """The module of a file that the user asked to run by naming it; nothing else is ever run."""
    if not path.is_file():
        raise ValueError(f"no config file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader  # of any .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
