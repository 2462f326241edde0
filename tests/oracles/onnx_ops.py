"""onnxruntime's RoiAlign and CropAndResize, run as models of one node.

    python -m tests.oracles.onnx_ops    (needs onnx and onnxruntime)

writes tests/fixtures/onnxruntime.npz anew.
"""

from pathlib import Path

import numpy as np

from experiments.benchmarks.onnx_node import onnx_node

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "onnxruntime.npz"
# Output size, spatial scale, samples per cell and axis.
ROI_ALIGN = [((7, 7), 0.25, 2), ((3, 5), 0.125, 1), ((1, 2), 0.5, 3)]
CROPS = [(5, 4), (2, 9)]


def roi_align(features, boxes, *, output_size, spatial_scale, sampling_ratio):
    """[H,W,C], [N,4] -> [N,h,w,C]."""
    pooled = onnx_node(
        "RoiAlign",
        {
            "features": features.transpose(2, 0, 1)[None],
            "boxes": boxes,
            "image": np.zeros(len(boxes), np.int64),
        },
        mode="avg",
        coordinate_transformation_mode="half_pixel",
        output_height=output_size[0],
        output_width=output_size[1],
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
    )
    return pooled().transpose(0, 2, 3, 1)


def crop_boxes(image, boxes, *, height, width):
    """[H,W,C], [N,4] -> [N,height,width,C]; it does not fade out at the border as ours does."""
    rows, columns = image.shape[:2]
    shares = boxes[:, [1, 0, 3, 2]] / np.float32([rows - 1, columns - 1] * 2)
    crops = onnx_node(
        "CropAndResize",
        {
            "features": image.transpose(2, 0, 1)[None],
            "boxes": shares,
            "image": np.zeros(len(boxes), np.int32),
            "size": np.array([height, width], np.int32),
        },
        domain="com.microsoft",
        mode="bilinear",
    )
    return crops().transpose(0, 2, 3, 1)


def main():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, 11, 3)).round(3).astype(np.float32)
    boxes = rng.uniform(-12, 56, (12, 4)).round(2).astype(np.float32)  # corners in any order
    inside = (rng.uniform(size=(8, 4)) * [10, 8, 10, 8]).round(2).astype(np.float32)
    arrays = {"features": features, "boxes": boxes, "inside": inside}
    for i, (size, scale, samples) in enumerate(ROI_ALIGN):
        options = {"output_size": size, "spatial_scale": scale, "sampling_ratio": samples}
        arrays[f"roi_align_{i}"] = roi_align(features, boxes, **options)
    for i, (height, width) in enumerate(CROPS):
        arrays[f"crop_{i}"] = crop_boxes(features, inside, height=height, width=width)
    np.savez_compressed(FIXTURE, **arrays)


if __name__ == "__main__":
    main()
