"""Settings that all detectors share."""

import dataclasses
from typing import Literal

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.nn.network import NetworkConfig


@dataclasses.dataclass(frozen=True)
class DetectorSettings(NetworkConfig):
    """A person detector on a backbone.

    Attributes:
      output_stride: Stride of the features that anchors lie on; dilation keeps it low.
      canvas: Shorter and longer side that pictures are resized to fit in.
      squash: Pictures are resized to all of the canvas, whatever their aspect; else they keep it.
      candidates: Best anchors that go into the first NMS.
      box_nms_iou: NMS threshold of the detections, relaxed: OKS-NMS does the rest.
      detections: Most people of a picture.
      localisation_weight: Weight of the Huber losses.
      class_weight: Weight of the classification losses.
      huber_delta: Where the Huber loss turns linear, in units of the box deltas.
    """

    output_stride: Literal[8, 16] = 8
    canvas: tuple[int, int] = (800, 1200)
    squash: bool = False
    candidates: int = 6_000
    box_nms_iou: float = 0.6
    detections: int = 100
    localisation_weight: float = 2.0
    class_weight: float = 1.0
    huber_delta: float = 1.0

    def __post_init__(self):
        short, long = self.canvas
        require(1 <= short <= long, "canvas", self.canvas, "(shorter side, longer side) in pixels")
        require_positive(self, "huber_delta")
        require_numbers(self, 1, None, "candidates", "detections")
        require_numbers(self, 0, 1, "box_nms_iou")
        require_numbers(self, 0, None, "localisation_weight", "class_weight")
