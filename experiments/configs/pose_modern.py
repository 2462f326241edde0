"""Today's recipe on the paper's network: AdamW, cosine schedule, bfloat16, stronger augmentation.

Command:   python -m experiments.train --config pose_modern --data COCO --workdir runs/modern
               --pretrained resnet101.safetensors
           python -m experiments.evaluate --workdir runs/modern --data COCO --flip-test
           (one device with 16 GB: --grad-accumulation 8)
Paper:     the same network with SGD at a constant rate, flip and scale only: test-dev AP .649.
Ours:      not run: it needs COCO and an accelerator. Its choices are `pose_small`'s.
"""

from dataclasses import replace

from data_pipeline.config import PoseDataConfig
from experiments.configs import pose_small
from experiments.parts.experiment import PoseExperiment
from g_rmi.config import TrainConfig
from g_rmi.pose.config import PoseConfig


def get_config() -> PoseExperiment:
    """About 210 passes over COCO train2017."""
    small = pose_small.get_config()
    return PoseExperiment(
        model=PoseConfig(dtype="bfloat16"),
        data=PoseDataConfig(
            augmentation=replace(small.data.augmentation, scale=(0.9, 1.6)), unlabelled="ignore"
        ),
        optim=replace(small.optim, learning_rate=5e-4, warmup_steps=1_000, ema_decay=0.9995),
        train=TrainConfig(steps=245_000, batch_size=128, evaluate_every=10_000),
    )
