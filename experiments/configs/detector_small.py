"""A small detector for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config detector_small --workdir runs/detector_small
               --data COCO_MINI COCO_EXTRA VOC_PERSONS LSPET --weights 3 2 4 1
               --boxes-complete True True True False --init runs/pose_small
Hardware:  2 cores of an AMD EPYC, busy with other work: 33 minutes (planned for 1,500 steps).
Ours:      box_AP .059, AP50 .174, AR100 .168 on 125 photographs of COCO val2017. After 13.6 k
           pictures more (--init, --learning-rate 1.5e-3, --averaging 0.999, 1,700 steps)
           box_AP .079, AP50 .219, AR100 .182. After 22.4 k more (likewise, 2,800 steps), now with
           --box-jitter 0.1 --box-samples 24 --box-positive-share 0.375 (0, 16, 0.25 before):
           box_AP .106, AP50 .278, AR100 .210; on canvases of 320 x 440 with 100 proposals
           box_AP .120, AP50 .311, AR100 .251. After 26 k more of the same (3,250 steps)
           box_AP .123, AP50 .304, AR100 .219; larger as before, .129, .313, .255. After
           35 k more (4,400 steps) .141, .321, .248; larger .148, .337, .283. After 32 k more
           (24 k of them with --rpn-positive 0.5 --rpn-samples 128) .147, .336, .246; on
           352 x 484 with 100 proposals .155, .362, .291. After 45 k more (--rpn-even True,
           --canvas 288 396, --optimizer muon, --dtype bfloat16) .167, .364, .266; on 416 x 572
           .176, .402, .308. After 31 k more (--output-stride 8 --rpn-dilation 2) .186, .410, .283;
           on 416 x 572 .197, .453, .330. Still rising.
"""

from experiments.parts.experiment import DetectorExperiment
from g_rmi.config import (
    DetectorAugmentation,
    DetectorConfig,
    DetectorDataConfig,
    OptimConfig,
    TrainConfig,
)


def get_config() -> DetectorExperiment:
    """The embedded default's network on larger canvases, with strong augmentation."""
    return DetectorExperiment(
        model=DetectorConfig(
            depth=26,
            width=32,
            output_stride=16,
            norm="batch",
            canvas=(256, 352),
            anchor_base=128.0,
            rpn_channels=128,
            rpn_dilation=1,
            rpn_samples=64,
            candidates=500,
            proposals=48,
            roi_size=8,
            box_samples=24,
            box_positive_share=0.375,
            box_jitter=0.1,
            detections=50,
        ),
        data=DetectorDataConfig(
            augmentation=DetectorAugmentation(scale=(0.6, 1.7), colour=0.4, mosaic=0.3),
            max_boxes=24,
            threads=4,
        ),
        optim=OptimConfig(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=100,
            clip_norm=1.0,
            averaging=0.998,
        ),
        train=TrainConfig(
            steps=1_000,
            batch_size=8,
            log_every=50,
            evaluate_every=1_000,
            checkpoint_every=250,
        ),
    )
