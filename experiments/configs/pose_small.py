"""A small pose network for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config pose_small --data COCO_MINI LSPET COCO_EXTRA
               --mix 3 6 1 --workdir runs/pose_small
Hardware:  2 cores of an AMD EPYC, busy with other work: 80 minutes for 86 k crops.
Ours:      AP .070, AP50 .219 on 125 photographs of COCO val2017 with annotated boxes; PCK@.2 of
           the torso .354 on 467 of LSPET; with --box-scale 1.25 --scale 0.9 1.6, as the crops were
           then. Later rounds, to .410, .733; .734: experiments/README.md, `pose_2026_11`.
"""

from experiments.configs import pose_synthetic
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """The embedded default on larger crops, with strong augmentation."""
    return override(
        pose_synthetic.get_config(),
        {
            "model.crop_height": 129,
            "model.crop_width": 97,
            "model.box_scale": 1.1,
            "model.head.radius": 8.0,
            "model.head.decoding": "hough_oks",
            "data.augmentation.scale": (0.85, 1.3),
            "data.augmentation.shift": 0.05,
            "data.augmentation.rotation": 40.0,
            "data.augmentation.colour_jitter": 0.4,
            "data.augmentation.half_body": 0.1,
            "data.augmentation.random_erasing": 0.3,
            "optim.learning_rate": 2e-3,
            "optim.warmup_steps": 200,
            "optim.ema_decay": 0.998,
            "train.steps": 2_700,
            "train.log_every": 50,
            "train.evaluate_every": 1_000,
            "train.checkpoint_every": 250,
        },
    )
