"""R-FCN as the trainer and the programs see it."""

import dataclasses

from g_rmi.detector.rfcn.config import RFCNConfig
from g_rmi.detector.rfcn.network import RFCNNetwork
from g_rmi.detector.two_stage.task import TwoStage


@dataclasses.dataclass(frozen=True)
class RFCN(TwoStage):
    """Trains and runs the R-FCN of a config; see `g_rmi.detector.detector.Detector`."""

    config: RFCNConfig

    @property
    def network(self) -> RFCNNetwork:
        """The linen module."""
        return RFCNNetwork(self.config, max(1, len(self.classes)))
