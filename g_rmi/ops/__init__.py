"""Pure kernels: unbatched, fixed shapes, boolean masks; batch them with `jax.vmap`."""
