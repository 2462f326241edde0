"""Object keypoint similarity, COCO's measure of how well two poses agree."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Real

# COCO adds numpy's spacing(1) to the area; a pose on top of an area-less one still scores 1.
EPSILON = 2.0**-52


def _joint_similarity(a, b, area, sigmas):
    """exp(-d^2 / (2 s^2 k^2)) per joint, with s^2 the area and k = 2 sigma; broadcasts."""
    square = jnp.sum((a - b) ** 2, axis=-1)
    return jnp.exp(-square / (2.0 * sigmas) ** 2 / (area + EPSILON) / 2.0)


def oks(
    gt: Real[ArrayLike, "K 2"],
    visible: Bool[ArrayLike, " K"],
    area: Real[ArrayLike, ""],
    keypoints: Real[ArrayLike, "N K 2"],
    *,
    sigmas: Sequence[float] | Real[ArrayLike, " K"],
) -> Float[Array, " N"]:
    """OKS of N poses with one annotated person, by COCO's formula.

        OKS = 1/V sum_{k visible} exp(-d_k^2 / (2 s^2 (2 sigma_k)^2))

    Args:
      gt: The person's joints, in pixels.
      visible: Joints that are annotated (COCO v > 0).
      area: s^2, the person's area in square pixels.
      keypoints: The poses, in the same frame.
      sigmas: Fall-off per joint, `Skeleton.sigmas`.

    Returns:
      OKS per pose. 0 where no joint is visible: COCO compares with the box there, which this
      signature does not have.
    """
    gt, area, keypoints, sigmas = (
        jnp.asarray(x, jnp.float32) for x in (gt, area, keypoints, sigmas)
    )
    visible = jnp.asarray(visible)
    joint = _joint_similarity(gt[None], keypoints, area, sigmas[None])
    total = jnp.sum(joint, axis=-1, where=visible[None])
    return total / jnp.maximum(jnp.sum(visible), 1).astype(jnp.float32)


def pairwise_oks(
    keypoints: Real[ArrayLike, "N K 2"],
    areas: Real[ArrayLike, " N"],
    *,
    sigmas: Sequence[float] | Real[ArrayLike, " K"],
) -> Float[Array, "N N"]:
    """OKS of every pair of poses, over all K joints and with the mean of the two areas.

    Args:
      keypoints: The poses, in pixels.
      areas: Area of each person in square pixels.
      sigmas: Fall-off per joint, `Skeleton.sigmas`.

    Returns:
      A symmetric matrix with ones on the diagonal.
    """
    keypoints, areas, sigmas = (jnp.asarray(x, jnp.float32) for x in (keypoints, areas, sigmas))
    area = (areas[:, None] + areas[None, :]) / 2.0
    joint = _joint_similarity(
        keypoints[:, None], keypoints[None, :], area[..., None], sigmas[None, None]
    )
    return jnp.sum(joint, axis=-1) / max(len(sigmas), 1)
