import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jax import numpy as jnp

from g_rmi.nn.resnet import UNITS, Block4, ResNet, Unit, middle_unit
from g_rmi.nn.rewrites import max_pool
from g_rmi.training.state import overlay
from tests.oracles import conv as oracle

STRIDES = {8: (4, 8, 8, 8), 16: (4, 8, 16, 16), 32: (4, 8, 16, 32)}


@functools.cache
def small(output_stride=8, norm="batch", dtype=jnp.float32, remat=False):
    return ResNet(26, output_stride, 4, norm, dtype, remat)


@functools.cache
def small_variables(norm="batch"):
    """Far from the initial zeros and ones; drawn by numpy, which needs no compilation."""
    image = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    shapes = flatten_dict(jax.eval_shape(small(norm=norm).init, jax.random.key(0), image))
    random = np.random.default_rng(0)
    variables = {}
    for path, value in shapes.items():
        if path[-1] == "kernel":
            fan_in = np.prod(value.shape[:-1])
            drawn = random.normal(0, np.sqrt(2 / fan_in), value.shape)
        elif path[-1] in ("bias", "mean"):
            drawn = random.normal(0, 0.1, value.shape)
        else:
            drawn = random.uniform(0.5, 1, value.shape)
        variables[path] = jnp.asarray(drawn, jnp.float32)
    return unflatten_dict(variables)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(size=(2, 49, 33, 3)).astype(np.float32)


@pytest.mark.parametrize("output_stride", STRIDES)
@pytest.mark.parametrize("shape", [(353, 257), (64, 50)], ids=str)
def test_shapes(output_stride, shape):
    x = jax.ShapeDtypeStruct((2, *shape, 3), jnp.float32)
    network = ResNet(depth=26, width=64, output_stride=output_stride)
    out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    assert list(out) == ["stem", "middle", "block1", "block2", "block3", "block4"]
    strides = (2, STRIDES[output_stride][2], *STRIDES[output_stride])
    channels = (64, 1024, 256, 512, 1024, 2048)
    for y, stride, c in zip(out.values(), strides, channels, strict=True):
        assert y.shape == (2, *((n - 1) // stride + 1 for n in shape), c)


def test_the_papers_grid():
    x = jax.ShapeDtypeStruct((1, 353, 257, 3), jnp.float32)
    network = ResNet(depth=101, output_stride=8)
    out, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    assert out["block4"].shape == (1, 45, 33, 2048)
    # The paper counts 42.6 million parameters with its heads; torchvision's ResNet-101 has
    # 44,549,160, of which 2,049,000 are the classifier's.
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == 44_549_160 - 2_049_000


@pytest.mark.parametrize("depth", UNITS)
def test_layers_count_to_the_depth(depth):
    network = ResNet(depth=depth)
    x = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x)["params"]
    layers = [p for p in flatten_dict(params) if p[-1] == "kernel" and "shortcut_conv" not in p]
    assert len(layers) + 1 == depth


def test_the_middle_is_the_papers_layer_50():
    assert middle_unit(101) == 8  # the ninth: 1 + 9 + 12 + 27 = 49 layers
    assert [middle_unit(depth) for depth in (26, 50, 152)] == [0, 0, 13]


def test_the_order_survives_jit(image):
    out = jax.jit(small().apply)(small_variables(), image)
    assert list(out) == ["stem", "middle", "block1", "block2", "block3", "block4"]
    assert out["middle"].shape == out["block3"].shape


def test_output_strides_agree_where_they_share_positions(image):
    """Dilation computes the same features on a finer grid.

    All blocks up to the first dilated one are the same; in that block the first unit at least: its
    3x3 convolution has the same dilation and a stride more, so every other position is shared.
    """
    variables = small_variables()
    out = {s: jax.jit(small(s).apply)(variables, image) for s in STRIDES}
    for coarse, fine in ((32, 16), (16, 8)):
        for name in {16: ("block1", "block2"), 32: ("block1", "block2", "block3")}[coarse]:
            np.testing.assert_array_equal(out[coarse][name], out[fine][name])
    # "middle" of depth 26 is the first unit of block 3.
    np.testing.assert_allclose(
        out[16]["middle"], out[8]["middle"][:, ::2, ::2], rtol=1e-4, atol=1e-4
    )


def test_dilation_keeps_the_later_units_too():
    """Away from borders a dilated block equals the strided one on the shared positions.

    The first unit of the dilated block reads its input at the old distance, so the strided units
    after it see the shared positions at twice that distance: exactly what dilation 2 does.
    """
    variables = small_variables()
    x = np.random.default_rng(1).normal(size=(1, 257, 225, 3)).astype(np.float32)
    coarse = jax.jit(small(32).apply)(variables, x)["block4"]
    fine = jax.jit(small(16).apply)(variables, x)["block4"][:, ::2, ::2]
    scale = np.abs(coarse).max()
    np.testing.assert_allclose(coarse[:, 2:-2, 2:-2], fine[:, 2:-2, 2:-2], atol=1e-5 * scale)


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_types(norm, image):
    variables = small_variables(norm)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    network = small(norm=norm, dtype=jnp.bfloat16)
    out = jax.jit(network.apply)(variables, image)
    assert {y.dtype for y in out.values()} == {jnp.dtype("bfloat16")}
    wanted = jax.jit(small(norm=norm).apply)(variables, image)
    for name, y in out.items():
        error = np.linalg.norm(y.astype(jnp.float32) - wanted[name])
        assert error < 0.1 * np.linalg.norm(wanted[name]), name


def gradients(network, variables, image):
    def loss(params):
        out, updates = network.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return jnp.square(out["block4"]).mean(), updates

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


def test_training_updates_all_statistics_and_rematerialisation_changes_nothing(image):
    variables = small_variables()
    grad, updates = gradients(small(), variables, image)
    for path, new in flatten_dict(updates["batch_stats"]).items():
        assert (new != flatten_dict(variables["batch_stats"])[path]).any(), path
    assert all((g != 0).any() for g in jax.tree.leaves(grad))
    again, updates_again = gradients(small(remat=True), variables, image)
    for a, b in zip(jax.tree.leaves((grad, updates)), jax.tree.leaves((again, updates_again))):
        assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(a)


def test_inference_is_the_default(image):
    out, updates = small().apply(small_variables(), image, mutable=["batch_stats"])
    for new, old in zip(
        jax.tree.leaves(updates), jax.tree.leaves(small_variables()["batch_stats"])
    ):
        np.testing.assert_array_equal(new, old)
    alone = small().apply(small_variables(), image[:1])
    np.testing.assert_allclose(out["block4"][:1], alone["block4"], rtol=1e-4, atol=1e-5)


def test_a_fresh_unit_is_its_shortcut():
    """The last scale of a unit starts at zero."""
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 5, 4, 8)), jnp.float32)
    y, _ = Unit(2).init_with_output(jax.random.key(0), x, False)
    np.testing.assert_array_equal(y, x)


