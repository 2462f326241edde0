"""Lambda: how much should the heatmap weigh against the offsets?

Command:   python -m experiments.sweep --config loss_weight --data COCO --out runs/ablations
Paper:     4 to 1.
Ours:      not run: it needs COCO and an accelerator.
Embedded:  --base pose_synthetic --steps 300: AP .027 to .032, no trend.
Trains:    five pose networks. The auxiliary head keeps its weight.
"""

from collections.abc import Iterator

from experiments.points import Base, Point, disks


def points(base: Base) -> Iterator[Point]:
    """A quarter of the base's heatmap weight to four times it."""
    head = disks(base)
    for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
        weight = head.heatmap_weight * factor
        name = f"heatmap {weight:g} : offset {head.offset_weight:g}"
        yield Point(name, {"model.head.heatmap_weight": weight})
