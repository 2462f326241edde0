"""Score: does the pose know better than the box how good it is?

Command:   python -m experiments.sweep --config score --data COCO --out runs/ablations
Paper:     the mean of the joints' maxima ranks better than the score of the box.
Ours:      on COCO not run: it needs an accelerator. pose_small, detector_small on COCO-mini: AP
           .064 pose score, .026 box score, .053 their product.
Embedded:  --base pose_synthetic
Trains:    one pose network, one detector.
"""

import typing
from collections.abc import Iterator

from experiments.points import Base, Point
from g_rmi.inference.settings import Ranking


def points(base: Base) -> Iterator[Point]:
    """All ways to rank people."""
    del base
    for ranking in typing.get_args(Ranking):
        yield Point(ranking, boxes="detector", settings={"ranking": ranking})
