"""Logistic regression against scipy's optimiser; samples of pairs by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize

from g_rmi.parts.regression import PairSamples, fit_logistic, person_of


def samples(rng, n=400, features=5):
    x = rng.normal(3, 20, (n, features))
    return x, rng.uniform(size=n) < 1 / (1 + np.exp(-0.1 * (x[:, 0] - x[:, 1])))


def by_scipy(x, positive, penalty):
    low, high = x.min(axis=0), x.max(axis=0)
    scaled = np.column_stack([(x - low) / np.maximum(high - low, 1e-12), np.ones(len(x))])
    sign = np.where(positive, 1, -1)

    def loss(w):
        return np.mean(np.logaddexp(0, -sign * (scaled @ w))) + penalty / 2 * w @ w

    return scaled @ minimize(loss, np.zeros(scaled.shape[1]), method="BFGS", tol=1e-9).x


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_equals_scipys_optimum(penalty):
    x, positive = samples(np.random.default_rng(0))
    model = fit_logistic(x, positive, penalty=penalty)
    logits = x @ model.weights + model.bias
    np.testing.assert_allclose(logits, by_scipy(x, positive, penalty), atol=2e-3)


def test_separable_classes_and_constant_features():
    x = np.array([[0.0, 5], [1, 5], [2, 5], [3, 5]])
    model = fit_logistic(x, x[:, 0] > 1.5)
    logits = x @ model.weights + model.bias
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits > 0, x[:, 0] > 1.5)
    np.testing.assert_allclose(logits, by_scipy(x, x[:, 0] > 1.5, 1e-3), atol=1e-2)
    # What never varied has no say afterwards.
    assert model.weights[1] == 0


@pytest.mark.parametrize(
    ("x", "positive", "penalty", "message"),
    [
        (np.zeros((3, 2)), [True] * 3, 1.0, "3 of 3 samples are positive"),
        (np.zeros((0, 2)), [], 1.0, "one class"),
        (np.array([[np.nan], [1]]), [True, False], 1.0, "not finite"),
        (np.zeros((2, 1)), [True, False], 0.0, "penalty = 0.0: must be positive"),
    ],
)
def test_bad_samples(x, positive, penalty, message):
    with pytest.raises(ValueError, match=message):
        fit_logistic(x, np.array(positive, bool), penalty=penalty)


def test_whose_a_candidate_is():
    keypoints = np.array([[[0.0, 0], [50, 0]], [[20, 0], [90, 0]]])
    visible = np.array([[True, True], [True, False]])
    points = np.array([[4.0, 3], [10, 0], [16, 0], [90, 0], [0, 5.1], [50, 5]])
    joints = np.array([0, 0, 0, 1, 0, 1])
    person = person_of(points, joints, keypoints, visible, radius=5.0)
    np.testing.assert_array_equal(person, [0, -1, 1, -1, -1, 0])
    wide = person_of(points, joints, keypoints, visible, radius=10.0)
    np.testing.assert_array_equal(wide, [0, 0, 1, -1, 0, 0])  # the first among equals
    nobody = person_of(points, joints, keypoints[:0], visible[:0], radius=5.0)
    np.testing.assert_array_equal(nobody, [-1] * 6)


def test_pairs_of_pictures():
    collected = PairSamples(3)
    joints, person = np.array([0, 0, 1, 1]), np.array([0, -1, 0, -1])
    features = np.zeros((4, 4, 8), np.float32)
    features[..., 0] = np.where((person[:, None] == person) & (person >= 0), 1.0, 30.0)
    features[1, 2] = np.nan  # left out
    for _ in range(3):
        collected.add(features, joints, person)
    ((pair, parts),) = collected._rows.items()
    assert pair == (0, 1)
    assert [same.tolist() for _, same in parts] == [[True, False, False]] * 3
    model = collected.fit()
    assert np.argwhere(model.known).tolist() == [[0, 1]]
    logits = features @ model.weights[0, 1] + model.bias[0, 1]
    assert logits[0, 2] > 0 > logits[0, 3]
    # Without the one feature that tells, nothing can be told.
    rest = collected.fit(columns=range(1, 8))
    assert (rest.weights[0, 1] == 0).all()
    np.testing.assert_allclose(rest.bias[0, 1], 0, atol=1e-6)


def test_nobody_was_seen():
    collected = PairSamples(2)
    assert not collected.fit().known.any()
    features, joints = np.ones((2, 2, 8), np.float32), np.array([0, 1])
    collected.add(features, joints, np.array([0, 0]))
    assert not collected.fit().known.any()  # never two people's
    collected.add(features[:0, :0], joints[:0], joints[:0])
    collected.add(features, joints, np.array([0, 1]))
    assert collected.fit().known[0, 1]
    for _ in range(40):
        collected.add(np.ones((20, 20, 8)), np.arange(20) % 2, np.zeros(20, int), most=3)
    assert all(len(same) <= 3 for _, same in collected._rows[0, 1])
