import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.nn.conv import Conv, ConvTranspose, conv2d, conv_transpose2d
from g_rmi.nn.rewrites import depthwise, plain
from tests.oracles import conv as oracle

# (size, stride, dilation, channels): every kind of convolution in the networks.
KINDS = [
    (7, 2, 1, 3),
    (1, 1, 1, 5),
    (1, 2, 1, 5),
    (3, 1, 1, 5),
    (3, 2, 1, 5),
    (3, 1, 2, 5),
    (3, 1, 4, 5),
    (3, 2, 1, 3),
]
SIZES = [(9, 8), (2, 1)]


@pytest.mark.parametrize(("dtype", "accuracy"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_against_loops(kind, shape, dtype, accuracy):
    size, stride, dilation, channels = kind
    random = np.random.default_rng(size + stride)
    x = random.normal(size=(2, *shape, channels))
    kernel = random.normal(size=(size, size, channels, 4))
    options = {"stride": stride, "dilation": dilation}
    wanted = oracle.conv2d(x, kernel, **options)
    grad = random.normal(size=wanted.shape)

    @jax.jit
    def both(x, kernel, grad):
        y, vjp = jax.vjp(lambda x, kernel: conv2d(x, kernel, **options), x, kernel)
        return y, *vjp(grad)

    found = both(*(jnp.asarray(a, dtype) for a in (x, kernel, grad)))
    wanted = wanted, *oracle.conv2d_gradients(x, kernel, grad, **options)
    for f, w in zip(found, wanted, strict=True):
        f = np.asarray(f, np.float32)
        np.testing.assert_allclose(f, w, rtol=accuracy, atol=accuracy * np.abs(w).max())


@pytest.mark.parametrize(("dtype", "accuracy"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [*SIZES, (12, 17)], ids=str)
@pytest.mark.parametrize("kind", [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2), (3, 1, 4)], ids=str)
def test_depthwise_against_loops(kind, shape, dtype, accuracy):
    """Each channel is a convolution by itself; in the form for CPUs and in the library's."""
    size, stride, dilation = kind
    random = np.random.default_rng(size + stride)
    x, kernel = random.normal(size=(2, *shape, 3)), random.normal(size=(size, size, 1, 3))
    options = {"stride": stride, "dilation": dilation}
    channels = [(x[..., c : c + 1], kernel[..., c : c + 1]) for c in range(3)]
    y = np.concatenate([oracle.conv2d(*channel, **options) for channel in channels], -1)
    grad = random.normal(size=y.shape)
    gradients = [
        oracle.conv2d_gradients(*channel, grad[..., c : c + 1], **options)
        for c, channel in enumerate(channels)
    ]
    wanted = y, *(np.concatenate(parts, -1) for parts in zip(*gradients, strict=True))

    def both(x, kernel, grad):
        y, vjp = jax.vjp(lambda x, kernel: depthwise(x, kernel, stride, dilation), x, kernel)
        return y, *vjp(grad)

    given = [jnp.asarray(a, dtype) for a in (x, kernel, grad)]
    found = jax.jit(both)(*given)
    with plain():
        library = jax.jit(lambda x, kernel: depthwise(x, kernel, stride, dilation))(*given[:2])
    for f, w in zip((library, *found), (y, *wanted), strict=True):
        assert f.dtype == dtype
        f = np.asarray(f, np.float32)
        np.testing.assert_allclose(f, w, rtol=accuracy, atol=accuracy * np.abs(w).max())


def test_depthwise_on_accelerators_is_one_convolution():
    """The library's form, forward and backward, in what is lowered for them."""
    x, kernel = jnp.ones((1, 9, 9, 4)), jnp.ones((3, 3, 1, 4))

    def loss(x, kernel):
        return jnp.square(depthwise(x, kernel, 1, 1)).sum()

    for platform, count in (("cpu", 0), ("tpu", 3), ("cuda", 3)):
        traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(x, kernel)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution(") == count, platform


@pytest.mark.parametrize(("dtype", "accuracy"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (1, 2)], ids=str)
def test_transposed_against_loops(shape, dtype, accuracy):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, *shape, 5)), random.normal(size=(3, 3, 5, 4))
    found = jax.jit(conv_transpose2d)(jnp.asarray(x, dtype), jnp.asarray(kernel, dtype))
    wanted = oracle.conv_transpose2d(x, kernel)
    assert found.shape == (2, 2 * shape[0] - 1, 2 * shape[1] - 1, 4)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(found, np.float32), wanted, rtol=accuracy, atol=accuracy * np.abs(wanted).max()
    )


