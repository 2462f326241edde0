"""The pose losses against numbers worked out by hand and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np

from g_rmi.nn.losses import huber
from g_rmi.pose.losses import heatmap_loss, offset_loss


def test_heatmap_loss_by_hand():
    # -log sigmoid(2), -log(1 - sigmoid(-1)), and a position left out.
    logits = jnp.array([[[2.0], [-1.0], [50.0]]])
    target = jnp.array([[[1.0], [0.0], [0.0]]])
    include = jnp.array([[[True], [True], [False]]])
    expected = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(heatmap_loss(logits, target, include), expected, rtol=1e-6)


def test_heatmap_loss_of_extreme_logits_is_finite():
    logits = jnp.array([[[1e4], [-1e4]]])
    wrong = jnp.array([[[0.0], [1.0]]])
    include = jnp.ones((1, 2, 1), bool)
    assert heatmap_loss(logits, wrong, include) == 2e4
    gradient = jax.grad(lambda z: heatmap_loss(z, wrong, include))(logits)
    np.testing.assert_array_equal(gradient, [[[1.0], [-1.0]]])


def test_huber_by_hand():
    np.testing.assert_allclose(huber(jnp.array([0.0, 0.5, 2.0, 10.0]), 2.0), [0, 0.125, 2, 18])


def test_offset_loss_is_the_huber_of_the_distance():
    target = jnp.zeros((1, 2, 1, 2))
    offset = jnp.array([[[[3.0, 4.0]], [[0.3, 0.4]]]])
    everywhere = jnp.ones((1, 2, 1), bool)
    np.testing.assert_allclose(
        offset_loss(offset, target, everywhere, delta=1.0), 4.5 + 0.125, rtol=1e-6
    )
    first = jnp.array([[[True], [False]]])
    np.testing.assert_allclose(offset_loss(offset, target, first, delta=1.0), 4.5, rtol=1e-6)


def test_offset_gradient_is_bounded_and_zero_at_the_target():
    everywhere = jnp.ones((1, 1, 1), bool)

    def loss(offset):
        return offset_loss(offset, jnp.zeros((1, 1, 1, 2)), everywhere, delta=1.0)

    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros((1, 1, 1, 2))), np.zeros((1, 1, 1, 2)))
    far = jax.grad(loss)(jnp.array([[[[300.0, 400.0]]]]))
    np.testing.assert_allclose(far, [[[[0.6, 0.8]]]], rtol=1e-6)
