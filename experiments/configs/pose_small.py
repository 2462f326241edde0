"""A small pose network for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config pose_small --data LSPET COCO_MINI COCO_EXTRA \
               --workdir runs/pose_small
"""

import dataclasses

from experiments.configs import pose_synthetic
from g_rmi.config import OptimConfig, PoseAugmentation, PoseDataConfig, PoseExperiment, TrainConfig


def get_config() -> PoseExperiment:
    """The embedded default's network with strong augmentation and a longer schedule."""
    base = pose_synthetic.get_config()
    return dataclasses.replace(
        base,
        data=PoseDataConfig(
            augmentation=PoseAugmentation(
                scale=(0.9, 1.6),
                shift=0.05,
                rotation=40.0,
                colour=0.4,
                half_body=0.1,
                occlusion=0.3,
            ),
            unlabelled="ignore",
            threads=4,
        ),
        optim=OptimConfig(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=200,
            clip_norm=1.0,
            averaging=0.998,
        ),
        train=TrainConfig(
            steps=10_000,
            batch_size=32,
            log_every=50,
            evaluate_every=1_000,
            checkpoint_every=500,
        ),
    )
