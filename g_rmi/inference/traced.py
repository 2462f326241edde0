"""Programs that are traced once a machine: beside what XLA compiled is kept what jax gave it.

To trace and lower both networks takes three times as long as to load them compiled. A program that
is kept is read instead, and then found in jax's own cache.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
from jax import export

from g_rmi.files import write_whole

_KEPT = 64  # Programs, of some hundred KB each.
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


class Traced:
    """`jax.jit(function)`, kept in the directory of jax's compilation cache if there is one.

    What a kept program is found by: the types and shapes of the arguments; `static`, all else that
    the function depends on; the device's kind; jax's settings; and all code, this package's and its
    libraries'. It is traced as ever if `static` holds what is not this package's own, or if jax
    cannot export it. A file that is broken or cannot be written is passed over.
    """

    def __init__(self, function: Callable[..., tuple], *static: Any):
        """Traces nothing yet. The function gives a tuple; a named one comes back plain."""
        self._function, self._static = function, static
        self._programs: dict[Any, Callable] = {}

    def __call__(self, *arguments: Any) -> tuple:
        """What the function gives."""
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        program = self._programs.get((tree, shapes))
        if program is None:
            program = self._programs[tree, shapes] = self._program(leaves, tree, shapes)
        return program(*leaves)

    def _program(self, leaves: list[Any], tree: Any, shapes: tuple) -> Callable[..., tuple]:
        def flat(*leaves):
            return tuple(self._function(*jax.tree.unflatten(tree, leaves)))

        plain, folder = jax.jit(flat), jax.config.values["jax_compilation_cache_dir"]
        if not folder or "://" in folder:
            return plain
        try:
            known = "\n".join([*map(_text, self._static), str(tree), str(shapes), _surroundings()])
        except TypeError:
            return plain
        file = Path(folder) / "traced" / hashlib.sha256(known.encode()).hexdigest()
        program = _read(file)
        if program is None:
            try:
                program = export.export(plain)(*leaves)
                _write(file, bytes(program.serialize()))
            except Exception:  # the plain one works, or says what is wrong
                return plain
        # What was exported is run now, too: later runs then find it compiled.
        return jax.jit(program.call)


def _read(file: Path) -> export.Exported | None:
    """A kept program; None if it is not there whole."""
    with contextlib.suppress(Exception):
        content = file.read_bytes()
        checksum, program = content[:32], content[32:]
        if hashlib.sha256(program).digest() == checksum:
            return export.deserialize(bytearray(program))
    return None


def _write(file: Path, program: bytes) -> None:
    """Keeps a program, and of all the last ones."""
    with contextlib.suppress(OSError):
        write_whole(file, hashlib.sha256(program).digest() + program)
        files = sorted(file.parent.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)


def _text(value: Any) -> str:
    """All that a setting says; a TypeError for what may depend on anything else."""
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    kind = type(value)
    if dataclasses.is_dataclass(kind) and kind.__module__.startswith("g_rmi."):
        fields = (f"{f.name}={_text(getattr(value, f.name))}" for f in dataclasses.fields(kind))
        return f"{kind.__module__}.{kind.__qualname__}({', '.join(fields)})"
    raise TypeError(f"{kind}: not of this package")


def _surroundings() -> str:
    """What a trace depends on beside its inputs."""
    return f"{jax.default_backend()} {sorted(jax.config.values.items())} {_code()}"


@cache
def _code() -> str:
    """The versions of the libraries, and a checksum of this package's sources."""

    def parts() -> Iterator[bytes]:
        for name in _PACKAGES:
            yield importlib.metadata.version(name).encode()
        root = Path(__file__).parents[1]
        for file in sorted(root.rglob("*.py")):
            yield file.relative_to(root).as_posix().encode()
            yield hashlib.sha256(file.read_bytes()).digest()

    return hashlib.sha256(b"\n".join(parts())).hexdigest()
