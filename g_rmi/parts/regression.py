"""Logistic regressions of pairs of joints, fitted by Newton's method; numpy, on the host."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from g_rmi.ops.pair_costs import FEATURES, PairModel

_STEPS = 50


class Logistic(NamedTuple):
    """log(P / (1 - P)) = weights . x + bias."""

    weights: Float[np.ndarray, " F"]
    bias: float


def fit_logistic(
    features: Float[np.ndarray, "N F"],
    positive: Bool[np.ndarray, " N"],
    *,
    penalty: float = 1e-3,
) -> Logistic:
    """Fits a logistic regression by Newton's method.

        min_w  1/N sum_n log(1 + exp(-s_n w . f_n)) + penalty/2 ||w||^2,    s_n = +-1

    f are the features scaled to 0 .. 1 over the samples, and a 1 (DeeperCut's, by liblinear, whose
    C is 1 / (N penalty)). The scaling is part of the answer, which takes plain features.

    Args:
      features: Of N samples.
      positive: Which are of the first class.
      penalty: Positive, so that there is one minimum, also where a plane separates the classes.

    Raises:
      ValueError: A class has no samples, a feature is not finite, or the penalty not positive.
    """
    if not penalty > 0:
        raise ValueError(f"penalty = {penalty}: must be positive")
    if positive.all() or not positive.any():
        raise ValueError(f"{positive.sum()} of {len(positive)} samples are positive: one class")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
    features = features.astype(np.float64)
    low, high = features.min(axis=0), features.max(axis=0)
    scale = np.maximum(high - low, 1e-12)
    x = np.concatenate([(features - low) / scale, np.ones((len(features), 1))], axis=1)
    sign, w = np.where(positive, 1.0, -1.0), np.zeros(x.shape[1])

    def value(w: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, -sign * (x @ w))) + penalty / 2 * w @ w)

    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        gradient = x.T @ (p - positive) / len(x) + penalty * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + penalty * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < 1e-20:
            break
        length, before = 1.0, value(w)
        while value(w - length * step) > before - 1e-4 * length * gradient @ step:
            length /= 2
            if length < 1e-10:
                break
        w = w - length * step
    weights = w[:-1] / scale
    return Logistic(weights, float(w[-1] - weights @ low))


def person_of(
    points: Float[np.ndarray, "N 2"],
    joints: Int[np.ndarray, " N"],
    keypoints: Float[np.ndarray, "P K 2"],
    visible: Bool[np.ndarray, "P K"],
    *,
    radius: float,
) -> Int[np.ndarray, " N"]:
    """Whose joint each candidate is: the person with the closest such joint within the radius.

    The first among equals; -1 for nobody's. The rim belongs to the disk.
    """
    if not len(keypoints):
        return np.full(len(points), -1)
    away = np.linalg.norm(keypoints[:, joints] - points[None], axis=-1)
    away = np.where(visible[:, joints], away, np.inf)
    nearest = away.argmin(axis=0)
    return np.where(away.min(axis=0) <= radius, nearest, -1)


class PairSamples:
    """Pairs of candidates of many pictures, for the regressions."""

    def __init__(self, joints: int, seed: int = 0):
        """Of a skeleton of so many joints."""
        self.joints, self._rng = joints, np.random.default_rng(seed)
        self._rows: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(
        self,
        features: Float[np.ndarray, "N N 8"],
        joints: Int[np.ndarray, " N"],
        person: Int[np.ndarray, " N"],
        *,
        most: int = 100,
    ) -> None:
        """Adds the pairs of a picture whose features are finite.

        Two are one person's or not; two that are both nobody's are not. At most `most` pairs of
        each kind for two joints are kept, at random.
        """
        for a in range(self.joints):
            first = np.flatnonzero(joints == a)
            for b in range(a + 1, self.joints):
                second = np.flatnonzero(joints == b)
                rows = features[np.ix_(first, second)].reshape(-1, FEATURES)
                same = (person[first][:, None] == person[second]) & (person[first] >= 0)[:, None]
                finite = np.isfinite(rows).all(axis=1)
                rows, same = rows[finite], same.ravel()[finite]
                kept = [self._some(np.flatnonzero(kind), most) for kind in (same, ~same)]
                if index := [*kept[0], *kept[1]]:
                    self._rows.setdefault((a, b), []).append((rows[index], same[index]))

    def fit(self, *, columns: Sequence[int] = range(FEATURES), penalty: float = 1e-3) -> PairModel:
        """The regressions, with as many negatives as positives, drawn at random.

        Joints that were never seen as one person's, or never as two's, are not known.

        Args:
          columns: Features to be used, for ablations.
          penalty: See `fit_logistic`.
        """
        k, some = self.joints, list(columns)
        weights, bias = np.zeros((k, k, FEATURES), np.float32), np.zeros((k, k), np.float32)
        known = np.zeros((k, k), bool)
        for (a, b), parts in sorted(self._rows.items()):
            rows, same = (np.concatenate(column) for column in zip(*parts))
            positives, negatives = np.flatnonzero(same), np.flatnonzero(~same)
            if len(positives) and len(negatives):
                index = np.concatenate([positives, self._some(negatives, len(positives))])
                model = fit_logistic(rows[index][:, some], same[index], penalty=penalty)
                weights[a, b, some], bias[a, b], known[a, b] = *model, True
        on_host: Any = (weights, bias, known)
        return PairModel(*on_host)

    def _some(self, index: np.ndarray, most: int) -> np.ndarray:
        return index if len(index) <= most else self._rng.choice(index, most, replace=False)
