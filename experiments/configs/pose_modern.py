"""Today's recipe on the paper's network: AdamW, cosine schedule, bfloat16, stronger augmentation.

Command:   python -m experiments.train --config pose_modern --data COCO --workdir runs/modern
               --pretrained resnet101.safetensors
           python -m experiments.evaluate --workdir runs/modern --data COCO --flip-test
           (one device with 16 GB: --accumulate 8)
Paper:     the same network with SGD at a constant rate, flip and scale only: test-dev AP .649.
Ours:      not run: it needs COCO and an accelerator. Its choices are `pose_small`'s.
"""

from experiments.parts.experiment import PoseExperiment
from g_rmi.config import OptimConfig, PoseAugmentation, PoseDataConfig, TrainConfig
from g_rmi.pose.config import PoseConfig


def get_config() -> PoseExperiment:
    """About 210 passes over COCO train2017."""
    return PoseExperiment(
        model=PoseConfig(dtype="bfloat16"),
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
        ),
        optim=OptimConfig(
            optimizer="adamw",
            learning_rate=5e-4,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=1_000,
            clip_norm=1.0,
            averaging=0.9995,
        ),
        train=TrainConfig(steps=245_000, batch_size=128, evaluate_every=10_000),
    )
