"""Auxiliary head: does a second heatmap loss inside the ResNet help?

Command:   python -m experiments.sweep --config auxiliary --data COCO --out runs/ablations
Paper:     has one at an intermediate layer; no number.
Ours:      on COCO not run: it needs an accelerator. pose_synthetic, 300 steps: AP .027 with and
           without.
Embedded:  --base pose_synthetic
Trains:    two pose networks.
"""

from collections.abc import Iterator

from experiments.points import Base, Point, disks


def points(base: Base) -> Iterator[Point]:
    """With the head, at the base's weight or the heatmap's, and without."""
    head = disks(base)
    weight = head.auxiliary_weight or head.heatmap_weight
    yield Point("with", {"model.head.auxiliary_weight": weight})
    yield Point("without", {"model.head.auxiliary_weight": 0.0})
