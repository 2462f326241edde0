"""The embedded default: a small pose network on synthetic scenes, minutes on two CPU cores.

Command:   make train
Hardware:  2 cores of an AMD EPYC.
Ours:      AP .055, AP50 .206, PCK@.2 .521 on the 200 validation scenes with annotated boxes; AP
           .019, AP50 .079 with the boxes of detector_synthetic.
"""

from dataclasses import replace

from data_pipeline.config import PoseAugmentation, PoseDataConfig
from experiments.configs import ADAMW
from experiments.parts.experiment import PoseExperiment
from g_rmi.config import TrainConfig
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.disks import Disks


def get_config() -> PoseExperiment:
    """A feature pyramid on a narrow ResNet-26, crops of 97 x 65, AdamW with a cosine schedule."""
    return PoseExperiment(
        model=PoseConfig(
            backbone=ResNetConfig(depth=26, width=32),
            output_stride=32,
            fpn_channels=64,
            crop_height=97,
            crop_width=65,
            head=Disks(radius=6.0, loss_stride=4),
        ),
        data=PoseDataConfig(
            augmentation=PoseAugmentation(scale=(1.1, 1.4)), unlabelled="ignore", threads=4
        ),
        optim=replace(ADAMW, learning_rate=3e-3),
        train=TrainConfig(
            steps=700, batch_size=32, log_every=25, evaluate_every=0, checkpoint_every=100
        ),
    )
