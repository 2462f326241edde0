"""The paper's pose network: ResNet-101 at output stride 8 on 353 x 257 crops.

Command:   python -m experiments.train --config pose_resnet101 --data COCO --workdir runs/r101
           (start from ImageNet weights with --pretrained resnet101.safetensors)
Paper:     COCO test-dev AP .649 with its own detector's boxes; batch 24, 800 k steps.
Ours:      not run: it needs COCO and an accelerator.
Variants:  --depth 50; --crop-height 257 --crop-width 185 (the paper's small crops).
"""

from experiments.parts.experiment import PoseExperiment


def get_config() -> PoseExperiment:
    """The defaults are the paper's values."""
    return PoseExperiment()
