"""Normalisation: one module, three policies."""

import math

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

EPSILON = 1e-5
# Share of the old running statistics that a step keeps; PyTorch calls 1 - .9 = .1 its momentum.
MOMENTUM = 0.9
GROUPS = 32


class Norm(nn.Module):
    """Normalises channels, then scales and shifts them; float32 inside whatever `dtype` is.

    * "batch": by the statistics of the batch in training, by running ones otherwise. Under `jit`
      over a batch that is sharded on several devices the statistics are those of the global batch:
      synchronised batch norm. As in PyTorch the running variance is the unbiased one.
    * "frozen": by the running statistics always. Statistics, scale and bias are constants: they
      get no gradient. The variables are those of "batch", so imported weights fit both.
    * "group": by the statistics of each example over groups of channels, 32 or the largest
      number below that divides the channels; nothing depends on the batch.

    Attributes:
      kind: "batch", "frozen" or "group".
      dtype: Type of the result.
      scale_init: Initialiser of the scale.
    """

    kind: str
    dtype: DTypeLike = jnp.float32
    scale_init: jax.nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Array:
        """Normalises `x`.

        Args:
          x: Maps.
          train: Use and record the statistics of the batch ("batch" only).

        Raises:
          ValueError: `kind` is unknown.
        """
        if self.kind not in ("batch", "frozen", "group"):
            raise ValueError(f'norm = {self.kind!r}: must be "batch", "frozen" or "group"')
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        scale, bias = jnp.asarray(scale), jnp.asarray(bias)
        if self.kind == "group":
            return self._group(x, scale, bias)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if self.kind == "frozen":
            scale, bias = lax.stop_gradient(scale), lax.stop_gradient(bias)
        if self.kind == "frozen" or not train:
            statistics = jnp.asarray(mean.value), jnp.asarray(var.value)
        else:
            statistics = batch_statistics(x)
            if not self.is_initializing():
                count = math.prod(x.shape[:-1])
                unbiased = statistics[1] * (count / max(count - 1, 1))
                mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * statistics[0]
                var.value = MOMENTUM * var.value + (1 - MOMENTUM) * unbiased
        return affine(x, *statistics, scale, bias).astype(self.dtype)

    def _group(self, x: Array, scale: Array, bias: Array) -> Array:
        *batch_and_map, channels = x.shape
        groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        y = x.astype(jnp.float32).reshape(*batch_and_map, groups, channels // groups)
        mean = y.mean((1, 2, 4), keepdims=True)
        var = jnp.square(y - mean).mean((1, 2, 4), keepdims=True)
        y = ((y - mean) * lax.rsqrt(var + EPSILON)).reshape(x.shape)
        return (y * scale[None, None, None] + bias[None, None, None]).astype(self.dtype)


def batch_statistics(x: Float[Array, "B H W C"]) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    """Mean and biased variance of each channel over the batch, in float32."""
    x = x.astype(jnp.float32)
    mean = x.mean((0, 1, 2))
    return mean, jnp.square(x - mean[None, None, None]).mean((0, 1, 2))


def affine(
    x: Float[Array, "B H W C"],
    mean: Float[Array, " C"],
    var: Float[Array, " C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
) -> Float[Array, "B H W C"]:
    """(x - mean) / sqrt(var + epsilon) * scale + bias in float32, as one multiply-add."""
    slope = scale * lax.rsqrt(var + EPSILON)
    return x.astype(jnp.float32) * slope[None, None, None] + (bias - mean * slope)[None, None, None]
