"""g_rmi/weights/pose.safetensors: `pose_2026_11`'s weights, trained on with three times the people.

Date:      2026-11-29, commit df9dad6, from the weights of `pose_2026_11`.
Command:   python -m experiments.train --config pose_2026_11 --init pose_2026_11.safetensors
               --data COCO_PEOPLE COCO_MINI COCO_EXTRA LSPET_FACES VOC_JOINTS --mix 7 1 1 1 1
               --batch-size 32 --learning-rate 8e-4 --schedule constant --ema-decay 0.998 --seed 5
               --steps 4000 --workdir runs/pose_c
           stopped at step 495; then from its last weights, stopped at step 385 of 430:
           python -m experiments.train --config pose_2026_11b --init LAST.safetensors
               --data (the same) --workdir runs/pose_d
           COCO_PEOPLE: 1,354 images of COCO train2017 and val2017, 3,676 people with joints;
           LSPET_FACES, VOC_JOINTS: experiments/preparation/teacher_joints.py.
Hardware:  a core of an AMD EPYC without matrix units, float32: 120 minutes for 28 k crops.
Before:    AP .379, AP50 .676 on 500 other images of COCO val2017, annotated boxes, 1,211 people.
Ours:      AP .447, AP50 .742 there; COCO-mini val AP .458, AP50 .767, PCK .802; LSPET val PCK .718.
"""

from experiments.parts.experiment import PoseExperiment, override
from experiments.runs import pose_2026_11


def get_config() -> PoseExperiment:
    """`pose_2026_11` for a short training that ends at a learning rate of 0."""
    return override(
        pose_2026_11.get_config(),
        {
            "data.mix": (7.0, 1.0, 1.0, 1.0, 1.0),
            "optim.learning_rate": 8e-4,
            "optim.warmup_steps": 10,
            "optim.ema_decay": 0.99,
            "train.steps": 430,
            "train.batch_size": 32,
            "train.seed": 6,
            "train.log_every": 25,
            "train.checkpoint_every": 50,
        },
    )
