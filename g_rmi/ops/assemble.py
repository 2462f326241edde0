"""From groups of candidates to people."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Real

from g_rmi.types import Poses


def assemble(
    labels: Int[ArrayLike, "K M"],
    points: Real[ArrayLike, "K M 2"],
    logits: Real[ArrayLike, "K M"],
    expected: Real[ArrayLike, "K M K 2"],
    *,
    count: int,
) -> tuple[Poses, Bool[Array, "count K"]]:
    """The people that candidates make (DeeperCut, section 2).

        l_k = sum_m p_m l_m / sum_m p_m     score_k = max_m p_m     over the person's candidates m
        score = 1/K sum_k score_k           of joint k

    A joint without candidates lies where those of the person's other joints expect it, in their
    mean weighted by p, and has score 0.

    Args:
      labels: Index `k * M + m` of some candidate of the same person; negative for nobody's.
      points: Of the candidates `(x, y)`, in pixels.
      logits: Of their scores p.
      expected: Where a candidate expects each joint of its person, in pixels.
      count: Most people; the best ones stay.

    Returns:
      People, best first, and which of their joints have candidates: none in rows past the last.
    """
    points, expected = (jnp.asarray(x, jnp.float32) for x in (points, expected))
    labels, p = jnp.asarray(labels), jax.nn.sigmoid(jnp.asarray(logits, jnp.float32))
    joints, _ = labels.shape
    n, some = labels.size, min(count, labels.size)
    joint = jnp.broadcast_to(jnp.arange(joints, dtype=jnp.int32)[:, None], labels.shape)
    group = jnp.where(labels < 0, n, labels)
    scores = jnp.zeros((n, joints), jnp.float32).at[group, joint].max(p, mode="drop")
    there = jnp.zeros((n, joints), bool).at[group, joint].set(True, mode="drop")
    total = jnp.where(there.any(axis=1), jnp.sum(scores, axis=1), -1.0)
    _, best = lax.top_k(total, some)
    found = there[best]

    weights = jnp.where(labels[None] == best[:, None, None], p[None], 0.0)  # [people, K, M]
    own = _mean(weights[..., None], points[None], axis=2)
    # What says nothing finite of a joint has no weight in its place.
    says = jnp.isfinite(expected).all(axis=-1)
    asked = jnp.where(says[None], weights[..., None], 0.0)
    elsewhere = jnp.where(says[..., None], expected, 0.0)
    guess = _mean(asked[..., None], elsewhere[None], axis=(1, 2))
    keypoints = jnp.where(found[..., None], own, guess)
    poses = Poses(keypoints, scores[best], jnp.sum(scores[best], axis=1) / max(joints, 1))
    keep = found.any(axis=1)
    poses = jax.tree.map(lambda x: jnp.where(keep.reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0), poses)
    rest = [(0, count - some)]
    return jax.tree.map(lambda x: jnp.pad(x, rest + [(0, 0)] * (x.ndim - 1)), (poses, found))


def _mean(weights, values, axis):
    total = jnp.sum(weights, axis=axis)
    return jnp.sum(weights * values, axis=axis) / jnp.where(total > 0, total, 1.0)
