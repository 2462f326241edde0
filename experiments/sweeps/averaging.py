"""Averaging: is the average of the weights better than the last ones?

Command:   python -m experiments.sweep --config averaging --data COCO --out runs/ablations
Paper:     evaluates Polyak-averaged weights.
Ours:      on COCO not run: it needs an accelerator. pose_small on COCO-mini: AP .087 average, .092
           last; pose_synthetic, 300 steps: .027, .029.
Embedded:  --base pose_synthetic
Trains:    one pose network, of which both are evaluated: the average does not change the steps.
"""

from collections.abc import Iterator

from experiments.points import Base, Point
from g_rmi.config import OptimConfig


def points(base: Base) -> Iterator[Point]:
    """Both weights of one training, with the base's decay or else the paper's."""
    fields = {"optim.averaging": base.pose.optim.averaging or OptimConfig().averaging}
    yield Point("average", fields)
    yield Point("last weights", fields, averaged=False)
