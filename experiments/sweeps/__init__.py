"""The paper's ablations: one file each, found by file name; a file's docstring is its lab note.

Each file has `points(base)`, which yields the sweep's points as functions of what they vary, so
that the paper's networks and the embedded ones share them.
"""

import importlib
import pkgutil

from experiments.points import Base, Point, check_names
from g_rmi.config import nearest


def names() -> list[str]:
    """Names of all sweeps."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _module(name: str):
    if name not in names():
        raise ValueError(f"no sweep {name!r}{nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name}")


def get(name: str, base: Base) -> list[Point]:
    """The points of that sweep.

    Raises:
      ValueError: There is none; the message names the nearest.
    """
    return check_names(_module(name).points(base))


def title(name: str) -> str:
    """What the sweep asks: the first line of its file."""
    return (_module(name).__doc__ or name).partition("\n")[0].rstrip(".")
