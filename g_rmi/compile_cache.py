"""The persistent compilation cache: a program is compiled once per machine, not once per run."""

import os
import pathlib

import jax


def enable_compilation_cache() -> pathlib.Path | None:
    """Turns on JAX's persistent compilation cache; entry points call this before any computation.

    A directory that was set before, by JAX_COMPILATION_CACHE_DIR or in `jax.config`, is respected;
    the default is <XDG_CACHE_HOME or ~/.cache>/g_rmi/xla. None, and no cache, if it cannot be made.
    """
    directory = jax.config.values["jax_compilation_cache_dir"]
    if not directory:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        directory = pathlib.Path(home) / "g_rmi" / "xla"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        jax.config.update("jax_compilation_cache_dir", str(directory))
    return pathlib.Path(directory)
