"""g_rmi/weights/detector.safetensors: the small detector's tenth round, three times the images.

Date:      2026-11-30, commit aead66d, from the weights of `detector_2026_11`.
Command:   python -m experiments.train --config detector_2026_11b
               --init detector_2026_11.safetensors --canvas 352 484 --candidates 700 --proposals 64
               --detections 50 --dtype bfloat16
               --data COCO_PEOPLE COCO_MINI COCO_EXTRA VOC_JOINTS LSPET_FACES
               --learning-rate 8e-4 --schedule constant --ema-decay 0.998 --warmup-steps 20
               --seed 11 --steps 20000 --workdir runs/det_a
           stopped at step 1805; then from its last weights, to the end:
           python -m experiments.train --config detector_2026_11b --init LAST.safetensors
               --canvas 352 484 --candidates 700 --proposals 64 --detections 50 --dtype bfloat16
               --data (the same) --workdir runs/det_b
           then `export weights` with the canvas and the numbers of this file, in float32.
           COCO_PEOPLE: 1,802 complete images of COCO train2017 and val2017, 233 of them without
           people; VOC_JOINTS, LSPET_FACES: experiments/preparation/teacher_joints.py.
Hardware:  a core of a Xeon with AMX, bfloat16: 97 minutes for 21 k pictures.
Before:    box AP .197, AP50 .429 on 500 other images of COCO val2017, 1,982 people.
Ours:      box AP .241, AP50 .498, AR100 .367 there; COCO-mini val .226, .478, .372.
"""

from experiments.parts.experiment import DetectorExperiment, override
from experiments.runs import detector_2026_11


def get_config() -> DetectorExperiment:
    """`detector_2026_11` for a short training that ends at a learning rate of 0."""
    return override(
        detector_2026_11.get_config(),
        {
            "data.mix": (8.0, 2.0, 1.0, 2.0, 0.5),
            "data.boxes_complete": (True, True, False, True, False),
            "data.augmentation.scale": (0.6, 1.7),
            "data.threads": 2,
            "optim.learning_rate": 7e-4,
            "optim.ema_decay": 0.99,
            "optim.schedule": "cosine",
            "optim.warmup_steps": 10,
            "train.steps": 850,
            "train.batch_size": 8,
            "train.seed": 12,
            "train.log_every": 25,
            "train.checkpoint_every": 50,
        },
    )
