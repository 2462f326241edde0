"""SSD on ResNet-101 as Huang et al. (2017) train it: block 3 and five added maps, 300 pixels.

The shorter side is the article's; pictures are not squashed, so the longer one is a photograph's.

Command:   make train CONFIG=detector_ssd_resnet101 DATA=COCO
               ARGS="--pretrained resnet101.safetensors"
Article:   batch 32, learning rate 3e-4, at .64 and .8 of it for the first 10,000 steps each (here a
           linear rise over as many). It names RMSProp in one place and SGD in another, and no end;
           momentum, decay and steps here are the authors' framework's.
Hardware:  not run (needs COCO, ImageNet weights and an accelerator).
"""

from experiments.parts.experiment import DetectorExperiment, override
from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.detector.ssd.config import SSDConfig


def get_config() -> DetectorExperiment:
    """Enlarging and shrinking stands for the random crops of Liu et al. (2016)."""
    experiment = DetectorExperiment(
        model=SSDConfig(canvas=(300, 400)),
        optim=OptimConfig(
            learning_rate=3e-4,
            momentum=0.9,
            weight_decay=4e-5,
            warmup_steps=20_000,
            clip_norm=10.0,
            ema_decay=0.0,
        ),
        train=TrainConfig(steps=200_000, batch_size=32),
    )
    return override(experiment, {"data.augmentation.scale": (0.5, 2.0)})
