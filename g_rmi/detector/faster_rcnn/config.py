"""Settings of Faster R-CNN."""

import dataclasses
from typing import Any, Literal

from g_rmi.config import require
from g_rmi.detector.two_stage.config import TwoStageConfig
from g_rmi.skeleton import COCO, Skeleton


@dataclasses.dataclass(frozen=True)
class FasterRCNNConfig(TwoStageConfig):
    """Faster R-CNN on an atrous ResNet (paper, section 3.1).

    What the paper leaves open follows its authors' public framework.

    Attributes:
      kind: The name of this detector.
      roi: "crop" samples each RoI on a grid between its corners, then max-pools 2x2 (the
        authors'); "align" averages 2x2 samples a cell (RoIAlign).
      roi_size: Side of the sampled grid; block 4 sees half of it.
    """

    kind: Literal["faster_rcnn"] = "faster_rcnn"
    roi: Literal["crop", "align"] = "crop"
    roi_size: int = 14

    def __post_init__(self):
        super().__post_init__()
        require(self.roi_size % 2 == 0 and self.roi_size > 0, "roi_size", self.roi_size, "even")

    def task(self, skeleton: Skeleton = COCO) -> Any:
        """The `FasterRCNN` of these settings; it finds people, or the classes of a keypoint set."""
        from g_rmi.detector.faster_rcnn.task import FasterRCNN  # which reads this file

        return FasterRCNN(self, tuple(skeleton.blocks))