def test_transposed_is_the_adjoint_of_stride_two_and_mirrors_exactly():
    random = np.random.default_rng(0)
    x, y = (jnp.asarray(random.normal(size=s), jnp.float32) for s in ((1, 5, 4, 3), (1, 9, 7, 2)))
    kernel = jnp.asarray(random.normal(size=(3, 3, 3, 2)), jnp.float32)
    back = jnp.vdot(conv2d(y, kernel.swapaxes(2, 3), stride=2), x)
    np.testing.assert_allclose(jnp.vdot(conv_transpose2d(x, kernel), y), back, rtol=1e-5)
    mirrored = conv_transpose2d(x[:, :, ::-1], kernel[:, ::-1])[:, :, ::-1]
    np.testing.assert_allclose(mirrored, conv_transpose2d(x, kernel), atol=1e-5)


def test_a_transposed_layer_keeps_its_weights_in_float32():
    layer = ConvTranspose(4, use_bias=True, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 3, 2, 5)))
    assert (y.shape, y.dtype) == ((1, 5, 3, 4), jnp.bfloat16)
    shapes = {name: (p.shape, p.dtype) for name, p in variables["params"].items()}
    assert shapes == {"kernel": ((3, 3, 5, 4), jnp.float32), "bias": ((4,), jnp.float32)}


def test_gradients_of_large_maps_in_bfloat16():
    """With oneDNN's convolutions jaxlib 0.12 gets the kernel's wrong by itself at this size."""
    random = np.random.default_rng(0)
    x, grad = (jnp.asarray(random.normal(size=(8, 64, 88, 32)), jnp.bfloat16) for _ in range(2))
    kernel = jnp.asarray(random.normal(size=(3, 3, 32, 32)), jnp.bfloat16)

    @jax.jit
    def both(x, kernel, grad):
        return jax.vjp(conv2d, x, kernel)[1](grad)

    wanted = both(*(a.astype(jnp.float32) for a in (x, kernel, grad)))
    for f, w in zip(both(x, kernel, grad), wanted, strict=True):
        np.testing.assert_allclose(f.astype(jnp.float32), w, rtol=2e-2, atol=1e-2 * np.abs(w).max())


def test_eager_and_vmap():
    random = np.random.default_rng(0)
    for size, stride, dilation, channels in KINDS:
        x = jnp.asarray(random.normal(size=(3, 1, 5, 6, channels)), jnp.float32)
        kernel = jnp.asarray(random.normal(size=(size, size, channels, 2)), jnp.float32)

        def f(x, kernel=kernel, stride=stride, dilation=dilation):
            return conv2d(x, kernel, stride=stride, dilation=dilation)

        wanted = np.stack([f(row) for row in x])
        np.testing.assert_allclose(jax.vmap(f)(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_types(dtype):
    conv = Conv(4, 3, use_bias=True, dtype=dtype)
    x = jnp.ones((1, 5, 5, 2))
    variables = conv.init(jax.random.key(0), x)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert conv.apply(variables, x).dtype == dtype
    grad = jax.grad(lambda v: conv.apply(v, x).astype(jnp.float32).sum())(variables)
    assert {p.dtype for p in jax.tree.leaves(grad)} == {jnp.dtype("float32")}


def test_the_bias_is_added():
    conv = Conv(3, 1, use_bias=True, bias_init=jax.nn.initializers.constant(-4.5))
    y, variables = conv.init_with_output(jax.random.key(0), jnp.zeros((1, 2, 2, 5)))
    np.testing.assert_array_equal(y, np.full((1, 2, 2, 3), -4.5))
    assert variables["params"]["bias"].shape == (3,)


def test_initial_scale_is_he_fan_out():
    kernel = Conv(256, 3).init(jax.random.key(0), jnp.zeros((1, 3, 3, 8)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 256)), rtol=0.03)
