"""g_rmi/weights/pose.safetensors: the mean of a training on a GPU and of two branches of it.

Date:      2026-11-28, commit b310860; before it, twelve rounds on CPUs (experiments/README.md).
Command:   python -m experiments.train --config pose_2026_11 --dtype bfloat16 --workdir runs/pose
               --data COCO_MINI LSPET COCO_EXTRA VOC_PERSONS --mix 2 6 3 2
               --processes 14 --threads 1 --init TWELFTH_ROUND
           (as logged; the file itself holds five shares, 2 3 3 3 2)
Hardware:  one NVIDIA H200, 16 cores: 8 minutes for 2,406 k crops (5,260 crops/s); the branches a
           core of a Xeon each, 48 k crops in 63 minutes and 38 k in 56.
Others:    MoveNet Thunder AP .490 in the same boxes, trained on all of COCO and more.
Ours:      AP .410, AP50 .733, PCK .777 on COCO-mini val, annotated boxes; LSPET val PCK .734.
"""

from experiments.configs import pose_small
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """`pose_small` as a ResNet-50, half as wide again, at stride 16 on 161 x 129, with Muon."""
    return override(
        pose_small.get_config(),
        {
            "model.backbone.depth": 50,
            "model.backbone.width": 48,
            "model.output_stride": 16,
            "model.fpn_channels": 96,
            "model.crop_height": 161,
            "model.crop_width": 129,
            "model.box_scale": 1.0,
            "model.head.radius": 10.0,
            "data.augmentation.scale": (0.8, 1.3),
            "data.augmentation.any_rotation": 0.25,
            "data.augmentation.colour_jitter": 0.5,
            "data.augmentation.half_body": 0.3,
            "data.augmentation.mixup": 0.2,
            "data.augmentation.copy_paste": 0.4,
            "data.mix": (2.0, 3.0, 3.0, 3.0, 2.0),
            "optim.optimizer": "muon",
            "optim.learning_rate": 2.5e-3,
            "optim.ema_decay": 0.999,
            "train.steps": 9_400,
            "train.batch_size": 256,
            "train.seed": 42,
            "train.log_every": 100,
            "train.evaluate_every": 0,
            "train.checkpoint_every": 3_000,
        },
    )
