"""The sample of anchors or proposals that enters the loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.detector.losses import class_losses
from g_rmi.detector.targets import sample_targets
from g_rmi.types import DetectionBatch


@pytest.mark.parametrize(("even", "small_share"), [(False, 2 / 22), (True, 1 / 2)])
def test_each_person_or_each_anchor_has_the_same_chance(even, small_share):
    """A person whom 20 anchors meet and one whom 2 meet; one place in the sample."""
    boxes = np.array([[0, 0, 100, 100], [200, 200, 220, 220], [0, 0, 0, 0]], np.float32)
    anchors = np.concatenate([np.tile(boxes[0], (20, 1)), np.tile(boxes[1], (2, 1))])
    far = np.array([[300, 300, 310, 310]], np.float32)
    draws = 2000
    truth = DetectionBatch(
        image=jnp.zeros((400, 400, 3), jnp.uint8),
        size=jnp.full(2, 400),
        boxes=jnp.asarray(boxes),
        person=jnp.array([True, True, False]),
        ignore=jnp.zeros(3, bool),
        weight=jnp.ones(()),
    )
    targets = jax.jit(
        jax.vmap(
            partial(
                sample_targets,
                candidates=jnp.asarray(np.concatenate([anchors, far])),
                usable=jnp.asarray(np.ones(23, bool)),
                truth=truth,
                positive=0.5,
                negative=0.5,
                force=False,
                size=2,
                positive_share=0.5,
                even=even,
            )
        )
    )(jax.random.split(jax.random.key(0), draws))
    np.testing.assert_array_equal(targets.person, np.tile([True, False], (draws, 1)))
    np.testing.assert_array_equal(targets.index[:, 1], 22)
    small = np.sum(np.asarray(targets.index)[:, 0] >= 20)
    spread = np.sqrt(draws * small_share * (1 - small_share))
    assert abs(small - draws * small_share) < 4.5 * spread


def test_the_loss_of_classes_by_hand():
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [4.0, 1.0, 0.0]], np.float32)
    person, classes = np.array([True, True, False]), np.array([1, 0, 1], np.int32)
    found = class_losses(jnp.asarray(logits), jnp.asarray(person), jnp.asarray(classes))
    right = logits[[0, 1, 2], [2, 1, 0]]
    np.testing.assert_allclose(found, np.log(np.exp(logits).sum(1)) - right, rtol=1e-5)
