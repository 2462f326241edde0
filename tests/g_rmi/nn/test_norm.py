import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from g_rmi.nn.norm import EPSILON, Norm, batch_norm


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (4, 3, 5, 6)), jnp.float32)


VARIABLES = {
    "params": {
        "scale": jnp.array([0.5, 1.0, 2.0, -1.0, 0.0, 3.0]),
        "bias": jnp.array([1.0, -1.0, 0.0, 0.5, 2.0, 0.0]),
    },
    "batch_stats": {"mean": jnp.arange(6.0), "var": 1.0 + jnp.arange(6.0)},
}


def normalised(x, mean, var):
    scale, bias = (np.asarray(VARIABLES["params"][name]) for name in ("scale", "bias"))
    return (np.asarray(x) - mean) / np.sqrt(var + EPSILON) * scale + bias


def test_batch_in_training(x):
    y, updates = Norm("batch").apply(VARIABLES, x, train=True, mutable=["batch_stats"])
    rows = np.asarray(x, np.float64).reshape(-1, 6)
    mean, var = rows.mean(0), rows.var(0)
    np.testing.assert_allclose(y, normalised(x, mean, var), atol=1e-5)
    stats = updates["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.9 * np.arange(6) + 0.1 * mean, rtol=1e-5)
    unbiased = var * 60 / 59
    np.testing.assert_allclose(stats["var"], 0.9 * (1 + np.arange(6)) + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize(("kind", "train"), [("batch", False), ("frozen", False), ("frozen", True)])
def test_running_statistics(x, kind, train):
    y, updates = Norm(kind).apply(VARIABLES, x, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(y, normalised(x, np.arange(6), 1 + np.arange(6)), atol=1e-5)
    for new, old in zip(jax.tree.leaves(updates), jax.tree.leaves(VARIABLES["batch_stats"])):
        np.testing.assert_array_equal(new, old)


def test_frozen_has_no_gradient_and_batch_has(x):
    def grad(kind):
        def loss(params):
            variables = {**VARIABLES, "params": params}
            y, _ = Norm(kind).apply(variables, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y**2)

        return jax.grad(loss)(VARIABLES["params"])

    assert all((g == 0).all() for g in jax.tree.leaves(grad("frozen")))
    assert all((g != 0).any() for g in jax.tree.leaves(grad("batch")))


def test_group_is_per_example(x):
    """6 channels: groups of one, so each channel is normalised over its own map."""
    variables = {"params": VARIABLES["params"]}
    y = Norm("group").apply(variables, x, train=True)
    mean, var = (np.asarray(f(x, axis=(1, 2), keepdims=True)) for f in (jnp.mean, jnp.var))
    np.testing.assert_allclose(y, normalised(x, mean, var), atol=1e-5)
    np.testing.assert_allclose(Norm("group").apply(variables, x[2:3]), y[2:3], atol=1e-6)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 24), (40, 20), (7, 7), (256, 32)])
def test_number_of_groups(channels, groups):
    """On a single pixel each group of consecutive channels becomes the same ramp."""
    x = jnp.arange(float(channels))[None, None, None] ** 1.5
    y, _ = Norm("group").init_with_output(jax.random.key(0), x)
    rows = y.reshape(groups, -1)
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-3)
    if channels > groups:
        np.testing.assert_allclose(rows.std(1), 1, atol=1e-3)


@pytest.mark.parametrize("kind", ["batch", "group"])
def test_statistics_are_float32(kind):
    """In bfloat16 a spread of 1 around 1000 would vanish from the sums."""
    x = jnp.asarray(np.random.default_rng(0).normal(64.0, 1.0, (8, 16, 16, 4)), jnp.bfloat16)
    norm = Norm(kind, dtype=jnp.bfloat16)
    variables = norm.init(jax.random.key(0), x)
    y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32).std(), 1.0, atol=0.02)
    np.testing.assert_allclose(y.astype(jnp.float32).mean(), 0.0, atol=0.02)


def test_gradient_against_finite_differences(x):
    from jax.test_util import check_grads

    @jax.jit
    def f(x, scale):
        variables = {**VARIABLES, "params": {**VARIABLES["params"], "scale": scale}}
        y, _ = Norm("batch").apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sin(y)

    inputs = x[:2, :2, :2], VARIABLES["params"]["scale"]
    check_grads(f, inputs, order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(("dtype", "accuracy"), [(jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)])
def test_gradients_against_automatic_ones(x, dtype, accuracy):
    scale, bias = VARIABLES["params"]["scale"], VARIABLES["params"]["bias"]
    x = x.astype(dtype)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), dtype)

    def plain(x, scale, bias):
        centred = x - x.mean((0, 1, 2), keepdims=True)
        rate = 1 / jnp.sqrt((centred**2).mean((0, 1, 2)) + EPSILON)
        return centred * (rate * scale)[None, None, None] + bias[None, None, None]

    @jax.jit
    def gradients(x, scale, bias, weight):
        return jax.vjp(lambda *inputs: batch_norm(*inputs, dtype)[0], x, scale, bias)[1](weight)

    found = gradients(x, scale, bias, weight)
    wanted = jax.vjp(plain, x.astype(jnp.float32), scale, bias)[1](weight.astype(jnp.float32))
    assert [g.dtype for g in found] == [dtype, jnp.float32, jnp.float32]
    for f, w in zip(found, wanted, strict=True):
        f = np.asarray(f, np.float32)
        np.testing.assert_allclose(f, w, rtol=accuracy, atol=accuracy * np.abs(w).max())


def test_statistics_are_those_of_the_whole_sharded_batch(x):
    """Each device holds one example; all of them differ. The gradients pass through both."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))

    @jax.jit
    def apply(x):
        def norm(x):
            return Norm("batch").apply(VARIABLES, x, train=True, mutable=["batch_stats"])

        return norm(x), jax.grad(lambda x: jnp.sin(norm(x)[0]).sum())(x)

    for a, b in zip(jax.tree.leaves(apply(sharded)), jax.tree.leaves(apply(x)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_single_value_does_not_divide_by_zero():
    norm = Norm("batch")
    x = jnp.full((1, 1, 1, 3), 5.0)
    variables = norm.init(jax.random.key(0), x)
    y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, 0)
    assert all(jnp.isfinite(v).all() for v in jax.tree.leaves(updates))


def test_unknown_kind():
    with pytest.raises(ValueError, match=r'norm = .layer.: must be "batch", "frozen" or "group"'):
        Norm("layer").init(jax.random.key(0), jnp.zeros((1, 1, 1, 1)))
