"""Bulat and Tzimiropoulos's cascade on ResNet-152: detection at stride 8, an hourglass at stride 4.

Command:   in three steps, each from the weights of the one before:
           make train CONFIG=pose_cascade_resnet152 WORKDIR=runs/cascade_1 DATA=COCO
               ARGS="--pretrained resnet152.safetensors --trains detection"
           make train CONFIG=pose_cascade_resnet152 WORKDIR=runs/cascade_2 DATA=COCO
               ARGS="--init runs/cascade_1 --trains regression"
           make train CONFIG=pose_cascade_resnet152 WORKDIR=runs/cascade_3 DATA=COCO
               ARGS="--init runs/cascade_2"
Article:   ECCV 2016. From memory, unconfirmed: crops of 256 pixels, some 20 epochs a step, small
           rates, rotation up to 40 degrees, scale .7 to 1.3, radius 10, sigma 5, a last block with
           holes. MPII PCKh@.5 .897, LSP PCK@.2 .907 (the authors' page). No training code is
           public: optimiser and rates are choices of ours.
Here:      crops of 257 x 257, 20 passes over COCO's people a step.
Ours:      not run: it needs COCO, ImageNet weights and an accelerator.
"""

from data_pipeline.config import PoseAugmentation, PoseDataConfig
from experiments.parts.experiment import PoseExperiment
from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.cascade import Cascade


def get_config() -> PoseExperiment:
    """The cascade at once, unless `--trains` says otherwise."""
    return PoseExperiment(
        model=PoseConfig(
            backbone=ResNetConfig(depth=152), crop_height=257, crop_width=257, head=Cascade()
        ),
        data=PoseDataConfig(augmentation=PoseAugmentation(scale=(0.9, 1.6), rotation=40.0)),
        optim=OptimConfig(
            optimizer="adamw",
            learning_rate=2.5e-4,
            schedule="cosine",
            warmup_steps=1_000,
            clip_norm=1.0,
        ),
        train=TrainConfig(steps=125_000),
    )
