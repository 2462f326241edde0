"""The chain: positions, losses, schedule and search by loops and by hand; what hangs on what."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.pose.heads.chain.forcing import draw_truth, truth_share
from g_rmi.pose.heads.chain.head import Chain
from g_rmi.pose.heads.chain.network import Double
from g_rmi.pose.heads.chain.positions import cells, distributions, divergence, on_map, one_hot
from g_rmi.pose.heads.chain.search import extend, local_maxima
from g_rmi.pose.heads.head import Reading, Teacher
from g_rmi.pose.task import PoseTask
from g_rmi.types import Grid
from tests.g_rmi.pose.heads.test_heads import GRID, HEADS, draw, labels, task
from tests.networks import FACE

HEAD = HEADS["chain"]
SIZE = Grid(5, 4)


def of(**changes):
    """The tiny network with other settings of the head."""
    network = task("chain")
    head = dataclasses.replace(network.config.head, **changes)
    return PoseTask(dataclasses.replace(network.config, head=head), FACE)


@pytest.fixture(scope="module")
def crops():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, *GRID, 3), np.uint8))


@pytest.fixture(scope="module")
def variables():
    return draw(task("chain"))


def test_cells_are_the_nearest_ones_of_the_map():
    points = [[0, 0], [3, 4], [-0.5, 1], [-0.6, 1], [3.4, 4.4], [3.5, 1], [1, 4.5], [1.5, 2.5]]
    points += [[np.nan, 1], [np.inf, 1], [1e30, -1e30]]
    number, inside = cells(jnp.array(points, jnp.float32), SIZE)
    assert inside.tolist() == [True, True, True, False, True, False, False, True] + [False] * 3
    assert number.tolist() == [0, 19, 4, 0, 19, 0, 0, 3 * 4 + 2, 0, 0, 0]
    maps = one_hot(number, SIZE)
    assert maps.shape == (11, 5, 4)
    assert [int(np.argmax(m)) for m in maps] == number.tolist()
    # Corner pixels of the crop lie on corner cells, whatever lies between.
    corners = jnp.array([[0, 0], [32, 48], [16, 24]], jnp.float32)
    np.testing.assert_allclose(on_map(corners, GRID, Grid(13, 9)), [[0, 0], [8, 12], [4, 6]])
    np.testing.assert_array_equal(on_map(corners, GRID, Grid(1, 1)), np.zeros((3, 2)))


@pytest.mark.parametrize("sigma", [0.01, 0.7, 30.0])
def test_distributions_equal_the_loop(sigma):
    points = np.float32([[1, 2], [0.5, 3.5], [-1, 0], [3, 4]])
    ours = distributions(jnp.asarray(points), SIZE, sigma=sigma)
    for k, (x, y) in enumerate(points.astype(float)):
        log = np.array(
            [[-((x - j) ** 2 + (y - i) ** 2) / (2 * sigma**2) for j in range(4)] for i in range(5)]
        )
        expected = np.exp(log - log.max())
        np.testing.assert_allclose(ours[k], expected / expected.sum(), atol=1e-6)


def test_the_divergence_by_hand():
    # p = .4 in the wanted cell of four: cross-entropy .9163.
    logits = jnp.log(jnp.array([[[1.0, 2.0], [1.0, 1.0]]]))
    one = jnp.ones(1, bool)
    target = one_hot(jnp.array([1]), Grid(2, 2))
    np.testing.assert_allclose(divergence(logits, target, one), 0.9163, atol=1e-4)
    assert divergence(logits, target, ~one) == 0
    assert divergence(logits * jnp.nan, target, ~one) == 0
    # Of a spread target a perfect answer costs nothing, a flat one log 4 less the target's entropy.
    target = jnp.array([[[0.5, 0.25], [0.25, 0.0]]])
    perfect = jnp.log(jnp.maximum(target, 1e-30))
    np.testing.assert_allclose(divergence(perfect, target, one), 0, atol=1e-6)
    flat = math.log(4) - 1.5 * math.log(2)
    np.testing.assert_allclose(divergence(logits * 0, target, one), flat, rtol=1e-5)
    # What is far off still has a gradient: p - t.
    gradient = jax.grad(divergence)(jnp.array([[[500.0, 0.0], [0.0, 0.0]]]), target, one)
    np.testing.assert_allclose(gradient[0], [[0.5, -0.25], [-0.25, 0.0]], atol=1e-6)


def test_the_truth_is_fed_less_and_less():
    shares = [float(truth_share(step, 100)) for step in (0, 25, 100, 1000)]
    np.testing.assert_allclose(shares, [1, 0.75, 0, 0])
    assert [float(truth_share(step, 0)) for step in (0, 1000)] == [1, 1]
    assert float(truth_share(jnp.int32(50), 100)) == 0.5
    draws = draw_truth(jax.random.key(0), jnp.float32(0.3), (40, 50))
    assert 0.27 < draws.mean() < 0.33
    never, always = (draw_truth(jax.random.key(1), jnp.float32(p), (40, 50)) for p in (0, 1))
    assert not never.any()
    assert always.all()


def peaks(p):
    """Cells that none of the eight around them exceeds, in rows."""
    rows, columns = p.shape
    for i, j in np.ndindex(rows, columns):
        around = p[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        if p[i, j] >= around.max():
            yield i, j


def test_a_step_of_the_search_equals_the_loop():
    random = np.random.default_rng(0)
    log_p = np.log(random.dirichlet(np.ones(20), 3)).reshape(3, *SIZE).astype(np.float32)
    scores = np.float32([-1.0, -0.5, -np.inf])
    assert [tuple(c) for c in np.argwhere(local_maxima(jnp.asarray(log_p[:1]))[0])] == list(
        peaks(log_p[0])
    )
    every = sorted(
        (-float(scores[n] + log_p[n][cell]), n, cell[0] * 4 + cell[1])
        for n in range(3)
        for cell in peaks(log_p[n])
    )
    for count in (1, 3, 100):
        best, parent, cell = extend(jnp.asarray(scores), jnp.asarray(log_p), count)
        assert len(best) == min(count, 60)
        usable = [row for row in every if math.isfinite(row[0])][:count]
        found = list(zip(best.tolist(), parent.tolist(), cell.tolist()))[: len(usable)]
        for (score, n, c), row in zip(found, usable):
            assert (n, c) == row[1:]
            assert score == pytest.approx(-row[0], rel=1e-5)
        assert not np.isfinite(best[len(usable) :]).any()


def test_doubling_keeps_cells_where_they_are():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 2, 2)), jnp.float32)
    double = Double(3, jnp.dtype("float32"))
    weights = double.init(jax.random.key(0), x)
    ours = double.apply(weights, x)
    assert ours.shape == (1, 5, 3, 3)
    expected = np.zeros((5, 3, 3))
    for size, kernel in ((s, np.asarray(weights["params"][f"kernel{s}"])) for s in (3, 5, 7)):
        for i, j in np.ndindex(3, 2):
            for u, v in np.ndindex(size, size):  # a correlation: cell 2 i sees the kernel's middle
                row, column = 2 * i - (u - size // 2), 2 * j - (v - size // 2)
                if 0 <= row < 5 and 0 <= column < 3:
                    expected[row, column] += np.asarray(x[0, i, j]) @ kernel[u, v]
    np.testing.assert_allclose(ours[0], expected, atol=1e-4)


def test_later_joints_depend_on_what_is_fed_and_earlier_ones_do_not(variables, crops):
    network = of(oracle=True, order=("right_eye", "nose", "left_eye"))
    targets = network.config.head.targets(labels(), GRID, FACE)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), targets)

    @jax.jit
    def predict(truth):
        return network.predict(variables, crops, truth=truth)["probability"]

    first = predict(batch)
    moved = predict(batch._replace(keypoints=batch.keypoints.at[:, 0].set(20.0)))  # the nose
    changed = [bool(np.abs(first[..., k] - moved[..., k]).max() > 1e-6) for k in range(3)]
    assert changed == [False, True, False]  # the left eye alone comes after it
    # A joint without a place is fed as nothing, wherever its label says it is.
    unknown = batch._replace(known=jnp.zeros((2, 3), bool))
    nothing = predict(unknown)
    assert np.abs(nothing - first)[..., [0, 1]].max() > 1e-6
    np.testing.assert_array_equal(
        nothing, predict(unknown._replace(keypoints=batch.keypoints * 0.0))
    )
    outside = batch._replace(keypoints=batch.keypoints.at[:, :].set(-500.0))
    np.testing.assert_array_equal(nothing, predict(outside))


def test_without_a_chain_nothing_is_fed(crops):
    network = of(feedback="none")
    variables = draw(network)
    assert not any("given" in name or name[0] == "e" for name in variables["params"]["chain"])
    straight = jax.jit(network.predict)(variables, crops)["probability"]
    np.testing.assert_allclose(straight.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("feedback", ["peak", "map"])
def test_the_schedule_hangs_on_step_and_key_alone(variables, crops, feedback):
    network = of(truth_steps=10, feedback=feedback)
    one = jax.tree.map(jnp.asarray, labels())
    targets = network.config.head.targets(one, GRID, FACE)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), targets)

    @jax.jit
    def train(key, step):
        teacher = Teacher(batch, jax.random.key(key), step)
        return network.network.apply(variables, crops, train=True, teacher=teacher)["logits"]

    always, own = train(0, 0), train(0, 10)
    np.testing.assert_array_equal(always, train(1, 0))  # the truth, whatever is drawn
    np.testing.assert_array_equal(own, train(1, 10))
    assert np.abs(always - own).max() > 1e-6
    middle = [train(key, 5) for key in range(4)]
    np.testing.assert_array_equal(middle[0], train(0, 5))
    assert any(np.abs(m - middle[0]).max() > 1e-6 for m in middle[1:])
    # What is found is what prediction feeds.
    p = jax.jit(network.predict)(variables, crops)["probability"]
    np.testing.assert_allclose(p, jax.nn.softmax(own, axis=(1, 2)), atol=1e-5)


def test_a_wide_beam_finds_the_most_likely_cells(variables, crops):
    """All hypotheses, each scored by feeding it as the truth, against a beam that keeps many."""
    oracle, image = of(oracle=True), crops[:1]
    single = jax.jit(of().predict)(variables, image)["probability"][0]
    cell = np.array([4, 4])

    @jax.jit
    def given(points):
        targets = oracle.config.head.targets(labels(), GRID, FACE)._replace(keypoints=points)
        truth = jax.tree.map(lambda x: x[None], targets)
        return oracle.predict(variables, image, truth=truth)["probability"][0]

    hypotheses = {}
    for first in peaks(np.asarray(single[..., 0])):
        points = np.zeros((3, 2), np.float32)
        points[0] = cell * first[::-1]
        p = np.asarray(given(points))
        for second in peaks(p[..., 1]):
            points[1] = cell * second[::-1]
            q = np.asarray(given(points))
            for third in peaks(q[..., 2]):
                score = q[(*first, 0)] * q[(*second, 1)] * q[(*third, 2)]
                hypotheses[first, second, third] = score
    assert len(hypotheses) > 8
    best = max(hypotheses, key=hypotheses.get)
    wide = of(beams=len(hypotheses))
    maps = jax.jit(wide.predict)(variables, image)["probability"][0]
    found = tuple(np.unravel_index(np.argmax(maps[..., k]), maps.shape[:2]) for k in range(3))
    assert found == best
    product = math.prod(float(maps[(*found[k], k)]) for k in range(3))
    assert product == pytest.approx(hypotheses[best], rel=1e-4)
    assert product >= math.prod(single.max((0, 1)).tolist()) * 0.999
    assert ((maps > 0).sum((0, 1)) <= 9).all()


def test_scores_are_probabilities_to_be_near():
    p = np.zeros((13, 9, 3), np.float32)
    p[6, 4], p[6, 5], p[0, 0], p[12, 8] = 0.4, 0.2, 0.3, 0.1
    p[:, :, 2] = np.nan
    p = jnp.asarray(p)
    for decoding, x in {"argmax": 16.0, "expectation": 16 + 4 / 3}.items():
        poses = HEAD.decode({"probability": p}, Reading(GRID, FACE.sigmas, 1.0, decoding))
        np.testing.assert_allclose(poses.keypoints[:2], [[x, 24]] * 2, rtol=1e-5)
        np.testing.assert_allclose(poses.keypoint_scores[:2], 0.6, rtol=1e-5)
        assert np.isnan(poses.keypoint_scores[2])
        assert np.isnan(poses.scores)
    evidence = HEAD.evidence({"probability": p[..., :2]}, Reading(GRID, FACE.sigmas, 1.0, "dark"))
    assert float(evidence[24, 16, 0]) == pytest.approx(0.6, rel=1e-5)
    nothing = HEAD.decode({"probability": 0 * p[..., :2]}, Reading(GRID, (), 1.0, "expectation"))
    assert np.isfinite(nothing.keypoints).all()


def test_what_is_not_there_has_no_loss():
    crop, noise = labels(), np.random.default_rng(0).normal(size=(13, 9, 3)).astype(np.float32)

    def loss(crop):
        targets = HEAD.targets(crop, GRID, FACE)
        return float(HEAD.losses({"logits": jnp.asarray(noise)}, targets, GRID)["divergence"])

    points = crop.keypoints
    without = loss(crop._replace(visible=jnp.array([True, True, False])))
    assert 0 < without < loss(crop)
    for place in ([np.nan, 3.0], [np.inf, 3.0], [-2.1, 3.0], [34.1, 3.0], [3.0, 50.1]):
        gone = crop._replace(keypoints=points.at[2].set(jnp.array(place)))
        assert loss(gone) == pytest.approx(without)
    on_the_border = crop._replace(keypoints=points.at[2].set(jnp.array([32.0, 48.0])))
    assert loss(on_the_border) > without
    assert loss(crop._replace(visible=jnp.zeros(3, bool))) == 0


def test_orders():
    names = ("right_eye", "nose", "left_eye")
    assert Chain().joint_order(FACE) == (0, 1, 2)
    assert Chain(reverse=True).joint_order(FACE) == (2, 1, 0)
    assert Chain(order=names).joint_order(FACE) == (2, 0, 1)
    assert Chain(order=names, reverse=True).joint_order(FACE) == (1, 0, 2)
    with pytest.raises(ValueError, match="no joint 'noze'; did you mean 'nose'"):
        Chain(order=("noze",)).joint_order(FACE)
    with pytest.raises(ValueError, match=r"once; missing: \['left_eye', 'right_eye'\]"):
        Chain(order=("nose",)).joint_order(FACE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beams": 2, "feedback": "map"}, 'beams = 2: must be 1 without the feedback "peak"'),
        ({"oracle": True, "feedback": "none"}, "oracle = True: must be False"),
        ({"oracle": True, "beams": 2}, "beams = 2: must be 1 with an oracle"),
        ({"channels": 0}, "channels = 0: must be positive"),
        ({"truth_steps": -1}, "truth_steps = -1"),
        ({"target_sigma": 0.0}, "target_sigma = 0.0: must be positive"),
    ],
)
def test_impossible_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Chain(**change)


def test_an_oracle_asks_for_the_truth_about_single_views(variables, crops):
    network = of(oracle=True)
    with pytest.raises(ValueError, match="oracle = True: needs to be given the truth"):
        network.predict(variables, crops)
    with pytest.raises(ValueError, match="not that about its other views"):
        network.predict(variables, crops, flip_test=True, truth=())
