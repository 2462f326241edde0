"""EfficientNet-Lite; the original's features are checked in `tests/g_rmi/pretrained`."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import numpy as jnp

from g_rmi.nn.efficientnet import Block4, EfficientNetLite, EfficientNetLiteConfig, units

STRIDES = {8: (4, 8, 8, 8), 16: (4, 8, 16, 16), 32: (4, 8, 16, 32)}


@functools.cache
def small(output_stride=8, norm="batch", dtype=jnp.float32):
    return EfficientNetLite(0.1, 0.3, output_stride, norm, dtype)


@functools.cache
def small_variables(norm="batch"):
    """Far from the initial zeros and ones; drawn by numpy, which needs no compilation."""
    image = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    shapes = flatten_dict(jax.eval_shape(small(norm=norm).init, jax.random.key(0), image))
    random, variables = np.random.default_rng(0), {}
    for path, value in shapes.items():
        if path[-1] == "kernel":
            drawn = random.normal(0, np.sqrt(2 / np.prod(value.shape[:-1])), value.shape)
        elif path[-1] in ("bias", "mean"):
            drawn = random.normal(0, 0.3, value.shape)
        else:
            drawn = random.uniform(0.5, 1, value.shape)
        variables[path] = jnp.asarray(drawn, jnp.float32)
    return unflatten_dict(variables)


@functools.cache
def features_of(output_stride=8, norm="batch", dtype=jnp.float32):
    return jax.jit(small(output_stride, norm, dtype).apply)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(size=(2, 49, 33, 3)).astype(np.float32)


@pytest.mark.parametrize("output_stride", STRIDES)
@pytest.mark.parametrize("shape", [(353, 257), (64, 50)], ids=str)
def test_shapes(output_stride, shape):
    x = jax.ShapeDtypeStruct((2, *shape, 3), jnp.float32)
    network = EfficientNetLiteConfig().features(output_stride=output_stride)
    out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    assert list(out) == ["stem", "middle", "block1", "block2", "block3", "block4"]
    strides = (2, STRIDES[output_stride][2], *STRIDES[output_stride])
    channels = (32, 80, 24, 40, 112, 320)
    for y, stride, c in zip(out.values(), strides, channels, strict=True):
        assert y.shape == (2, *((n - 1) // stride + 1 for n in shape), c)


def test_sizes_of_the_family():
    """Units and channels of Lite0, Lite1 and Lite2, counted in Google's released files."""
    for width, depth, count, channels in (
        (1.0, 1.0, 16, [16, 24, 40, 80, 112, 192, 320]),
        (1.0, 1.1, 21, [16, 24, 40, 80, 112, 192, 320]),
        (1.1, 1.2, 21, [16, 24, 48, 88, 120, 208, 352]),
    ):
        found = units(width, depth)
        assert len(found) == count
        assert sorted({unit.channels for unit in found}) == channels
    assert [(u.name, u.stride) for u in units(1.0, 1.0)[:4]] == [
        *(("block1_unit0", 1), ("block1_unit1", 2), ("block1_unit2", 1), ("block2_unit0", 2))
    ]


def test_output_strides_agree_where_they_share_positions(image):
    variables = small_variables()
    out = {stride: features_of(stride)(variables, image) for stride in STRIDES}
    for coarse, fine in ((32, 16), (16, 8)):
        for name in {16: ("block1", "block2"), 32: ("block1", "block2", "block3")}[coarse]:
            np.testing.assert_array_equal(out[coarse][name], out[fine][name])


def test_dilation_keeps_the_later_units_too():
    """Away from borders a dilated block equals the strided one on the shared positions."""
    x = np.random.default_rng(1).normal(size=(1, 257, 225, 3)).astype(np.float32)
    coarse = features_of(32)(small_variables(), x)["block4"]
    fine = features_of(16)(small_variables(), x)["block4"][:, ::2, ::2]
    away = np.s_[:, 3:-3, 3:-3]
    assert coarse[away].size
    np.testing.assert_allclose(coarse[away], fine[away], atol=1e-5 * np.abs(coarse).max())


