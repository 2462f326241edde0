"""People by walking along the limbs from their surest part: cheap, greedy, without any costs."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Real


def tree_walk(
    points: Real[ArrayLike, "K M 2"],
    logits: Real[ArrayLike, "K M"],
    expected: Real[ArrayLike, "K M K 2"],
    valid: Bool[ArrayLike, "K M"],
    *,
    limbs: Sequence[tuple[int, int]],
    reach: Real[ArrayLike, ""],
) -> Int32[Array, "K M"]:
    """Groups candidates as PersonLab does (Papandreou et al. 2018, section 3.2).

    The best candidate that is nobody's yet, and lies farther than `reach` from everybody's same
    joint, begins a person. From it along the limbs, each next joint is the candidate closest to
    where the one before expects it, unless it is farther away than `reach`, or somebody else's;
    then the walk goes on as seen from the one before. There, a joint that is not found lies where
    it is expected; here, only candidates are grouped.

    Args:
      points: Of the candidates `(x, y)`, in pixels.
      logits: Of their scores; who begins must have at least 0, a probability of .5.
      expected: Where a candidate expects each joint of its person, in pixels.
      valid: Candidates that exist.
      limbs: Pairs of joints; who begins reaches what is connected to it, each joint once.
      reach: In pixels; the rim belongs to the disk.

    Returns:
      The lowest index `k * M + m` of the candidate's person; -1 where it is nobody's or not valid.
    """
    points, logits, expected = (jnp.asarray(x, jnp.float32) for x in (points, logits, expected))
    valid = jnp.asarray(valid)
    joints, count = valid.shape
    if not valid.size:
        return jnp.zeros((joints, count), jnp.int32)
    steps, rows = jnp.asarray(_walks(joints, limbs)), jnp.arange(joints, dtype=jnp.int32)
    square = jnp.asarray(reach, jnp.float32) ** 2

    def person(state):
        labels, waiting = state
        first = lax.argmax(jnp.where(waiting, logits, -jnp.inf).reshape(-1), 0, jnp.int32)
        joint, slot = jnp.divmod(first, count)

        def step(i, state):
            seen_from, slots = state  # joint and slot of the candidate that stands for each joint
            before, now = steps[joint, i]
            origin = seen_from[before]
            away = points[now] - expected[origin[0], origin[1], now][None]
            away = jnp.sum(away**2, axis=-1)
            away = jnp.where(valid[now] & (labels[now] < 0) & ~jnp.isnan(away), away, jnp.inf)
            nearest = lax.argmin(away, 0, jnp.int32)
            found = (away[nearest] <= square) & (before != now)
            slots = slots.at[now].set(jnp.where(found, nearest, slots[now]))
            here = jnp.where(found, jnp.stack([now, nearest]), origin)
            return seen_from.at[now].set(here), slots

        start = jnp.tile(jnp.stack([joint, slot])[None], (joints, 1))
        slots = jnp.full(joints, count, jnp.int32).at[joint].set(slot)  # `count`: not found
        _, slots = lax.fori_loop(0, joints - 1, step, (start, slots))
        labels = labels.at[rows, slots].set(first, mode="drop")
        own = jnp.take_along_axis(points, jnp.minimum(slots, count - 1)[:, None, None], axis=1)
        near = jnp.sum((points - own) ** 2, axis=-1) <= square
        return labels, waiting & (labels < 0) & ~(near & (slots < count)[:, None])

    # Both of the data's own type on a device mesh.
    labels = jnp.where(valid, -1, -1).astype(jnp.int32)
    state = labels, valid & (logits >= 0)
    labels, _ = lax.while_loop(lambda state: jnp.any(state[1]), person, state)
    flat, n = labels.reshape(-1), labels.size
    index = jnp.arange(n, dtype=jnp.int32)
    lowest = jnp.full(n + 1, n, jnp.int32).at[jnp.where(flat < 0, n, flat)].min(index)
    return jnp.where(flat < 0, -1, lowest[flat]).reshape(joints, count)


def _walks(joints: int, limbs: Sequence[tuple[int, int]]) -> np.ndarray:
    """For each joint to begin at, K - 1 steps (from, to), nearest first; (begin, begin) is none."""
    neighbours: list[list[int]] = [[] for _ in range(joints)]
    for a, b in limbs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    steps = np.zeros((joints, max(joints - 1, 1), 2), np.int32)
    for begin in range(joints):
        steps[begin], reached = begin, [begin]
        for here in reached:  # which grows
            for there in sorted(set(neighbours[here]) - set(reached)):
                steps[begin, len(reached) - 1] = here, there
                reached.append(there)
    return steps
