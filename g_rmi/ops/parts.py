"""Body parts of everybody in a picture: score maps, offsets, and what one part says about others.

The targets of DeeperCut (Insafutdinov et al., ECCV 2016, section 3), for one person in a crop and
for all people of a picture alike.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float64, Real


class PartTargets(NamedTuple):
    """What each position of a map of H x W should say; vectors are `(x, y)` in its pixels.

    Where joint a is not `inside`, nobody's is, offset and pairwise are those of the nearest person
    all the same; 0 where nobody has it.
    """

    score: Float[Array, "H W K"]  # 1 within the radius of anybody's joint, else 0
    offset: Float[Array, "H W K 2"]  # from here to the nearest joint a
    pairwise: Float[Array, "H W K K 2"]  # from here to joint b of the person with that joint a
    inside: Bool[Array, "H W K"]  # where the offset counts
    known: Bool[Array, "H W K K"]  # where the pairwise offset counts: that person's b is there, too


def part_targets(
    keypoints: Real[ArrayLike, "P K 2"],
    visible: Bool[ArrayLike, "P K"],
    *,
    height: int,
    width: int,
    radius: Real[ArrayLike, ""],
) -> PartTargets:
    """The targets of DeeperCut.

        s_a(x) = 1 where min_p ||x - l_pa|| <= r, else 0
        o_a(x) = l_qa - x        r_ab(x) = l_qb - x        q = argmin_p ||x - l_pa||

    So where disks of several people's joint a overlap, the nearest joint wins, the first person
    among equals.

    Args:
      keypoints: l_pa of P people as `(x, y)`, in pixels of the map.
      visible: Joints that are there. One with a non-finite position is not.
      height: Rows H of the map.
      width: Columns W of the map.
      radius: r, in pixels of the map; the rim belongs to the disk.

    Returns:
      The targets; with no people, or no pixels, nothing is inside.
    """
    keypoints = jnp.asarray(keypoints, jnp.float32)
    people, joints = keypoints.shape[:2]
    if not people:  # an argmin needs somebody
        keypoints, visible = jnp.zeros((1, joints, 2)), np.zeros((1, joints), bool)
    visible = jnp.asarray(visible) & jnp.isfinite(keypoints).all(axis=-1)
    keypoints = jnp.where(visible[..., None], keypoints, 0.0)
    x, y = jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32)
    here = jnp.stack(jnp.meshgrid(x, y), axis=-1)  # [H, W, 2]

    away = keypoints[:, None, None] - here[None, :, :, None]
    square = jnp.where(visible[:, None, None], jnp.sum(away**2, axis=-1), jnp.inf)
    person = jnp.argmin(square, axis=0)  # [H, W, K]
    inside = jnp.min(square, axis=0) <= jnp.asarray(radius, jnp.float32) ** 2

    places, there = keypoints[person], visible[person]  # of that person: [H, W, K, K(, 2)]
    own = np.arange(joints, dtype=np.int32)
    anybody = there[..., own, own]
    known = (inside[..., None] & there) & ~np.eye(joints, dtype=bool)[None, None]
    offset = places[..., own, own, :] - here[:, :, None]
    pairwise = places - here[:, :, None, None]
    return PartTargets(
        score=inside.astype(jnp.float32),
        offset=jnp.where(anybody[..., None], offset, 0.0),
        pairwise=jnp.where((anybody[..., None] & there)[..., None], pairwise, 0.0),
        inside=inside,
        known=known,
    )


def pair_statistics(
    keypoints: Real[np.ndarray, "N K 2"], visible: Bool[np.ndarray, "N K"]
) -> tuple[Float64[np.ndarray, "K K 2"], Float64[np.ndarray, "K K 2"]]:
    """Mean and standard deviation of l_b - l_a over the people who have both joints.

    On the host, by sums over people, so that neither many people nor many joints need much memory.
    The deviation is at least 1 pixel; a pair that nobody has, and the diagonal, are 0 and 1.

    Args:
      keypoints: l of N people as `(x, y)`, in pixels.
      visible: Joints that are there.

    Returns:
      Mean and deviation of each ordered pair (a, b), by axis.
    """
    points = np.where(visible[..., None], keypoints, 0.0).astype(np.float64)
    seen = visible.astype(np.float64)
    count = np.maximum(seen.T @ seen, 1)[..., None]
    mean, square = (np.zeros((*count.shape[:2], 2)) for _ in range(2))
    for axis in range(2):
        x = points[..., axis]
        to, to_square = seen.T @ x, seen.T @ x**2  # sums over b where a is there, too
        mean[..., axis] = to - to.T
        square[..., axis] = to_square + to_square.T - 2 * x.T @ x
    mean /= count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 1.0))