@pytest.mark.parametrize("output_stride", STRIDES)
def test_the_mirror_is_exact(output_stride):
    """On crops of 8 n + 1 pixels: with mirrored kernels, mirrored pictures have mirrored maps."""
    x = np.random.default_rng(2).normal(size=(1, 41, 65, 3)).astype(np.float32)
    variables = flatten_dict(small_variables())
    mirrored = unflatten_dict(
        {p: v[:, ::-1] if p[-1] == "kernel" else v for p, v in variables.items()}
    )
    found = features_of(output_stride)(mirrored, x[:, :, ::-1])
    for name, y in features_of(output_stride)(small_variables(), x).items():
        error = np.abs(found[name][:, :, ::-1] - y).max()
        assert error < 1e-5 * np.abs(y).max(), name


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_types(norm, image):
    variables = small_variables(norm)
    out = features_of(norm=norm, dtype=jnp.bfloat16)(variables, image)
    assert {y.dtype for y in out.values()} == {jnp.dtype("bfloat16")}
    wanted = features_of(norm=norm)(variables, image)
    for name, y in out.items():
        error = np.linalg.norm(y.astype(jnp.float32) - wanted[name])
        assert error < 0.1 * np.linalg.norm(wanted[name]), name


def test_training_updates_all_statistics_and_rematerialisation_changes_nothing(image):
    given = {
        kind: {name: value for name, value in tree.items() if name[:6] not in ("block3", "block4")}
        for kind, tree in small_variables().items()
    }

    def gradients(**options):
        network = EfficientNetLite(0.1, 0.3, 8, blocks=2, **options)

        def loss(params):
            variables = {**given, "params": params}
            out, updates = network.apply(variables, image, train=True, mutable=["batch_stats"])
            return (out["block2"] ** 3).mean(), updates

        return jax.jit(jax.grad(loss, has_aux=True))(given["params"])

    grad, updates = gradients()
    before = flatten_dict(given["batch_stats"])
    for path, new in flatten_dict(updates["batch_stats"]).items():
        assert (new != before[path]).any(), path
    assert all((g != 0).any() for g in jax.tree.leaves(grad))
    again = gradients(remat=True)
    for a, b in zip(jax.tree.leaves((grad, updates)), jax.tree.leaves(again), strict=True):
        # What batch norm makes blind to a bias has gradients of nothing but rounding.
        assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(a) + 1e-6


@pytest.mark.parametrize("output_stride", [8, 16])
def test_padding_beside_a_picture_changes_nothing(image, output_stride):
    rows, columns = 37, 22
    padded = image.copy()
    padded[:, rows:] = padded[:, :, columns:] = 7.0
    size = jnp.array([[rows, columns]] * 2)
    alone = features_of(output_stride)(small_variables(), image[:, :rows, :columns])
    beside = features_of(output_stride)(small_variables(), padded, size=size)
    for (name, a), b in zip(alone.items(), beside.values(), strict=True):
        h, w = a.shape[1:3]
        np.testing.assert_allclose(b[:, :h, :w], a, atol=1e-4, err_msg=name)
        assert not b[:, h:].any(), name
        assert not b[:, :, w:].any(), name


def test_block4_alone_is_that_of_the_network(image):
    """Of stride 16, whose block 4 strides nowhere; its first unit still has dilation 1."""
    out = features_of(16)(small_variables(), image)
    own = {
        kind: {name: value for name, value in tree.items() if name.startswith("block4")}
        for kind, tree in small_variables().items()
    }
    one, two = (jax.jit(Block4(0.1, 0.3, dilation=d).apply)(own, out["block3"]) for d in (1, 2))
    assert one.shape == two.shape == out["block4"].shape
    middle = np.s_[:, 1, 1]
    assert np.abs(one - two)[middle].max() > 1e-3


def test_blocks_that_are_not_needed_are_not_built():
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    network = EfficientNetLite(0.1, 0.3, 16, blocks=3)
    out, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    assert list(out) == ["stem", "middle", "block1", "block2", "block3"]
    assert not any(name.startswith("block4") for name in variables["params"])


def test_wrong_choices():
    with pytest.raises(ValueError, match=r"output_stride = 4: must be one of 8, 16, 32"):
        EfficientNetLite(output_stride=4).init(jax.random.key(0), jnp.zeros((1, 9, 9, 3)))
    with pytest.raises(ValueError, match=r"^width = 0.0: must be positive"):
        EfficientNetLiteConfig(width=0.0)
