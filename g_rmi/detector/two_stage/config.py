"""Settings that Faster R-CNN and R-FCN share."""

import dataclasses
from typing import Literal

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.detector.config import DetectorSettings


@dataclasses.dataclass(frozen=True)
class TwoStageConfig(DetectorSettings):
    """Region proposals, then a class and a better box for each; the defaults are the paper's.

    Attributes:
      canvas: (800, 1200) is the paper's "accurate", (600, 900) its "fast".
      anchor_base: Side of the square anchor of scale 1, in canvas pixels.
      anchor_scales: Sides relative to the base.
      anchor_ratios: Height / width.
      rpn_channels: Channels of the 3x3 convolution of the region proposal network.
      rpn_dilation: Dilation of that convolution.
      rpn_positive: IoU from which an anchor is a person.
      rpn_negative: IoU below which it is background.
      rpn_samples: Anchors per picture that enter the loss.
      rpn_positive_share: Largest share of people among them.
      rpn_balanced: Each person has the same chance to be among them, else each anchor.
      proposals: Boxes of a picture that are kept after it.
      rpn_nms_iou: NMS threshold of the proposals.
      box_positive: IoU from which a proposal is a person.
      box_samples: Proposals per picture that enter the loss of the second stage.
      box_positive_share: Largest share of people among them.
      hard_examples: In place of that sample, so many of all proposals whose class and box are worst
        at the time (Shrivastava et al., 2016); 0 draws the sample.
      box_jitter: Standard deviation of the noise on the annotated boxes that join the proposals of
        the second stage in training, in sides of the box; 0 adds them as they are.
    """

    norm: Literal["batch", "frozen", "group"] = "frozen"
    anchor_base: float = 256.0
    anchor_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_channels: int = 512
    rpn_dilation: int = 2
    rpn_positive: float = 0.7
    rpn_negative: float = 0.3
    rpn_samples: int = 256
    rpn_positive_share: float = 0.5
    rpn_balanced: bool = False
    proposals: int = 300
    rpn_nms_iou: float = 0.7
    box_positive: float = 0.5
    box_samples: int = 64
    box_positive_share: float = 0.25
    hard_examples: int = 0
    box_jitter: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("anchor_scales", "anchor_ratios"):
            require(len(getattr(self, name)) > 0, name, (), "positive numbers")
        require_positive(self, "anchor_base", "anchor_scales", "anchor_ratios")
        counts = "rpn_samples", "proposals", "box_samples"
        require_numbers(self, 1, None, *counts, "rpn_channels", "rpn_dilation")
        shares = "rpn_positive_share", "box_positive_share", "rpn_nms_iou"
        require_numbers(self, 0, 1, *shares, "rpn_positive", "rpn_negative", "box_positive")
        require_numbers(self, 0, None, "box_jitter", "hard_examples")
        lower, upper = self.rpn_negative, self.rpn_positive
        require(lower <= upper, "rpn_negative", lower, f"at most rpn_positive = {upper}")
