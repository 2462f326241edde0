"""The persistent compilation cache: a program is compiled once per machine, not once per run."""

import os
import pathlib

import jax


def enable_compilation_cache() -> pathlib.Path:
    """Turns on JAX's persistent compilation cache; entry points call this before any computation.

    A directory that was set before, by JAX_COMPILATION_CACHE_DIR or in `jax.config`, is respected.

    Returns:
      The directory: by default <XDG_CACHE_HOME or ~/.cache>/g_rmi/xla.
    """
    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "g_rmi" / "xla"))
    return pathlib.Path(jax.config.jax_compilation_cache_dir)
