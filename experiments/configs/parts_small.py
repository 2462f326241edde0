"""A small bottom-up network on whole pictures, for CPUs.

Command:   make train CONFIG=parts_small
Hardware:  not run to its end. Width 16 learns 12 scenes of 96 x 128 by heart in 250 steps of 6
           (1.5 CPU minutes): AP there .86 in stages, .78 along the limbs.
"""

from dataclasses import replace

from data_pipeline.config import PartsDataConfig
from experiments.configs import ADAMW
from experiments.parts.experiment import PartsExperiment
from g_rmi.config import TrainConfig
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.parts.config import PartsConfig
from g_rmi.parts.decode import Decoding
from g_rmi.pose.heads.parts import Parts


def get_config() -> PartsExperiment:
    """A narrow ResNet-26, maps of stride 8; disks and distances as small as the people are."""
    return PartsExperiment(
        model=PartsConfig(
            backbone=ResNetConfig(depth=26, width=32),
            output_stride=16,
            canvas=(193, 241),
            head=Parts(radius=8.0, offset_std=4.0),
            decoding=Decoding(candidates=10, suppression=12.0, reach=15.0, steepness=0.5),
        ),
        data=PartsDataConfig(max_boxes=16, threads=4),
        optim=replace(ADAMW, learning_rate=3e-3),
        train=TrainConfig(
            steps=700, batch_size=8, log_every=25, evaluate_every=0, checkpoint_every=100
        ),
    )
