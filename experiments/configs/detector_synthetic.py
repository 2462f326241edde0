"""The embedded default: a small detector on synthetic scenes, minutes on two CPU cores.

Command:   make train
Hardware:  2 cores of an AMD EPYC: about 2:30 minutes (21 pictures/s).
Ours:      box_AP .093, AP50 .280, AR100 .314 on the 200 validation scenes.
"""

from data_pipeline.config import DetectorDataConfig
from experiments.configs import ADAMW
from experiments.parts.experiment import DetectorExperiment
from g_rmi.config import TrainConfig
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.nn.resnet import ResNetConfig


def get_config() -> DetectorExperiment:
    """A narrow ResNet-26 at output stride 16, canvases of 192 x 240, AdamW with a cosine."""
    return DetectorExperiment(
        model=FasterRCNNConfig(
            backbone=ResNetConfig(depth=26, width=24),
            output_stride=16,
            norm="batch",
            canvas=(192, 240),
            anchor_base=96.0,
            rpn_channels=128,
            rpn_dilation=1,
            rpn_samples=64,
            candidates=300,
            proposals=32,
            roi_size=8,
            box_samples=16,
            detections=30,
        ),
        data=DetectorDataConfig(max_boxes=16, threads=4),
        optim=ADAMW,
        train=TrainConfig(
            steps=350, batch_size=8, log_every=25, evaluate_every=0, checkpoint_every=100
        ),
    )
