"""Settings of the pose network: backbone, crop and head."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import Norm, require
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class PoseConfig:
    """The pose network, its crop and its head (paper, section 3.2).

    Attributes:
      depth: ResNet depth: 101 or 50 as in the paper, 26 for CPUs.
      width: Channels of the ResNet's first block; 64 is the standard.
      stem_width: Channels of its stem; 0 for as many as `width`.
      output_stride: Stride of the ResNet's last block; dilation keeps it low.
      fpn_channels: Channels of a feature pyramid that brings the maps to stride 4; 0 for none (the
        paper has none).
      norm: "batch" (synchronised over the mesh), "frozen" (imported statistics) or "group".
      dtype: Type of the network's arithmetic; parameters, targets and losses stay float32.
      remat: Recompute each residual unit in the backward pass instead of storing it.
      crop_height: Crop rows in pixels; `8 n + 1` makes the up-sampling exact.
      crop_width: Crop columns in pixels.
      box_scale: Enlargement of the box at evaluation.
      head: What is predicted from the features, and how joints are read off it.
    """

    depth: Literal[26, 50, 101, 152] = 101
    width: int = 64
    stem_width: int = 0
    output_stride: Literal[8, 16, 32] = 8
    fpn_channels: int = 0
    norm: Norm = "batch"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    crop_height: int = 353
    crop_width: int = 257
    box_scale: float = 1.25
    head: Head = Disks()

    def __post_init__(self):
        for name in ("crop_height", "crop_width"):
            size = getattr(self, name)
            stride = self.output_stride
            near = max(1, round((size - 1) / stride)) * stride + 1
            require(size % stride == 1, name, size, f"{stride} n + 1, for example {near}")
        require(self.box_scale > 0, "box_scale", self.box_scale, "positive")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `PoseTask` of these settings for a keypoint set."""
        from g_rmi.pose.task import PoseTask  # which reads this file

        return PoseTask(self, skeleton)

    @property
    def aspect(self) -> float:
        """Height / width of the crop."""
        return self.crop_height / self.crop_width
