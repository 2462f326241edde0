"""g_rmi/weights/detector.safetensors: `detector_2026_11b`'s weights, trained on for as long again.

Date:      2026-11-30, commit d50a0b2, from the weights of `detector_2026_11b`.
Command:   python -m experiments.train --config detector_2026_11b
               --init detector_2026_11b.safetensors --canvas 352 484 --candidates 700
               --proposals 64 --detections 50 --dtype bfloat16
               --data COCO_PEOPLE COCO_MINI COCO_EXTRA VOC_JOINTS LSPET_FACES
               --learning-rate 8e-4 --schedule constant --ema-decay 0.998 --warmup-steps 20
               --seed 21 --steps 20000 --workdir runs/det_e
           stopped at step 1634; then from its last weights, to the end:
           python -m experiments.train --config detector_2026_11c --init LAST.safetensors
               --canvas 352 484 --candidates 700 --proposals 64 --detections 50 --dtype bfloat16
               --data (the same) --workdir runs/det_f
           then `export weights` with the canvas and the numbers of this file, in float32.
Hardware:  a core of an AMD EPYC with AVX-512 for bfloat16 (jax 0.12, oneDNN): 52 minutes for 20 k
           images.
Before:    box AP .241, AP50 .498, AR100 .367 on 500 other images of COCO val2017, 1,982 people.
Ours:      box AP .254, AP50 .507, AR100 .379 there; COCO-mini val .240, .505, .385.
"""

from experiments.parts.experiment import DetectorExperiment, override
from experiments.runs import detector_2026_11b


def get_config() -> DetectorExperiment:
    """`detector_2026_11b` with other images first."""
    return override(detector_2026_11b.get_config(), {"train.seed": 22})
