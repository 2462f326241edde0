"""The run of docs/bottom_up.md: `parts_small` on photographs, in bfloat16.

Command:   python -m experiments.train --config parts_2026_11
               --data COCO_PEOPLE COCO_MINI COCO_EXTRA
               --pretrained g_rmi/weights/detector.safetensors --workdir runs/parts
           COCO_PEOPLE, COCO_EXTRA: as in `pose_2026_11b`.
Hardware:  not run to its end yet.
"""

from experiments.configs import parts_small
from experiments.parts.experiment import PartsExperiment, override


def get_config() -> PartsExperiment:
    """Larger canvases, and a trunk that has seen people and no joints."""
    return override(
        parts_small.get_config(),
        {
            "model.dtype": "bfloat16",
            "model.canvas": (321, 433),
            "model.head.radius": 10.0,
            "model.head.offset_std": 5.0,
            "model.decoding.candidates": 20,
            "model.decoding.suppression": 14.0,
            "model.decoding.reach": 18.0,
            "model.decoding.steepness": 0.4,
            "data.mix": (8.0, 2.0, 1.0),
            "data.threads": 1,
            "data.max_boxes": 30,
            "data.augmentation.scale": (0.7, 1.4),
            "data.augmentation.colour_jitter": 0.3,
            "optim.optimizer": "muon",
            "optim.learning_rate": 2e-3,
            "optim.warmup_steps": 50,
            "optim.ema_decay": 0.99,
            "train.steps": 1_200,
            "train.log_every": 25,
            "train.evaluate_every": 0,
            "train.checkpoint_every": 200,
            "train.keep": 1,
        },
    )
