"""The convolution of this project: NHWC maps, HWIO kernels, PyTorch's padding."""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from g_rmi.nn import rewrites

# He et al. 2015, fan-out: keeps the size of the gradients through ReLUs.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv2d(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "k k C D"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "B h w D"]:
    """Cross-correlation with PyTorch's padding of `dilation * (k // 2)` zeros on each side; k odd.

    Output position i is centred on input position `stride * i`; there are `(H - 1) // stride + 1`
    rows.
    """
    size = kernel.shape[0]
    if size == 1:
        return rewrites.pointwise(x[:, ::stride, ::stride], kernel[0, 0])
    if stride == 2 and x.shape[-1] == 3:
        return rewrites.stem(x, kernel)
    if x.dtype == jnp.bfloat16:
        return rewrites.spatial(x, kernel, stride, dilation)
    return rewrites.correlate(x, kernel, stride, dilation)


def conv_transpose2d(
    x: Float[Array, "B h w C"], kernel: Float[Array, "3 3 C D"]
) -> Float[Array, "B H W D"]:
    """A transposed 3x3 convolution of stride 2, from n to 2 n - 1 rows and columns.

        y[2 i + u - 1] += x[i] kernel[u]        u = 0, 1, 2, along both axes

    Input position i is centred on output position 2 i: maps stay on the align-corners grid. It is
    PyTorch's `conv_transpose2d` with stride 2 and padding 1. As one matrix product for all taps and
    sums of neighbours it does no work on the zeros between the inputs.
    """
    *_, channels, features = kernel.shape
    taps = rewrites.pointwise(x, kernel.transpose(2, 0, 1, 3).reshape(channels, 9 * features))
    y = taps.reshape(*x.shape[:3], 3, 3, features)
    y = _interleave(y[:, :, :, 1], y[:, :-1, :, 2] + y[:, 1:, :, 0], axis=1)
    return _interleave(y[:, :, :, 1], y[:, :, :-1, 2] + y[:, :, 1:, 0], axis=2)


def _interleave(even: Array, odd: Array, *, axis: int) -> Array:
    """The n even and n - 1 odd positions of an axis in turn."""
    size, padding = 2 * even.shape[axis] - 1, [(0, 0)] * even.ndim
    padding[axis] = (0, 1)
    both = jnp.stack([even, jnp.pad(odd, padding)], axis=axis + 1)
    both = both.reshape(*even.shape[:axis], size + 1, *even.shape[axis + 1 :])
    return jax.lax.slice_in_dim(both, 0, size, axis=axis)


class Conv(nn.Module):
    """A convolution with float32 weights and arithmetic in `dtype`; see `conv2d`."""

    features: int
    size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32
    kernel_init: jax.nn.initializers.Initializer = he_normal
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """Convolves `x`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        # Of a kernel that is there flax compares shapes alone; tracing random numbers takes long.
        there = self.has_variable("params", "kernel")
        init = nn.initializers.zeros_init() if there else self.kernel_init
        kernel = self.param("kernel", init, shape, jnp.float32)
        x = conv2d(
            x.astype(self.dtype),
            jnp.asarray(kernel, self.dtype),
            stride=self.stride,
            dilation=self.dilation,
        )
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            x = x + jnp.asarray(bias, self.dtype)[None, None, None]
        return x


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself, otherwise as `Conv`; see `rewrites.depthwise`."""

    size: int
    stride: int = 1
    dilation: int = 1
    dtype: DTypeLike = jnp.float32
    # A channel has `size ** 2` weights, in either direction.
    kernel_init: jax.nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        """Convolves `x`."""
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        kernel = jnp.asarray(kernel, self.dtype)
        return rewrites.depthwise(x.astype(self.dtype), kernel, self.stride, self.dilation)


class ConvTranspose(nn.Module):
    """A transposed convolution with float32 weights; see `conv_transpose2d`."""

    features: int
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32
    kernel_init: jax.nn.initializers.Initializer = he_normal
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B H W D"]:
        """Twice the resolution, less the last row and column."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = conv_transpose2d(x.astype(self.dtype), jnp.asarray(kernel, self.dtype))
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            x = x + jnp.asarray(bias, self.dtype)[None, None, None]
        return x


# For outputs of which few are positive: starting from p = .01 instead of .5 spares the first steps.
RARE = nn.initializers.constant(-4.6)


def project(
    features: Float[Array, "B h w C"],
    channels: int,
    *,
    name: str,
    dtype: DTypeLike,
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros,
) -> Float[Array, "B h w channels"]:
    """A 1x1 convolution to float32 maps, called inside a network."""
    options = {"kernel_init": nn.initializers.normal(0.01), "bias_init": bias_init, "name": name}
    return Conv(channels, 1, use_bias=True, dtype=dtype, **options)(features).astype(jnp.float32)
