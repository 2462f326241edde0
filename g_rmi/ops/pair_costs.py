"""What it costs that candidates are joints, and that two are one person's: log-odds."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

FEATURES = 8
# Columns of `pair_features`: distances, and what the joint that comes first sees.
DISTANCES, ONE_WAY = (0, 2, 4, 6), (0, 1, 4, 5)
# Log-odds of the probabilities 1e-7 and 1 - 1e-7: beyond, everything is equally certain.
_MOST = math.log((1 - 1e-7) / 1e-7)


class PairModel(NamedTuple):
    """For each two joints a < b, a logistic regression on `pair_features`; the rest is not read."""

    weights: Float[Array, "K K 8"]
    bias: Float[Array, "K K"]
    known: Bool[Array, "K K"]  # fitted; a pair that nobody had says nothing


def log_odds(logits: Real[ArrayLike, "*N"]) -> Float[Array, "*N"]:
    """The cost of a probability p, low where it is high: log((1 - p) / p).

    Args:
      logits: log(p / (1 - p)).

    Returns:
      The costs, cut at +-16.1, those of p = 1e-7 and 1 - 1e-7; 0 for a nan, which says nothing.
    """
    logits = jnp.asarray(logits, jnp.float32)
    return jnp.where(jnp.isnan(logits), 0.0, jnp.clip(-logits, -_MOST, _MOST))


def pair_features(
    points: Real[ArrayLike, "N 2"],
    origins: Real[ArrayLike, "N 2"],
    offsets: Real[ArrayLike, "N K 2"],
    joints: Int[ArrayLike, " N"],
) -> Float[Array, "N N 8"]:
    """How well two candidates agree with what each says of the other (DeeperCut, section 4.2).

    Seen from n, m lies at r = l_m - o_n, and is expected at the offset e of its joint.

        distance = ||r - e||          angle = the angle between r and e, 0 to pi

    An angle with a vector of length 0 is 0.

    Args:
      points: l, refined positions `(x, y)` in pixels.
      origins: o, where offsets begin: the centres of the candidates' cells, in pixels.
      offsets: From the origin to each joint of the same person, in pixels.
      joints: Which joint a candidate is, 0 to K - 1.

    Returns:
      For (n, m): distance and angle seen from n, from m, and exp(-x) of these four.
    """
    joints = jnp.asarray(joints)
    points, origins, offsets = (jnp.asarray(x, jnp.float32) for x in (points, origins, offsets))
    real = points[None] - origins[:, None]
    expected = offsets[:, joints]
    distance = jnp.sqrt(jnp.sum((real - expected) ** 2, axis=-1))
    dot = jnp.sum(real * expected, axis=-1)
    cross = real[..., 0] * expected[..., 1] - real[..., 1] * expected[..., 0]
    forward = jnp.stack([distance, jnp.arctan2(jnp.abs(cross), dot)], axis=-1)
    both = jnp.concatenate([forward, jnp.swapaxes(forward, 0, 1)], axis=-1)
    return jnp.concatenate([both, jnp.exp(-both)], axis=-1)


def pair_costs(
    features: Real[ArrayLike, "N N 8"],
    points: Real[ArrayLike, "N 2"],
    joints: Int[ArrayLike, " N"],
    model: PairModel,
    *,
    reach: Real[ArrayLike, ""] = 37.5,
    steepness: Real[ArrayLike, ""] = 0.2,
) -> Float[Array, "N N"]:
    """The cost log((1 - P) / P) of two candidates being one person (DeeperCut, section 4).

        one joint:      P = 1 / (1 + exp(steepness (||l_n - l_m|| - reach)))
        two joints:     P by the logistic regression of the two joints

    Args:
      features: `pair_features`.
      points: Refined positions `(x, y)` in pixels.
      joints: Which joint a candidate is, 0 to K - 1.
      model: The regressions.
      reach: Distance at which two candidates of one joint are as likely one person's as not, in
        pixels; the authors', whose people are about 340 pixels high.
      steepness: How soon that becomes certain, per pixel.

    Returns:
      Symmetric, finite costs; 0 for pairs that are not known and on the diagonal.
    """
    joints = jnp.asarray(joints)
    features, points = (jnp.asarray(x, jnp.float32) for x in (features, points))
    weights, bias = (jnp.asarray(x, jnp.float32) for x in (model.weights, model.bias))
    first, second = joints[:, None], joints[None]
    logits = jnp.sum(features * weights[first, second], axis=-1) + bias[first, second]
    costs = jnp.where(jnp.asarray(model.known)[first, second], log_odds(logits), 0.0)
    costs = jnp.where(first < second, costs, costs.T)
    away = jnp.sqrt(jnp.sum((points[:, None] - points[None]) ** 2, axis=-1))
    steepness, reach = (jnp.asarray(value, jnp.float32) for value in (steepness, reach))
    costs = jnp.where(first == second, log_odds(-steepness * (away - reach)), costs)
    return jnp.where(jnp.eye(len(joints), dtype=bool), 0.0, costs)
