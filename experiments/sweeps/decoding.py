"""Decoding: do the offsets, and their votes, find joints better than the heatmap alone?

Command:   python -m experiments.sweep --config decoding --data COCO --out runs/ablations
Paper:     heatmap and offsets fused by Hough voting, against the heatmap's maximum.
Ours:      on COCO not run: it needs an accelerator. pose_small on COCO-mini: AP .080 argmax, .101
           with the offset there, .087 Hough; pose_synthetic, 300 steps: .023, .032, .027. The
           weights of the package: Hough .402, with the kernel of OKS .410.
Embedded:  --base pose_synthetic
Trains:    one pose network. Annotated boxes, so that nothing but the joints differs.
"""

from collections.abc import Iterator

from experiments.points import Base, Point


def points(base: Base) -> Iterator[Point]:
    """Four ways from maps to joints."""
    del base
    yield Point("argmax", settings={"decoding": "argmax"})
    yield Point("argmax + offset", settings={"decoding": "argmax_offset"})
    yield Point("Hough voting", settings={"decoding": "hough"})
    yield Point("Hough voting, OKS's kernel", settings={"decoding": "hough_oks"})
