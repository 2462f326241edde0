"""DeeperCut on whole pictures: ResNet-101, the authors' recipe for their TensorFlow code.

Command:   make train CONFIG=parts_resnet101 DATA=COCO ARGS="--pretrained resnet101.safetensors"
Hardware:  not run here.
Paper:     MPII multi-person mAP 59.5 on the full test set, by their Caffe models; none on COCO.
"""

from dataclasses import replace

from experiments.parts.experiment import PartsExperiment
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.parts.config import PartsConfig


def get_config() -> PartsExperiment:
    """Frozen batch norms, SGD in steps, one picture a step, scale jitter of 15 %."""
    experiment = PartsExperiment(
        model=PartsConfig(backbone=ResNetConfig(depth=101), norm="frozen", canvas=(577, 689))
    )
    warm = replace(experiment.optim, warmup_steps=10_000)
    return replace(experiment, optim=warm)
