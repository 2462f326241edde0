"""What every kernel promises beside its values, checked on one set of inputs."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np


def agree(actual, expected, *, atol=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=1e-5, atol=atol)


def check_contract(kernel, first, second, *, eager=True, coarse=True):
    """Eager = jit = vmap, one trace, float32 inside, x64, lowering for accelerators.

    Args:
      kernel: Takes arrays only; options are bound.
      first: One set of numpy inputs.
      second: Another one of the same shapes and types.
      eager: Also run without jit, which compiles every operation by itself.
      coarse: Also round the floats to 16 bits and compare with the rounded values in float32.
    """
    traces = []

    def counted(*arrays):
        traces.append(arrays)
        return kernel(*arrays)

    compiled = jax.jit(counted)
    expected = compiled(*first)
    if eager:
        agree(expected, kernel(*first))
    traces.clear()
    results = [compiled(*inputs) for inputs in (first, second)]
    assert not traces

    stacked = [np.stack(pair) for pair in zip(first, second)]
    agree(jax.jit(jax.vmap(kernel))(*stacked), jax.tree.map(lambda *r: np.stack(r), *results))

    with jax.enable_x64(True):
        agree(jax.jit(kernel)(*first), results[0])
    if coarse:
        for dtype in (jnp.bfloat16, jnp.float16):
            rounded = [cast(x, dtype) for x in first]
            agree(compiled(*rounded), compiled(*[cast(x, jnp.float32) for x in rounded]))

    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in first]
    for batch in (kernel, jax.vmap(kernel)):
        exported = jax.export.export(jax.jit(batch), platforms=["tpu", "cuda"])(*shapes)
        assert exported.platforms == ("tpu", "cuda")
        shapes = [jax.ShapeDtypeStruct((2, *x.shape), x.dtype) for x in shapes]


def cast(x, dtype):
    return jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
