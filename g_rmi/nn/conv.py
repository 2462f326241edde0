"""The convolution of this project: NHWC maps, HWIO kernels, PyTorch's padding."""

from functools import partial

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# He et al. 2015, fan-out: keeps the size of the gradients through ReLUs.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "k k C D"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "B h w D"]:
    """Cross-correlation with PyTorch's padding of `dilation * (k // 2)` zeros on each side.

    Args:
      x: Maps.
      kernel: Square, of odd size k.
      stride: Of the output; its position i is centred on input position `stride * i`.
      dilation: Distance between the kernel's taps.

    Returns:
      Maps of `(H - 1) // stride + 1` rows.
    """
    size = kernel.shape[0]
    if size == 1:
        return _pointwise(x[:, ::stride, ::stride], kernel[0, 0])
    if stride == 2 and x.shape[-1] == 3:
        return _stem(x, kernel)
    if x.dtype == jnp.bfloat16:
        return _spatial(x, kernel, stride, dilation)
    return _correlate(x, kernel, stride, dilation)


def _correlate(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _spatial(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    return _correlate(x, kernel, stride, dilation)


def _spatial_forward(
    x: Array, kernel: Array, stride: int, dilation: int
) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, kernel, stride, dilation), (x, kernel)


def _spatial_backward(
    stride: int, dilation: int, residuals: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
    def automatic(x, kernel, grad):
        correlate = partial(_correlate, stride=stride, dilation=dilation)
        return jax.vjp(correlate, x, kernel)[1](grad)

    def plain(x, kernel, grad):
        # The gradient for the maps as one more correlation like the first, that for the kernel as a
        # matrix product: CPUs with matrix units are fast at these, not at correlations with
        # exchanged channels and gaps between the inputs, or with a kernel as large as the maps.
        gaps = [
            (0, size - stride * (steps - 1) - 1, stride - 1)
            for size, steps in zip(x.shape[1:3], grad.shape[1:3], strict=True)
        ]
        spread = lax.pad(grad, jnp.zeros((), grad.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
        mirrored = kernel[::-1, ::-1].swapaxes(2, 3)
        grad_x = _correlate(spread, mirrored, 1, dilation)
        return grad_x, _kernel_gradient(x, spread, kernel.shape[0], stride, dilation)

    return lax.platform_dependent(*residuals, grad, cpu=plain, default=automatic)


def _kernel_gradient(x: Array, spread: Array, size: int, stride: int, dilation: int) -> Array:
    """The kernel's gradient as one matrix product; `spread` is that for the output, with gaps.

    A tap's row moves the maps, its column moves the gradient the other way.
    """
    pad, columns = dilation * (size // 2), x.shape[2]
    x = jnp.pad(x, ((0, 0), (pad, pad), (0, 0), (0, 0)))
    grad = jnp.pad(spread[:, ::stride], ((0, 0), (0, 0), (pad, pad), (0, 0)))
    last = stride * (grad.shape[1] - 1) + 1
    starts = [dilation * tap for tap in range(size)]
    moved = jnp.concatenate([x[:, i : i + last : stride] for i in starts], -1)
    against = jnp.concatenate([grad[:, :, j : j + columns] for j in reversed(starts)], -1)
    channels, features = x.shape[-1], grad.shape[-1]
    product = lax.dot_general(
        moved.reshape(-1, size * channels),
        against.reshape(-1, size * features),
        (((0,), (0,)), ((), ())),
    )
    return product.reshape(size, channels, size, features).transpose(0, 2, 1, 3)


_spatial.defvjp(_spatial_forward, _spatial_backward)


def _stem(x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"]) -> Float[Array, "B h w D"]:
    """Stride 2 on few channels: pairs of columns become channels, which costs no copy."""
    batch, height, width, channels = x.shape
    size, out = kernel.shape[0], (width + 1) // 2
    pad = size // 2
    pairs = out + pad
    x = jnp.pad(x, ((0, 0), (0, 0), (pad, 2 * pairs - pad - width), (0, 0)))
    x = x.reshape(batch, height, pairs, 2 * channels)
    kernel = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))
    kernel = kernel.reshape(size, pad + 1, 2 * channels, -1)
    return lax.conv_general_dilated(
        x, kernel, (2, 1), ((pad, pad), (0, 0)), dimension_numbers=LAYOUT
    )


@jax.custom_vjp
def _pointwise(x: Float[Array, "B H W C"], kernel: Float[Array, "C D"]) -> Float[Array, "B H W D"]:
    """A 1x1 convolution as one matrix product; XLA's convolution is half as fast on the CPU."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def _pointwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _pointwise(x, kernel), (x, kernel)


def _pointwise_backward(residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    # Automatic differentiation asks for the transposed weights' gradient, and XLA's CPU backend
    # then writes the transpose of every incoming gradient.
    x, kernel = residuals
    rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    grad_x = lax.dot_general(grad_rows, kernel, (((1,), (1,)), ((), ())))
    return grad_x.reshape(x.shape), lax.dot_general(rows, grad_rows, (((0,), (0,)), ((), ())))


_pointwise.defvjp(_pointwise_forward, _pointwise_backward)


class Conv(nn.Module):
    """A convolution with float32 weights and arithmetic in `dtype`.

    Attributes:
      features: Output channels.
      size: Side k of the kernel, odd.
      stride: See `conv2d`.
      dilation: See `conv2d`.
      use_bias: Add a learned value per channel.
      dtype: Type of the arithmetic and of the result.
      kernel_init: Initialiser of the kernel.
      bias_init: Initialiser of the bias.
    """

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
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
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