def test_a_deeper_network_begins_as_the_shallower_one_it_is_given(image):
    deep = ResNet(50, 8, 4)
    fresh = jax.jit(deep.init)(jax.random.key(0), image[:1, :33])
    assert "block3_unit5" in fresh["params"]
    begun = overlay(fresh, small_variables())
    wanted = jax.jit(small().apply)(small_variables(), image)
    found = jax.jit(deep.apply)(begun, image)
    for block in ("block1", "block4"):
        np.testing.assert_allclose(found[block], wanted[block], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "accelerator"])
@pytest.mark.parametrize("shape", [(9, 7), (8, 6), (1, 2)], ids=str)
def test_max_pool(shape, platform, monkeypatch):
    if platform == "accelerator":  # whose way runs here, too
        monkeypatch.setattr(lax, "platform_dependent", lambda x, cpu, default: default(x))
    x = jnp.asarray(np.random.default_rng(0).normal(-5, 1, size=(2, *shape, 3)), jnp.float32)
    np.testing.assert_array_equal(max_pool(x), oracle.max_pool(np.asarray(x)).astype(np.float32))
    grad = jax.grad(lambda x: (max_pool(x) * jnp.arange(3.0)[None, None, None]).sum())(x)
    windows = ((shape[0] + 1) // 2) * ((shape[1] + 1) // 2)
    np.testing.assert_allclose(grad.sum((1, 2)), windows * np.tile(np.arange(3.0), (2, 1)))
    assert set(np.unique(grad[..., 2])) <= {0.0, 2.0, 4.0, 6.0, 8.0}


def test_max_pool_hands_out_the_gradient_of_ties_once():
    grad = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_allclose(grad.sum(), 4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_lower_for_accelerators(dtype, image):
    network = small(dtype=dtype)

    def loss(params):
        out, _ = network.apply(
            {**small_variables(), "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return out["block4"].astype(jnp.float32).sum()

    step = jax.jit(jax.grad(loss))
    exported = jax.export.export(step, platforms=["tpu", "cuda"])(small_variables()["params"])
    assert exported.platforms == ("tpu", "cuda")


def test_wrong_choices():
    x = jnp.zeros((1, 9, 9, 3))
    with pytest.raises(ValueError, match=r"depth = 34: must be one of 26, 50, 101, 152"):
        ResNet(34).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"output_stride = 4: must be one of 8, 16, 32"):
        ResNet(50, 4).init(jax.random.key(0), x)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_padding_beside_a_picture_changes_nothing(image, output_stride):
    network, rows, columns = small(output_stride), 37, 22
    padded = image.copy()
    padded[:, rows:] = padded[:, :, columns:] = 7.0
    size = jnp.array([[rows, columns]] * 2)
    apply = jax.jit(network.apply)
    alone = apply(small_variables(), image[:, :rows, :columns])
    beside = apply(small_variables(), padded, size=size)
    for (name, a), b in zip(alone.items(), beside.values(), strict=True):
        h, w = a.shape[1:3]
        np.testing.assert_allclose(b[:, :h, :w], a, atol=1e-4, err_msg=name)
        if name != "middle":
            assert not b[:, h:].any(), name
            assert not b[:, :, w:].any(), name


def test_block4_alone_equals_the_last_block():
    variables = small_variables()
    features = jax.random.normal(jax.random.key(0), (2, 7, 7, 64))
    own = {
        kind: {name: value for name, value in tree.items() if name.startswith("block4")}
        for kind, tree in variables.items()
    }
    block = Block4(26, 4)
    found = jax.jit(block.apply)(own, features)
    expected = features
    for unit in range(UNITS[26][3]):
        name = f"block4_unit{unit}"
        variables = {kind: tree[name] for kind, tree in own.items()}
        expected = Unit(32).apply(variables, expected, False)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_blocks_that_are_not_needed_are_not_built():
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    out, variables = jax.eval_shape(
        ResNet(26, 16, 4, blocks=3).init_with_output, jax.random.key(0), x
    )
    assert list(out) == ["stem", "middle", "block1", "block2", "block3"]
    assert not any(name.startswith("block4") for name in variables["params"])
