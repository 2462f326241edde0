"""Settings of SSD."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import require, require_numbers
from g_rmi.detector.config import DetectorSettings
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class SSDConfig(DetectorSettings):
    """SSD (Liu et al. 2016) on blocks 1-3 of a backbone, as in Huang et al. (2017).

    What the article leaves open follows its authors' public framework. Pictures keep their aspect;
    with `squash` and a square canvas they are squashed to it, as the article's.

    Attributes:
      kind: The name of this detector.
      added_channels: Channels of the maps that follow block 3, at a ResNet's `width` 64; in
        proportion else. Each has twice the stride of the one before.
      min_scale: Side of the anchors of the first map, relative to the shorter side of the canvas.
      max_scale: Likewise of the last map; between them, scales are evenly spaced.
      positive: IoU with a person from which an anchor is positive; below, it is background. The
        best anchor of each person is positive whatever its IoU.
      negatives_per_positive: Most anchors of background that enter the loss of a picture, those of
        the highest loss, for each positive one.
      min_negatives: At least so many, also in pictures without people.
    """

    kind: Literal["ssd"] = "ssd"
    output_stride: Literal[8, 16] = 16
    canvas: tuple[int, int] = (300, 300)
    added_channels: tuple[int, ...] = (512, 512, 256, 256, 128)
    min_scale: float = 0.2
    max_scale: float = 0.95
    positive: float = 0.5
    negatives_per_positive: float = 3.0
    min_negatives: int = 3
    candidates: int = 2_000
    localisation_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        channels = self.added_channels
        require(all(c >= 2 for c in channels), "added_channels", channels, "2 or more each")
        lower, upper = self.min_scale, self.max_scale
        require(0 < upper <= 1, "max_scale", upper, "above 0, at most 1")
        require(0 < lower <= upper, "min_scale", lower, f"positive, up to max_scale = {upper}")
        require_numbers(self, 0, 1, "positive")
        require_numbers(self, 0, None, "negatives_per_positive", "min_negatives")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `SSD` of these settings; it finds people, or the classes of a keypoint set."""
        from g_rmi.detector.ssd.task import SSD  # which reads this file

        return SSD(self, tuple(skeleton.blocks))
