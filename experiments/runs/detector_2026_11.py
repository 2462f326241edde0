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

from experiments.configs import detector_small
from experiments.parts.experiment import DetectorExperiment, override


def get_config() -> DetectorExperiment:
    """`detector_small` at stride 8, people drawn evenly for the proposals, with Muon."""
    return override(
        detector_small.get_config(),
        {
            "model.output_stride": 8,
            "model.canvas": (416, 572),
            "model.rpn_dilation": 2,
            "model.rpn_positive": 0.5,
            "model.rpn_samples": 128,
            "model.rpn_positive_share": 0.25,
            "model.rpn_balanced": True,
            "model.candidates": 1_000,
            "model.proposals": 100,
            "model.detections": 60,
            "data.augmentation.scale": (0.7, 2.0),
            "data.mix": (3.0, 2.0, 4.0, 1.0),
            "data.boxes_complete": (True, True, True, False),
            "optim.optimizer": "muon",
            "optim.learning_rate": 1.5e-3,
            "optim.ema_decay": 0.999,
            "train.steps": 3_900,
            "train.evaluate_every": 0,
        },
    )
