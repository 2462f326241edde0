"""Crop x depth: larger crops or a deeper network?

Command:   python -m experiments.sweep --config crop_depth --data COCO --out runs/ablations
           (ImageNet weights: --pretrained 50 resnet50.safetensors 101 resnet101.safetensors)
Paper:     257 x 185 and 353 x 257, ResNet-50 and ResNet-101; both help, and cost.
Ours:      not run: it needs COCO and an accelerator.
Embedded:  --base pose_synthetic --steps 300 (ResNet-26 and 50): larger crops help most.
Trains:    four pose networks.
"""

from collections.abc import Iterator

from experiments.points import Base, Point


def points(base: Base) -> Iterator[Point]:
    """Crops of 8/11 of the base's sides, on the grid of its stride, and its own; two depths."""
    model = base.pose.model
    large = model.crop_height, model.crop_width
    stride = model.output_stride
    small = tuple(max(1, round((side - 1) * 8 / 11 / stride)) * stride + 1 for side in large)
    for depth in (26, 50) if model.depth == 26 else (50, 101):
        for height, width in (small, large):
            fields = {"model.crop_height": height, "model.crop_width": width, "model.depth": depth}
            yield Point(f"ResNet-{depth}, {height} x {width}", fields)
