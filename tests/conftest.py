"""Strict jax for every test: no silent promotion of ranks or types, several CPU devices."""

import importlib.metadata
import os

# Most of the tests' time is compilation; so little is computed that unoptimised programs will do.
# Programs that tests start inherit it; with XLA_FLAGS="" everything runs as users run it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    # jaxlib 0.12 knows this no more, and does not start with flags that it does not know.
    + " --xla_cpu_use_fusion_emitters=false"
    * (importlib.metadata.version("jaxlib").split(".") < ["0", "12"]),
)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def _compiled_programs(tmp_path_factory):
    """Keeps what is compiled twice in a run, and out of the user's own cache."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
