"""The first stage: pictures to boxes of people (paper, section 3.1).

A new detector is a file or folder here, and the name of its settings in the line below.
"""

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.rfcn.config import RFCNConfig
from g_rmi.detector.ssd.config import SSDConfig

DetectorConfig = FasterRCNNConfig | RFCNConfig | SSDConfig
