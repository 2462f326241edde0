"""Operations written so that CPUs are fast at them; each gives what the plain one does.

Nothing here changes what a network computes: to understand one, read `g_rmi.nn.conv` and
`g_rmi.nn.resnet` instead. The measurements are in experiments/README.md.
"""

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PLAIN = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Traces networks without choices by platform, for other runtimes, which know none."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def correlate(x: Array, kernel: Array, stride: int, dilation: int, groups: int = 1) -> Array:
    """The plain convolution: `g_rmi.nn.conv.conv2d`."""
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def spatial(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    """`correlate` for bfloat16, with gradients that matrix units are fast at."""
    return correlate(x, kernel, stride, dilation)


def _spatial_forward(x, kernel, stride, dilation):
    return correlate(x, kernel, stride, dilation), (x, kernel)


def _spatial_backward(stride, dilation, residuals, grad):
    def automatic(x, kernel, grad):
        forward = partial(correlate, stride=stride, dilation=dilation)
        return jax.vjp(forward, x, kernel)[1](grad)

    def plain(x, kernel, grad):
        # The gradient for the maps as one more correlation like the first, that for the kernel as a
        # matrix product: CPUs with matrix units are fast at these, not at correlations with
        # exchanged channels and gaps between the inputs, or with a kernel as large as the maps.
        spread = _spread(grad, x, stride)
        mirrored = kernel[::-1, ::-1].swapaxes(2, 3)
        grad_x = correlate(spread, mirrored, 1, dilation)
        return grad_x, _kernel_gradient(x, spread, kernel.shape[0], stride, dilation)

    return lax.platform_dependent(*residuals, grad, cpu=plain, default=automatic)


def _spread(grad: Array, x: Array, stride: int) -> Array:
    """The gradient for a strided output at the places of `x`, 0 between them."""
    gaps = [
        (0, size - stride * (steps - 1) - 1, stride - 1)
        for size, steps in zip(x.shape[1:3], grad.shape[1:3], strict=True)
    ]
    return lax.pad(grad, jnp.zeros((), grad.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])


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
    rows, grads = moved.reshape(-1, size * channels), against.reshape(-1, size * features)
    product = lax.dot_general(rows, grads, (((0,), (0,)), ((), ())))
    return product.reshape(size, channels, size, features).transpose(0, 2, 1, 3)


spatial.defvjp(_spatial_forward, _spatial_backward)


def stem(x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"]) -> Float[Array, "B h w D"]:
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
        x, kernel, (2, 1), ((pad, pad), (0, 0)), dimension_numbers=_LAYOUT
    )


def depthwise(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k 1 C"], stride: int, dilation: int
) -> Float[Array, "B h w C"]:
    """A convolution of each channel by itself, with the padding of `correlate`.

    On CPUs a sum of shifted maps, each times its weights. All those of EfficientNet-Lite0 at stride
    16, batch 8, 129 x 97, float32: 26 ms where XLA's take 684, with gradients 273 where 7,852.
    """
    if _PLAIN.get():
        return _grouped(x, kernel, stride, dilation)
    return _depthwise(x, kernel, stride, dilation)


def _grouped(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    return correlate(x, kernel, stride, dilation, groups=x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, stride, dilation):
    rules = {"stride": stride, "dilation": dilation}
    shifted, grouped = partial(_sum_of_shifted, **rules), partial(_grouped, **rules)
    return lax.platform_dependent(x, kernel, cpu=shifted, default=grouped)


def _depthwise_forward(x, kernel, stride, dilation):
    return _depthwise(x, kernel, stride, dilation), (x, kernel)


def _depthwise_backward(stride, dilation, residuals, grad):
    def automatic(x, kernel, grad):
        return jax.vjp(partial(_grouped, stride=stride, dilation=dilation), x, kernel)[1](grad)

    def shifted(x, kernel, grad):
        grad_x = _sum_of_shifted(_spread(grad, x, stride), kernel[::-1, ::-1], 1, dilation)
        return grad_x, _depthwise_kernel_gradient(x, grad, kernel, stride, dilation)

    return lax.platform_dependent(*residuals, grad, cpu=shifted, default=automatic)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _sum_of_shifted(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    size, pad = kernel.shape[0], dilation * (kernel.shape[0] // 2)
    height, width = (stride * ((side - 1) // stride) + 1 for side in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    total = jnp.zeros((), jnp.float32)
    for i, j in itertools.product(range(size), repeat=2):
        top, left = dilation * i, dilation * j
        tap = padded[:, top : top + height : stride, left : left + width : stride]
        weights = kernel[i, j][None, None].astype(jnp.float32)
        total = total + tap.astype(jnp.float32) * weights
    return total.astype(x.dtype)


def _depthwise_kernel_gradient(x, grad, kernel, stride, dilation):
    """Row by row, with a sum for each tap that stays in place until the end.

    As one sum over the maps for each tap it takes twice as long.
    """
    size, pad = kernel.shape[0], dilation * (kernel.shape[0] // 2)
    rows, width = grad.shape[1], stride * (grad.shape[2] - 1) + 1
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def add_row(row, sums):
        of_grad = lax.dynamic_index_in_dim(grad, row, 1, keepdims=False).astype(jnp.float32)
        added = []
        for i in range(size):
            line = lax.dynamic_index_in_dim(padded, stride * row + dilation * i, 1, keepdims=False)
            for left in range(0, dilation * size, dilation):
                added.append(line[:, left : left + width : stride].astype(jnp.float32) * of_grad)
        return [a + b for a, b in zip(sums, added, strict=True)]

    zeros = jnp.zeros((grad.shape[0], *grad.shape[2:]), jnp.float32)
    sums = lax.fori_loop(0, rows, add_row, [zeros] * size**2)
    gradient = jnp.stack([s.sum((0, 1)) for s in sums])
    return gradient.reshape(kernel.shape).astype(kernel.dtype)


@jax.custom_vjp
def pointwise(x: Float[Array, "B H W C"], kernel: Float[Array, "C D"]) -> Float[Array, "B H W D"]:
    """A 1x1 convolution as one matrix product; XLA's convolution is half as fast on the CPU."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def _pointwise_forward(x, kernel):
    return pointwise(x, kernel), (x, kernel)


def _pointwise_backward(residuals, grad):
    # Automatic differentiation asks for the transposed weights' gradient, and XLA's CPU backend
    # then writes the transpose of every incoming gradient.
    x, kernel = residuals
    rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    grad_x = lax.dot_general(grad_rows, kernel, (((1,), (1,)), ((), ())))
    return grad_x.reshape(x.shape), lax.dot_general(rows, grad_rows, (((0,), (0,)), ((), ())))


pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """3x3 maximum at stride 2; the border of 1 never wins."""
    if _PLAIN.get():
        return _max_pool(x)
    return lax.platform_dependent(x, cpu=_max_pool_by_pairs, default=_max_pool)


def _max_pool(x: Array) -> Array:
    # Padded apart, since jax2onnx drops the padding of flax's pooling.
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = jnp.pad(x, border, constant_values=-jnp.inf)
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))


def _max_pool_by_pairs(x: Array) -> Array:
    # Rows, then columns, of comparisons: on CPUs the gradient of `reduce_window` is 10 times slower
    # than that of maxima of strided slices, and that 4 times slower than this.
    for axis in (1, 2):
        size = x.shape[axis]
        out = (size + 1) // 2
        border = [(1, 2 * out + 1 - size) if a == axis else (0, 0) for a in range(4)]
        x = jnp.pad(x, border, constant_values=-jnp.inf)
        x = x.reshape(*x.shape[:axis], out + 1, 2, *x.shape[axis + 1 :])
        even, odd = (lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in (0, 1))
        taps = [lax.slice_in_dim(even, i, i + out, axis=axis) for i in (0, 1)]
        taps.append(lax.slice_in_dim(odd, 0, out, axis=axis))
        x = functools.reduce(lambda a, b: jnp.where(a < b, b, a), taps)
    return x


def apart(*arrays: Array) -> Sequence[Array]:
    """Keeps CPUs from sharing work between the passes over an array before and after this.

    Shared would be its conversion to float32, written to memory and read again.
    """
    return lax.platform_dependent(
        *arrays,
        cpu=lambda *arrays: lax.optimization_barrier(arrays),
        default=lambda *arrays: arrays,
    )
