"""Strict jax for every test: no silent promotion of ranks or types, several CPU devices."""

import os

# Most of the tests' time is compilation; so little is computed that unoptimised programs will do.
# Programs that tests start inherit it; with XLA_FLAGS="" everything runs as users run it.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
