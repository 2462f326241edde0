"""Checksums of stored arrays: what a file system lost or changed is noticed."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

Json = dict[str, Any]


def checksums(tree: Json) -> dict[str, UInt32[Array, ""]]:
    """Per entry sum_i (2 i + 1) word_i modulo 2^32, over the bits of its arrays.

    The files have no checksum of their own, and what is missing from them reads as zeros. Integer
    sums do not depend on the number of devices; odd factors let no single error vanish.
    """
    zero = jnp.uint32(0)
    return {name: sum(map(_checksum, jax.tree.leaves(part)), zero) for name, part in tree.items()}


@jax.jit  # one small program per shape: one for a whole tree takes many times longer to compile
def _checksum(x: Array) -> UInt32[Array, ""]:
    width = 8 * x.dtype.itemsize
    words = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, f"uint{width}")
    words = words.astype(jnp.uint32).ravel()
    factors = 2 * jnp.arange(words.size, dtype=jnp.uint32) + 1
    return jnp.sum(words * factors, dtype=jnp.uint32)  # also where JAX_ENABLE_X64 is set


def verified(tree: Json) -> Json:
    """A stored tree without its checksums, which must be right."""
    arrays = {name: value for name, value in tree.items() if name != "checksums"}
    for name, value in checksums(arrays).items():
        if value != tree["checksums"][name]:
            raise ValueError(f"checksum of {name} is wrong")
    return arrays
