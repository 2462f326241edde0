"""A small pose network for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config pose_small --data COCO_MINI LSPET COCO_EXTRA
               --weights 3 6 1 --workdir runs/pose_small
Hardware:  2 cores of an AMD EPYC, busy with other work: 80 minutes for 86 k crops.
Ours:      AP .070, AP50 .219 on 125 photographs of COCO val2017 with annotated boxes; PCK@.2 of
           the torso .354 on 467 of LSPET; with --box-scale 1.25 --scale 0.9 1.6, as the crops were
           then. Later rounds, to .410, .733; .734: experiments/README.md, `pose_2026_11`.
"""

from dataclasses import replace

from data_pipeline.config import PoseAugmentation
from experiments.configs import pose_synthetic
from experiments.parts.experiment import PoseExperiment
from g_rmi.pose.heads.disks import Disks


def get_config() -> PoseExperiment:
    """The embedded default on larger crops, with strong augmentation."""
    base = pose_synthetic.get_config()
    return replace(
        base,
        model=replace(
            base.model,
            crop_height=129,
            crop_width=97,
            box_scale=1.1,
            head=Disks(radius=8.0, loss_stride=4, decoding="hough_oks"),
        ),
        data=replace(
            base.data,
            augmentation=PoseAugmentation(
                scale=(0.85, 1.3),
                shift=0.05,
                rotation=40.0,
                colour=0.4,
                half_body=0.1,
                occlusion=0.3,
            ),
        ),
        optim=replace(base.optim, learning_rate=2e-3, warmup_steps=200, averaging=0.998),
        train=replace(
            base.train, steps=2_700, log_every=50, evaluate_every=1_000, checkpoint_every=250
        ),
    )
