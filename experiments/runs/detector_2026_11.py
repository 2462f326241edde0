"""g_rmi/weights/detector.safetensors: the eighth round of the small detector.

Date:      2026-11-28, commit 9fd9f22; before it, seven rounds (experiments/README.md).
Command:   python -m experiments.train --config detector_2026_11 --canvas 288 396
               --candidates 500 --proposals 48 --detections 50 --dtype bfloat16
               --data COCO_MINI COCO_EXTRA VOC_PERSONS LSPET --init SEVENTH_ROUND --workdir runs/d
           then `export weights` with the canvas and the numbers of this file, in float32.
Hardware:  one core of a Xeon: 104 minutes for 31 k pictures.
Others:    CenterNet box AP .338, AP50 .653, trained on all of COCO.
Ours:      box AP .197, AP50 .453, AR100 .330 on COCO-mini val.
"""

from dataclasses import replace

from experiments.configs import detector_small
from experiments.parts.experiment import DetectorExperiment


def get_config() -> DetectorExperiment:
    """`detector_small` at stride 8, people drawn evenly for the proposals, with Muon."""
    small = detector_small.get_config()
    return replace(
        small,
        model=replace(
            small.model,
            output_stride=8,
            canvas=(416, 572),
            rpn_dilation=2,
            rpn_positive=0.5,
            rpn_samples=128,
            rpn_positive_share=0.25,
            rpn_even=True,
            candidates=1_000,
            proposals=100,
            detections=60,
        ),
        data=replace(
            small.data,
            augmentation=replace(small.data.augmentation, scale=(0.7, 2.0)),
            weights=(3.0, 2.0, 4.0, 1.0),
            boxes_complete=(True, True, True, False),
        ),
        optim=replace(small.optim, optimizer="muon", learning_rate=1.5e-3, averaging=0.999),
        train=replace(small.train, steps=3_900, evaluate_every=0),
    )
