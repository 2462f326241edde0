"""The base of the table in docs/heads.md: `pose_small` on photographs, in bfloat16.

Command:   python -m experiments.sweep --config heads --base heads_2026_11
               --pretrained 26 g_rmi/weights/detector.safetensors
               --data COCO_PEOPLE COCO_MINI COCO_EXTRA LSPET_FACES --out runs/heads
           COCO_PEOPLE, LSPET_FACES: as in `pose_2026_11b`.
Hardware:  one core of an AMD EPYC, busy with other work (jax 0.12): 5 to 19 minutes a head.
Ours:      AP .138 for disks, .015 to .100 for the others.
"""

from experiments.configs import pose_small
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """Muon and a short cosine, from a trunk that has seen people and no joints."""
    return override(
        pose_small.get_config(),
        {
            "model.dtype": "bfloat16",
            "data.mix": (7.0, 2.0, 1.0, 2.0),
            "data.augmentation.scale": (0.8, 1.3),
            "data.threads": 1,
            "optim.optimizer": "muon",
            "optim.learning_rate": 2.5e-3,
            "optim.warmup_steps": 50,
            "optim.ema_decay": 0.99,
            "train.steps": 600,
            "train.evaluate_every": 0,
            "train.keep": 1,
        },
    )
