"""R: how large should a joint's disk be?

Command:   python -m experiments.sweep --config radius --data COCO --out runs/ablations
Paper:     R = 25 pixels of a 353 x 257 crop.
Ours:      not run: it needs COCO and an accelerator.
Embedded:  --base pose_synthetic --steps 300: the paper's R is best (AP .027; half of it .022).
Trains:    four pose networks; R is that of the targets and of the votes.
"""

from collections.abc import Iterator

from experiments.points import Base, Point, disks


def points(base: Base) -> Iterator[Point]:
    """A quarter of the base's radius to twice it."""
    for factor in (0.25, 0.5, 1.0, 2.0):
        radius = disks(base).radius * factor
        yield Point(f"R = {radius:g}", {"model.head.radius": radius})
