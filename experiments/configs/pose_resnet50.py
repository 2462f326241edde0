"""The paper's lighter pose network: ResNet-50 at output stride 8 on 353 x 257 crops.

Command:   python -m experiments.train --config pose_resnet50 --data COCO --workdir runs/r50
Paper:     an ablation of ResNet-101; the same schedule.
Ours:      not run: it needs COCO and an accelerator.
"""

from experiments.parts.experiment import PoseExperiment
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig


def get_config() -> PoseExperiment:
    """The paper's values with half the depth."""
    return PoseExperiment(model=PoseConfig(backbone=ResNetConfig(depth=50)))
