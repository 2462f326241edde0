"""R-FCN's votes and its hard examples, by hand and against a loop."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.detector.losses import class_losses, localisation_losses
from g_rmi.detector.proposals import BoxOutputs, Proposals
from g_rmi.detector.rfcn import network
from g_rmi.detector.rfcn.config import RFCNConfig
from g_rmi.detector.rfcn.network import continue_border
from g_rmi.detector.targets import hardest as choose
from g_rmi.types import DetectionBatch
from tests.networks import DETECTORS
from tests.oracles import mining as oracle
from tests.oracles import roi

vote = jax.jit(partial(network.vote, config=RFCNConfig(bins=3, bin_samples=2)))
hardest = jax.jit(choose, static_argnums=2)


def test_votes_are_means_over_parts():
    """Each part reads its own maps: part g's are constant g, its deltas 10 g + c."""
    part = np.arange(9.0)[:, None]
    maps = np.concatenate([part, -part, 10 * part + np.arange(4)], axis=1).reshape(-1)
    maps = np.broadcast_to(maps, (6, 6, 54)).astype(np.float32)
    votes = vote(maps, np.array([[0.0, 0, 80, 80], [16, 0, 70, 40]], np.float32))
    np.testing.assert_allclose(votes, [[4, -4, 40, 41, 42, 43]] * 2, rtol=1e-5)


def test_a_region_is_read_where_it_lies():
    """Maps that say where they are: the mean of a box's parts is its middle."""
    y, x = 16 * np.mgrid[:20, :30].astype(np.float32)
    maps = np.tile(np.stack([x, y, x, y, x, y], -1), 9)
    votes = vote(maps, np.array([[64.0, 32, 320, 224]], np.float32))
    np.testing.assert_allclose(votes, [[192, 128] * 3], rtol=1e-5)


def test_votes_equal_the_loop():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(7, 9, 54)).astype(np.float32)
    boxes = np.array([[5, 8, 90, 70], [0, 0, 144, 112], [30, 30, 30, 30]], np.float32)
    options = {"bins": 3, "spatial_scale": 1 / 16, "sampling_ratio": 2}
    theirs = roi.position_sensitive_roi(maps, boxes + 8, **options).mean((1, 2))
    np.testing.assert_allclose(vote(maps, boxes), theirs, atol=1e-4)


def test_the_border_goes_on_beside_the_picture():
    maps = np.arange(20.0).reshape(4, 5, 1)
    found = continue_border(jnp.asarray(maps), jnp.array([33, 40]), stride=16)  # 3 x 3 cells
    np.testing.assert_array_equal(found[..., 0], maps[[0, 1, 2, 2]][:, [0, 1, 2, 2, 2], 0])


@pytest.mark.parametrize(("rows", "count"), [(5, 2), (5, 5), (5, 8), (40, 12)])
def test_the_hardest_equal_the_oracle(rows, count):
    rng = np.random.default_rng(rows + count)
    losses = (rng.integers(0, 5, rows) / 4).astype(np.float32)
    losses[0] = np.nan
    valid = rng.uniform(size=rows) < 0.6
    index, found = hardest(losses, valid, count)
    assert index.shape == found.shape == (count,)
    assert np.asarray(index)[np.asarray(found)].tolist() == oracle.hardest(losses, valid, count)


def test_the_hardest_by_hand():
    losses = np.array([0.3, 2.0, 0.1, 2.0, 99.0], np.float32)  # the last is padding
    index, valid = hardest(losses, np.arange(5) < 4, 2)
    assert index.tolist() == [1, 3]
    assert valid.all()


def test_hard_examples_are_chosen_of_all_regions_without_gradient():
    task = dataclasses.replace(DETECTORS["rfcn"].model, canvas=(64, 96), hard_examples=4).task()
    boxes = np.array([[10, 10, 30, 50], [40, 5, 60, 60], [0, 0, 0, 0]], np.float32)
    truth = DetectionBatch(
        image=jnp.zeros((64, 96, 3), jnp.uint8),
        size=jnp.array([64, 90]),
        boxes=jnp.asarray(boxes),
        person=jnp.array([True, True, False]),
        ignore=jnp.zeros(3, bool),
        weight=jnp.ones(()),
    )
    proposals = Proposals(
        jnp.array([[10.0, 10, 30, 48], [60, 30, 90, 64], [5, 5, 5, 20], [0, 0, 0, 0]]),
        jnp.array([True, True, True, False]),
    )
    regions, targets = task._box_targets(jax.random.key(0), proposals, truth)
    assert regions.shape == (7, 4)  # all of them, and the annotated ones
    # No area, no proposal, no person: these teach nothing.
    np.testing.assert_array_equal(targets.valid, [True, True, False, False, True, True, False])
    np.testing.assert_array_equal(targets.person, [True, False, False, False, True, True, False])
    rng = np.random.default_rng(0)
    outputs = BoxOutputs(*(jnp.asarray(rng.normal(size=(7, n)), jnp.float32) for n in (2, 4)))
    losses = class_losses(outputs.logits, targets.person)
    losses += localisation_losses(outputs.deltas, targets, delta=1.0)
    chosen = oracle.hardest(np.asarray(losses).tolist(), np.asarray(targets.valid), 4)
    some, their_targets = task._hardest(outputs, targets)
    np.testing.assert_array_equal(their_targets.index, chosen)
    np.testing.assert_array_equal(some.deltas, outputs.deltas[np.array(chosen)])

    def total(deltas):
        return task._hardest(outputs._replace(deltas=deltas), targets)[0].deltas.sum()

    gradient = np.asarray(jax.grad(total)(outputs.deltas))  # that of a choice of rows alone
    wanted = np.zeros(7)
    wanted[chosen] = 1
    np.testing.assert_array_equal(gradient, np.tile(wanted[:, None], 4))


@pytest.mark.parametrize("hard_examples", [0, 16])
def test_without_mining_the_sampler_draws(hard_examples):
    config = dataclasses.replace(
        DETECTORS["rfcn"].model, hard_examples=hard_examples, box_samples=6
    )
    nobody = Proposals(jnp.zeros((12, 4)), jnp.zeros(12, bool))
    truth = DetectionBatch(
        *(jnp.zeros((64, 80, 3), jnp.uint8), jnp.array([64, 80]), jnp.zeros((3, 4))),
        *(jnp.zeros(3, bool), jnp.zeros(3, bool), jnp.ones(())),
    )
    regions, targets = config.task()._box_targets(jax.random.key(0), nobody, truth)
    assert len(regions) == (15 if hard_examples else 6)
    assert not targets.valid.any()
