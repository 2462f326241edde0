"""The persistent compilation cache: where it is, and that it works."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from g_rmi.compile_cache import enable_compilation_cache

PROGRAM = """
import jax, warnings
warnings.simplefilter("error")
from g_rmi.compile_cache import enable_compilation_cache
print(enable_compilation_cache())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
print(jax.jit(lambda x: x * 2 + 1)(3.0))
print(sum("cache_hits" in name for name in hits))
"""


@pytest.fixture
def unset(monkeypatch):
    """No directory set, and whatever a test sets is undone."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.usefixtures("unset")
def test_default_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_compilation_cache() == tmp_path / "g_rmi" / "xla"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "g_rmi" / "xla")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    jax.config.update("jax_compilation_cache_dir", None)
    assert enable_compilation_cache() == tmp_path / "home" / ".cache" / "g_rmi" / "xla"


@pytest.mark.usefixtures("unset")
def test_a_directory_that_was_set_is_kept(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert enable_compilation_cache() == tmp_path


@pytest.mark.usefixtures("unset")
def test_no_cache_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert enable_compilation_cache() is None
    assert not jax.config.jax_compilation_cache_dir


def test_second_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    for hits in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=pathlib.Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        assert done.stdout.split() == [str(tmp_path / "g_rmi" / "xla"), "7.0", hits]
