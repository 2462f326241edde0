"""Normalisation: one module, three policies."""

import functools
import math

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from g_rmi.nn.rewrites import apart

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

    `dtype` is that of the result.
    """

    kind: str
    dtype: DTypeLike = jnp.float32
    epsilon: float = EPSILON
    scale_init: jax.nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Array:
        """Normalises maps; in training "batch" uses and records the statistics of the batch."""
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
            return affine(x, *statistics, scale, bias, self.epsilon).astype(self.dtype)
        y, statistics = batch_norm(x, scale, bias, self.dtype, self.epsilon)
        if not self.is_initializing():
            count = math.prod(x.shape[:-1])
            unbiased = statistics[1] * (count / max(count - 1, 1))
            mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * statistics[0]
            var.value = MOMENTUM * var.value + (1 - MOMENTUM) * unbiased
        return y

    def _group(self, x: Array, scale: Array, bias: Array) -> Array:
        *batch_and_map, channels = x.shape
        groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        y = x.astype(jnp.float32).reshape(*batch_and_map, groups, channels // groups)
        mean = y.mean((1, 2, 4), keepdims=True)
        var = jnp.square(y - mean).mean((1, 2, 4), keepdims=True)
        y = ((y - mean) * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return (y * scale[None, None, None] + bias[None, None, None]).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: Float[Array, "B H W C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    dtype: DTypeLike,
    epsilon: float = EPSILON,
) -> tuple[Float[Array, "B H W C"], tuple[Float[Array, " C"], Float[Array, " C"]]]:
    """Normalises each channel by its own mean and variance over the batch.

    The result is of type `dtype`; the mean and the biased variance come along in float32, and no
    gradient passes through them.
    """
    return _batch_norm_forward(x, scale, bias, dtype, epsilon)[0]


def _batch_norm_forward(x, scale, bias, dtype, epsilon):
    mean = x.astype(jnp.float32).mean((0, 1, 2))
    x, mean = apart(x, mean)
    var = jnp.square(x.astype(jnp.float32) - mean[None, None, None]).mean((0, 1, 2))
    x, mean, var = apart(x, mean, var)
    y = affine(x, mean, var, scale, bias, epsilon).astype(dtype)
    return (y, (mean, var)), (x, scale, mean, var)


def _batch_norm_backward(dtype, epsilon, residuals, grads):
    # Written out: automatic differentiation makes one more pass, for the centring in the variance.
    del dtype
    x, scale, mean, var = residuals
    grad = grads[0]
    count, rate = math.prod(x.shape[:-1]), lax.rsqrt(var + epsilon)
    to_bias = grad.astype(jnp.float32).sum((0, 1, 2))
    x, grad, to_bias = apart(x, grad, to_bias)
    centred = x.astype(jnp.float32) - mean[None, None, None]
    to_scale = rate * (grad.astype(jnp.float32) * centred).sum((0, 1, 2))
    x, grad, to_scale = apart(x, grad, to_scale)
    # To x: slope * (grad - mean of grad - normalised x * mean of their product).
    slope = scale * rate
    share = slope * rate * to_scale / count
    shift = slope * to_bias / count - share * mean
    grad = grad.astype(jnp.float32) * slope[None, None, None]
    grad = grad - x.astype(jnp.float32) * share[None, None, None] - shift[None, None, None]
    return grad.astype(x.dtype), to_scale, to_bias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def affine(
    x: Float[Array, "B H W C"],
    mean: Float[Array, " C"],
    var: Float[Array, " C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    epsilon: float = EPSILON,
) -> Float[Array, "B H W C"]:
    """(x - mean) / sqrt(var + epsilon) * scale + bias in float32, as one multiply-add."""
    slope = scale * lax.rsqrt(var + epsilon)
    return x.astype(jnp.float32) * slope[None, None, None] + (bias - mean * slope)[None, None, None]
