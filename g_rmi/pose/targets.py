"""Keypoints to what the pose network should answer (paper, section 3.2.2)."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float

from g_rmi.ops.heatmaps import disk_targets


class PoseTargets(NamedTuple):
    """Targets of one crop, on a grid of H x W positions.

    Attributes:
      heatmap: 1 inside the disk of radius R around the centred person's joint, else 0.
      offset: F_k(x) = l_k - x, in crop pixels.
      inside: Where the offset counts: the disk.
      elsewhere: Inside a disk of somebody else's joint k and of none of the centred person's:
        left out of the auxiliary loss.
      labelled: The joint takes part in the losses.
    """

    heatmap: Float[Array, "H W K"]
    offset: Float[Array, "H W K 2"]
    inside: Bool[Array, "H W K"]
    elsewhere: Bool[Array, "H W K"]
    labelled: Bool[Array, " K"]


def pose_targets(
    keypoints: Float[Array, "K 2"],
    visible: Bool[Array, " K"],
    labelled: Bool[Array, " K"],
    other_keypoints: Float[Array, "P K 2"],
    other_visible: Bool[Array, "P K"],
    *,
    height: int,
    width: int,
    radius: float,
    stride: int = 1,
) -> PoseTargets:
    """Targets of one crop on the align-corners grid of every `stride`-th crop pixel.

    Args:
      keypoints: The centred person's joints, in crop pixels.
      visible: Which of them are annotated.
      labelled: Which joints take part in the losses.
      other_keypoints: Joints of other people in the crop, in crop pixels.
      other_visible: Which of them are annotated.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.
      stride: Grid spacing in crop pixels; divides height - 1 and width - 1.

    Returns:
      Targets on a grid of ((height - 1) / stride + 1) x ((width - 1) / stride + 1).
    """
    grid = {
        "height": (height - 1) // stride + 1,
        "width": (width - 1) // stride + 1,
        "radius": radius / stride,
    }
    heatmap, offset, inside = disk_targets(keypoints / stride, visible & labelled, **grid)

    def other_disks(points, flags):
        return disk_targets(points / stride, flags, **grid)[2]

    others = jax.vmap(other_disks)(other_keypoints, other_visible).any(axis=0)
    return PoseTargets(heatmap, offset * stride, inside, others & ~inside, labelled)
