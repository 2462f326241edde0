"""A small detector for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config detector_small --workdir runs/detector_small
               --data COCO_MINI COCO_EXTRA VOC_PERSONS LSPET --weights 3 2 4 1
               --boxes-complete True True True False --init runs/pose_small
Hardware:  2 cores of an AMD EPYC, busy with other work: 33 minutes (planned for 1,500 steps).
Ours:      box_AP .059, AP50 .174, AR100 .168 on 125 photographs of COCO val2017, with the first
           values of box_jitter 0, box_samples 16, box_positive_share 0.25. Later rounds, to
           .197, .453, .330: experiments/README.md, `detector_2026_11`.
"""

from dataclasses import replace

from data_pipeline.config import DetectorAugmentation
from experiments.configs import detector_synthetic
from experiments.parts.experiment import DetectorExperiment


def get_config() -> DetectorExperiment:
    """The embedded default on larger canvases, with strong augmentation."""
    base = detector_synthetic.get_config()
    return replace(
        base,
        model=replace(
            base.model,
            width=32,
            canvas=(256, 352),
            anchor_base=128.0,
            candidates=500,
            proposals=48,
            box_samples=24,
            box_positive_share=0.375,
            box_jitter=0.1,
            detections=50,
        ),
        data=replace(
            base.data,
            augmentation=DetectorAugmentation(scale=(0.6, 1.7), colour=0.4, mosaic=0.3),
            max_boxes=24,
        ),
        optim=replace(base.optim, warmup_steps=100, averaging=0.998),
        train=replace(
            base.train, steps=1_000, log_every=50, evaluate_every=1_000, checkpoint_every=250
        ),
    )
