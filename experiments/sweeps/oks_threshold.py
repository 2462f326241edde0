"""OKS-NMS threshold: how similar may two people be?

Command:   python -m experiments.sweep --config oks_threshold --data COCO --out runs/ablations
Paper:     .1 to .9 on the boxes of its detector; .5 is its choice.
Ours:      on COCO not run: it needs an accelerator. pose_small, detector_small on COCO-mini: AP
           .062 .064 .064 .063 .059, without .051.
Embedded:  --base pose_synthetic
Trains:    one pose network, one detector.
"""

from collections.abc import Iterator

from experiments.points import Base, Point


def points(base: Base) -> Iterator[Point]:
    """The paper's five thresholds, and no suppression."""
    del base
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        yield Point(f"{threshold}", boxes="detector", settings={"oks_nms": threshold})
    yield Point("none", boxes="detector", settings={"oks_nms": 1.0})
