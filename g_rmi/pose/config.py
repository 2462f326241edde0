"""Settings of the pose network: backbone, crop and head."""

import dataclasses
from typing import Any

from jax import numpy as jnp

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.nn.network import NetworkConfig
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import Grid


@dataclasses.dataclass(frozen=True)
class MapsConfig(NetworkConfig):
    """A fully convolutional backbone to the maps of a head."""

    # Channels of a feature pyramid that brings the maps to stride 4; 0 for none (the paper has
    # none).
    fpn_channels: int = 0
    head: Head = Disks()  # What is predicted from the features, and how joints are read off it.

    def __post_init__(self):
        require_numbers(self, 0, None, "fpn_channels")


@dataclasses.dataclass(frozen=True)
class PoseConfig(MapsConfig):
    """The pose network, its crop and its head (paper, section 3.2)."""

    crop_height: int = 353  # Crop rows in pixels; `8 n + 1` makes the up-sampling exact.
    crop_width: int = 257  # Crop columns in pixels.
    box_scale: float = 1.25  # Enlargement of the box at evaluation.

    def __post_init__(self):
        super().__post_init__()
        require_positive(self, "crop_height", "crop_width", "box_scale")
        for name in ("crop_height", "crop_width"):
            size = getattr(self, name)
            stride = self.output_stride
            near = max(1, round((size - 1) / stride)) * stride + 1
            require(size % stride == 1, name, size, f"{stride} n + 1, for example {near}")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `PoseTask` of these settings for a keypoint set."""
        from g_rmi.pose.task import PoseTask  # which reads this file

        return PoseTask(self, skeleton)

    def features(self, **options: Any) -> Any:
        """The backbone, or what the head has in its place."""
        own = getattr(self.head, "backbone", None)
        module = own(norm=self.norm, dtype=jnp.dtype(self.dtype), **options) if own else None
        return module or super().features(**options)

    @property
    def grid(self) -> Grid:
        """Rows and columns of the crop."""
        return Grid(self.crop_height, self.crop_width)

    @property
    def aspect(self) -> float:
        """Height / width of the crop."""
        return self.crop_height / self.crop_width
