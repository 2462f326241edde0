"""Settings of SSD."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class SSDConfig(ResNetConfig):
    """SSD (Liu et al. 2016) on a ResNet as in Huang et al. (2017).

    What the article leaves open follows its authors' public framework. Pictures keep their aspect,
    where the article squashes them to a square.

    Attributes:
      kind: The name of this detector.
      output_stride: Stride of the first map, that of block 3; dilation keeps it low. Each added map
        has twice the stride of the one before.
      canvas: Shorter and longer side that pictures are resized to fit in.
      added_channels: Channels of the maps that follow block 3, at `width` 64; in proportion else.
      min_scale: Side of the anchors of the first map, relative to the shorter side of the canvas.
      max_scale: Likewise of the last map; between them, scales are evenly spaced.
      positive: IoU with a person from which an anchor is positive; below, it is background. The
        best anchor of each person is positive whatever its IoU.
      negatives_per_positive: Most anchors of background that enter the loss of a picture, those of
        the highest loss, for each positive one.
      min_negatives: At least so many, also in pictures without people.
      candidates: Best anchors that go into the NMS.
      box_iou: NMS threshold of the detections, relaxed: OKS-NMS does the rest.
      detections: Most people of a picture.
      localisation_weight: Weight of the Huber loss.
      class_weight: Weight of the classification loss.
      huber_delta: Where the Huber loss turns linear, in units of the box deltas.
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
    box_iou: float = 0.6
    detections: int = 100
    localisation_weight: float = 1.0
    class_weight: float = 1.0
    huber_delta: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        short, long = self.canvas
        require(1 <= short <= long, "canvas", self.canvas, "(shorter side, longer side) in pixels")
        channels = self.added_channels
        require(all(c >= 2 for c in channels), "added_channels", channels, "2 or more each")
        lower, upper = self.min_scale, self.max_scale
        require(0 < upper <= 1, "max_scale", upper, "above 0, at most 1")
        require(0 < lower <= upper, "min_scale", lower, f"positive, up to max_scale = {upper}")
        require_numbers(self, 0, 1, "positive", "box_iou")
        weights = "localisation_weight", "class_weight"
        require_numbers(self, 0, None, "negatives_per_positive", "min_negatives", *weights)
        require_numbers(self, 1, None, "candidates", "detections")
        require_positive(self, "huber_delta")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `SSD` of these settings; it finds people, whatever their keypoints."""
        from g_rmi.detector.ssd.task import SSD  # which reads this file

        del skeleton
        return SSD(self)
