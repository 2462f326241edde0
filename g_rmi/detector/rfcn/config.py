"""Settings of R-FCN."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import require_numbers
from g_rmi.detector.two_stage.config import TwoStageConfig
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class RFCNConfig(TwoStageConfig):
    """R-FCN (Dai et al. 2016) as in Huang et al. (2017), who compare it with Faster R-CNN.

    Attributes:
      kind: The name of this detector.
      dilation: Dilation of block 4, which keeps the stride of block 3; 2 keeps the field of view
        that its ImageNet weights were trained with.
      reduced_channels: Channels that block 4 is reduced to at a ResNet's `width` 64; in
        proportion else.
      bins: A region has so many times so many parts, each with score maps of its own.
      bin_samples: Bilinear samples of a part along each axis.
    """

    kind: Literal["rfcn"] = "rfcn"
    output_stride: Literal[8, 16] = 16
    canvas: tuple[int, int] = (600, 1024)
    rpn_dilation: int = 1
    hard_examples: int = 128
    dilation: int = 2
    reduced_channels: int = 1024
    bins: int = 7
    bin_samples: int = 3

    def __post_init__(self):
        super().__post_init__()
        require_numbers(self, 1, None, "dilation", "reduced_channels", "bins", "bin_samples")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `RFCN` of these settings; it finds people, or the classes of a keypoint set."""
        from g_rmi.detector.rfcn.task import RFCN  # which reads this file

        return RFCN(self, tuple(skeleton.blocks))
