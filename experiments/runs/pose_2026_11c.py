"""g_rmi/weights/pose.safetensors: `pose_2026_11b`'s weights, twice as many crops of the same kind.

Date:      2026-11-30, commit d50a0b2, from the weights of `pose_2026_11b`.
Command:   python -m experiments.train --config pose_2026_11 --init pose_2026_11b.safetensors
               --dtype bfloat16
               --data COCO_PEOPLE COCO_MINI COCO_EXTRA LSPET_FACES VOC_JOINTS --mix 7 1 1 1 1
               --batch-size 32 --learning-rate 8e-4 --schedule constant --ema-decay 0.998 --seed 11
               --warmup-steps 20 --steps 20000 --workdir runs/pose_e
           stopped at step 1192; then from its last weights, to the end:
           python -m experiments.train --config pose_2026_11c --init LAST.safetensors
               --dtype bfloat16 --data (the same) --workdir runs/pose_f
           and `export weights --dtype float32`. Data: as in `pose_2026_11b`.
Hardware:  a core of an AMD EPYC with AVX-512 for bfloat16 (jax 0.12, oneDNN): 64 minutes for 64 k
           crops.
Before:    AP .447, AP50 .742 on 500 other images of COCO val2017, annotated boxes, 1,211 people.
Ours:      AP .468, AP50 .754, PCK .824 there; COCO-mini val AP .469, AP50 .776, PCK .812; LSPET val
           PCK .705.
"""

from experiments.parts.experiment import PoseExperiment, override
from experiments.runs import pose_2026_11b


def get_config() -> PoseExperiment:
    """`pose_2026_11b`, for longer."""
    return override(
        pose_2026_11b.get_config(),
        {
            "data.threads": 2,
            "train.steps": 800,
            "train.seed": 12,
            "train.checkpoint_every": 100,
        },
    )
