"""A small detector for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config detector_small --workdir runs/detector_small
               --data COCO_MINI COCO_EXTRA VOC_PERSONS LSPET --mix 3 2 4 1
               --boxes-complete True True True False --init runs/pose_small
Hardware:  2 cores of an AMD EPYC, busy with other work: 33 minutes (planned for 1,500 steps).
Ours:      box_AP .059, AP50 .174, AR100 .168 on 125 photographs of COCO val2017, with the first
           values of box_jitter 0, box_samples 16, box_positive_share 0.25. Later rounds, to
           .197, .453, .330: experiments/README.md, `detector_2026_11`.
"""

from experiments.configs import detector_synthetic
from experiments.parts.experiment import DetectorExperiment, override


def get_config() -> DetectorExperiment:
    """The embedded default on larger canvases, with strong augmentation."""
    return override(
        detector_synthetic.get_config(),
        {
            "model.backbone.width": 32,
            "model.canvas": (256, 352),
            "model.anchor_base": 128.0,
            "model.candidates": 500,
            "model.proposals": 48,
            "model.box_samples": 24,
            "model.box_positive_share": 0.375,
            "model.box_jitter": 0.1,
            "model.detections": 50,
            "data.max_boxes": 24,
            "data.augmentation.scale": (0.6, 1.7),
            "data.augmentation.colour_jitter": 0.4,
            "data.augmentation.mosaic": 0.3,
            "optim.warmup_steps": 100,
            "optim.ema_decay": 0.998,
            "train.steps": 1_000,
            "train.log_every": 50,
            "train.evaluate_every": 1_000,
            "train.checkpoint_every": 250,
        },
    )
