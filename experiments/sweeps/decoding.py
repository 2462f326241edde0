"""Decoding: do the offsets, and their votes, find joints better than the heatmap alone?

Command:   python -m experiments.sweep --config decoding --data COCO --out runs/ablations
Paper:     heatmap and offsets fused by Hough voting, against the heatmap's maximum.
Ours:      not run: it needs COCO and an accelerator.
Embedded:  --base pose_synthetic
Trains:    one pose network. Annotated boxes, so that nothing but the joints differs.
"""

from collections.abc import Iterator

from experiments.points import Base, Point
from g_rmi.evaluation.evaluator import Decoding


def points(base: Base) -> Iterator[Point]:
    """Three ways from maps to joints."""
    del base
    yield Point("argmax", decoding=Decoding(method="argmax"))
    yield Point("argmax + offset", decoding=Decoding(method="argmax_offset"))
    yield Point("Hough voting", decoding=Decoding(method="hough"))
