"""A wider network computes what the narrower one does, and its copies of a channel part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.pose.config import PoseConfig
from g_rmi.pose.task import PoseTask
from g_rmi.training.widen import widen

SMALL = {"depth": 26, "output_stride": 32, "crop_height": 65, "crop_width": 33, "radius": 5.0}
NARROW = PoseTask(PoseConfig(width=4, fpn_channels=8, **SMALL))
WIDE = PoseTask(PoseConfig(width=6, fpn_channels=20, **SMALL))


def variables_of(task):
    """As after a training: no scale is 0, no mean 0, no variance 1."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(task.init, jax.random.key(0))

    def draw(path, leaf):
        low, high = (0.5, 1.5) if path[-1].key in ("scale", "var") else (-0.4, 0.4)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def pair():
    narrow = variables_of(NARROW)
    return narrow, widen(narrow, jax.eval_shape(WIDE.init, jax.random.key(0)))


def test_the_wider_network_computes_the_same(pair):
    narrow, wide = pair
    fresh = jax.eval_shape(WIDE.init, jax.random.key(0))
    assert jax.tree.map(np.shape, wide) == jax.tree.map(np.shape, fresh)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(wide))
    image = np.random.default_rng(1).integers(0, 256, (2, 65, 33, 3), np.uint8)
    wanted = jax.jit(NARROW.predict)(narrow, image)
    found = jax.jit(WIDE.predict)(wide, image)
    scale = np.abs(wanted["heatmap"]).max()
    assert scale > 1
    np.testing.assert_allclose(found["heatmap"], wanted["heatmap"], atol=1e-4 * scale)
    np.testing.assert_allclose(found["offset"], wanted["offset"], atol=1e-4 * scale)


def test_copies_of_a_channel_send_different_shares():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype(np.float32)
    wide = widen({"kernel": kernel}, {"kernel": np.zeros((3, 3, 10, 5))})["kernel"]
    copies = [0, 4, 8]  # the first channel's
    np.testing.assert_allclose(wide[:, :, copies].sum(axis=2), kernel[:, :, 0], rtol=1e-5)
    shares = wide[0, 0, copies] / kernel[0, 0, 0]
    assert (shares > 0.1).all()
    assert np.abs(shares[0] - shares[1]).min() > 1e-4
    np.testing.assert_allclose(wide[:, :, 3] + wide[:, :, 7], kernel[:, :, 3], rtol=1e-6)


def test_what_does_not_fit_is_left_as_it_is():
    given = {"a": np.ones((3, 3, 8, 4)), "b": np.ones(8), "c": np.ones((2, 2)), "d": {"e": 1.0}}
    like = {"a": np.ones((3, 3, 4, 8)), "b": np.ones(4), "c": np.ones((1, 1, 2, 2))}
    left = widen(given, like)
    assert all(left[name] is given[name] for name in "abc")
    assert left["d"] == {"e": 1.0}
