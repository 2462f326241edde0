"""The base of docs/speed_accuracy.md: `detector_small` on photographs, in bfloat16.

Command:   python -m experiments.sweep --config detectors --base pose_small
               --detector detectors_2026_11
               --pretrained 26 g_rmi/weights/detector.safetensors
               --data COCO_PEOPLE COCO_MINI VOC_PERSONS --out runs/speed_accuracy
Hardware:  one core of an AMD EPYC, busy with other work (jax 0.12): 12, 35 and 8 minutes.
Ours:      box AP .185, .158, .094 for Faster R-CNN, R-FCN and SSD, 50 proposals.
"""

from experiments.configs import detector_small
from experiments.parts.experiment import DetectorExperiment, override


def get_config() -> DetectorExperiment:
    """A constant rate, so that trainings that are cut short anywhere compare."""
    return override(
        detector_small.get_config(),
        {
            "model.dtype": "bfloat16",
            "data.mix": (8.0, 2.0, 2.0),
            "data.boxes_complete": (True, True, True),
            "data.augmentation.mosaic": 0.15,
            "optim.optimizer": "muon",
            "optim.learning_rate": 1.5e-3,
            "optim.schedule": "constant",
            "optim.warmup_steps": 50,
            "optim.ema_decay": 0.99,
            "train.steps": 600,
            "train.log_every": 25,
            "train.evaluate_every": 0,
            "train.checkpoint_every": 100,
            "train.keep": 1,
        },
    )
