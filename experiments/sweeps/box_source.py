"""Box source: how much do better person boxes help?

Command:   python -m experiments.sweep --config box_source --data COCO --out runs/ablations
           (start from ImageNet weights with --pretrained 101 resnet101.safetensors)
Paper:     its "fast" (600 x 900), its "accurate" detector (800 x 1200) and annotated boxes.
Ours:      not run: it needs COCO and an accelerator.
Embedded:  --base pose_synthetic --steps 300: AP .006, .007, .027.
Trains:    one pose network, two detectors: the base's and one on canvases of 3/4 of its size.
"""

from collections.abc import Iterator

from experiments.points import Base, Point


def points(base: Base) -> Iterator[Point]:
    """Fast, accurate, annotated."""
    canvas = base.detector.model.canvas if base.detector else (800, 1200)
    fast = tuple(side * 3 // 4 for side in canvas)
    yield Point("fast", boxes="detector", detector={"model.canvas": fast})
    yield Point("accurate", boxes="detector")
    yield Point("ground truth")
