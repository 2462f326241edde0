"""Settings of the bottom-up stage: network, canvas and decoding."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import require
from g_rmi.parts.decode import Decoding
from g_rmi.pose.config import MapsConfig
from g_rmi.pose.heads.parts import Parts
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class PartsConfig(MapsConfig):
    """DeeperCut on whole pictures (Insafutdinov et al., ECCV 2016).

    Attributes:
      output_stride: Stride of the ResNet's last block; maps from 16 are enlarged to 8.
      canvas: Shorter and longer side that pictures are resized to fit in, `8 n + 1` each.
      head: What is predicted; its decoding of single people is not asked.
      decoding: How maps become people.
    """

    output_stride: Literal[8, 16, 32] = 16
    canvas: tuple[int, int] = (513, 641)
    head: Parts = Parts()
    decoding: Decoding = Decoding()

    def __post_init__(self):
        super().__post_init__()
        short, long = self.canvas
        right = 1 < short <= long and all(side % self.output_stride == 1 for side in self.canvas)
        wanted = f"(shorter, longer side) in pixels, {self.output_stride} n + 1 each"
        require(right, "canvas", self.canvas, wanted)
        weight = self.head.pairwise_weight
        require(weight > 0, "pairwise_weight", weight, "positive: it tells people apart")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `PartsTask` of these settings for a keypoint set."""
        from g_rmi.parts.task import PartsTask  # which reads this file

        return PartsTask(self, skeleton)
