"""Settings of Faster R-CNN."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import require, require_numbers
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class FasterRCNNConfig(ResNetConfig):
    """Faster R-CNN on an atrous ResNet (paper, section 3.1).

    What the paper leaves open follows its authors' public framework.
    """

    kind: Literal["faster_rcnn"] = "faster_rcnn"  # The name of this detector.
    # Stride of the features that proposals are made from; dilation keeps it low.
    output_stride: Literal[8, 16] = 8
    # "batch" (synchronised over the mesh), "frozen" (imported statistics) or "group".
    norm: Literal["batch", "frozen", "group"] = "frozen"
    # Shorter and longer side that pictures are resized to fit in: (800, 1200) is the paper's
    # "accurate", (600, 900) its "fast".
    canvas: tuple[int, int] = (800, 1200)
    anchor_base: float = 256.0  # Side of the square anchor of scale 1, in canvas pixels.
    anchor_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # Sides relative to the base.
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # Height / width.
    rpn_channels: int = 512  # Channels of the 3x3 convolution of the region proposal network.
    rpn_dilation: int = 2  # Dilation of that convolution.
    rpn_positive: float = 0.7  # IoU from which an anchor is a person.
    rpn_negative: float = 0.3  # IoU below which it is background.
    rpn_samples: int = 256  # Anchors per picture that enter the loss.
    rpn_positive_share: float = 0.5  # Largest share of people among them.
    rpn_even: bool = False  # Each person has the same chance to be among them, else each anchor.
    candidates: int = 6_000  # Best anchors that go into the proposals' NMS.
    proposals: int = 300  # Boxes of a picture that are kept after it.
    proposal_iou: float = 0.7  # NMS threshold of the proposals.
    # "crop" samples each RoI on a grid between its corners, then max-pools 2x2 (the authors');
    # with "align", cells are the mean of 2x2 samples (RoIAlign).
    roi: Literal["crop", "align"] = "crop"
    roi_size: int = 14  # Side of the sampled grid; block 4 sees half of it.
    box_positive: float = 0.5  # IoU from which a proposal is a person.
    box_samples: int = 64  # Proposals per picture that enter the loss of the second stage.
    box_positive_share: float = 0.25  # Largest share of people among them.
    # Standard deviation of the noise on the annotated boxes that join the proposals of the second
    # stage in training, in sides of the box; 0 adds them as they are.
    box_jitter: float = 0.0
    box_iou: float = 0.6  # NMS threshold of the detections, relaxed: OKS-NMS does the rest.
    detections: int = 100  # Most people of a picture.
    localisation_weight: float = 2.0  # Weight of both Huber losses.
    class_weight: float = 1.0  # Weight of both classification losses.
    huber_delta: float = 1.0  # Where the Huber loss turns linear, in units of the box deltas.

    def __post_init__(self):
        counts = ("rpn_samples", "candidates", "proposals", "box_samples", "detections")
        require_numbers(self, "width", "rpn_channels", "rpn_dilation", *counts)
        short, long = self.canvas
        require(1 <= short <= long, "canvas", self.canvas, "(shorter side, longer side) in pixels")
        for name in ("anchor_scales", "anchor_ratios"):
            values = getattr(self, name)
            require(len(values) > 0 and min(values) > 0, name, values, "positive numbers")
        for name in ("anchor_base", "huber_delta"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        require(self.roi_size % 2 == 0 and self.roi_size > 0, "roi_size", self.roi_size, "even")
        shares = ("rpn_positive_share", "box_positive_share", "proposal_iou", "box_iou")
        for name in (*shares, "rpn_positive", "rpn_negative", "box_positive"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        lower, upper = self.rpn_negative, self.rpn_positive
        require(lower <= upper, "rpn_negative", lower, f"at most rpn_positive = {upper}")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `FasterRCNN` of these settings; it finds people, whatever their keypoints."""
        from g_rmi.detector.faster_rcnn.task import FasterRCNN  # which reads this file

        del skeleton
        return FasterRCNN(self)
