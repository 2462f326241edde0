"""Faster R-CNN as the trainer and the programs see it."""

import dataclasses

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.faster_rcnn.network import DetectorNetwork
from g_rmi.detector.two_stage.task import TwoStage


@dataclasses.dataclass(frozen=True)
class FasterRCNN(TwoStage):
    """Trains and runs the Faster R-CNN of a config; see `g_rmi.detector.detector.Detector`."""

    config: FasterRCNNConfig

    @property
    def network(self) -> DetectorNetwork:
        """The linen module."""
        return DetectorNetwork(self.config, max(1, len(self.classes)))
