"""onnxruntime's operators, run as models of one node.

    python -m tests.oracles.onnx_ops    (needs onnx and onnxruntime)

writes tests/fixtures/onnxruntime.npz anew.
"""

from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "onnxruntime.npz"
# Output size, spatial scale, samples per cell and axis.
ROI_ALIGN = [((7, 7), 0.25, 2), ((3, 5), 0.125, 1), ((1, 2), 0.5, 3)]
CROPS = [(5, 4), (2, 9)]
# Bins, classes, spatial scale, samples per cell and axis.
POSITION_SENSITIVE = [(3, 2, 0.25, 2), (7, 1, 0.5, 1), (2, 6, 0.125, 3)]


def node(operator, inputs, *, domain="", **attributes):
    """An operator on given arrays, in its order: a call for the first output."""
    import onnxruntime
    from onnx import helper

    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in inputs.items()
    ]
    only = helper.make_node(operator, list(inputs), ["output"], domain=domain, **attributes)
    output = helper.make_empty_tensor_value_info("output")
    graph = helper.make_graph([only], operator, values, [output])
    versions = [helper.make_opsetid("", 16), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(inputs))[0]


def aligned(features, boxes, *, output_size, spatial_scale, sampling_ratio):
    """A call for RoiAlign: [H,W,C], [N,4] -> [N,h,w,C]."""
    inputs = {
        "features": np.ascontiguousarray(features.transpose(2, 0, 1))[None],
        "boxes": boxes,
        "image": np.zeros(len(boxes), np.int64),
    }
    pooled = node(
        "RoiAlign",
        inputs,
        mode="avg",
        coordinate_transformation_mode="half_pixel",
        output_height=output_size[0],
        output_width=output_size[1],
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
    )
    return lambda: pooled().transpose(0, 2, 3, 1)


def roi_align(features, boxes, **options):
    return aligned(features, boxes, **options)()


def position_sensitive_roi(maps, boxes, *, bins, **options):
    """RoiAlign of each cell's own group of maps, of which the cell is taken."""
    groups = maps.reshape(*maps.shape[:2], bins, bins, -1)
    cells = np.zeros((len(boxes), bins, bins, groups.shape[-1]), np.float32)
    for i, j in np.ndindex(bins, bins):
        pooled = roi_align(groups[:, :, i, j], boxes, output_size=(bins, bins), **options)
        cells[:, i, j] = pooled[:, i, j]
    return cells


def crop_boxes(image, boxes, *, height, width):
    """[H,W,C], [N,4] -> [N,height,width,C]; it does not fade out at the border as ours does."""
    rows, columns = image.shape[:2]
    shares = boxes[:, [1, 0, 3, 2]] / np.float32([rows - 1, columns - 1] * 2)
    crops = node(
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
    for i, (bins, classes, scale, samples) in enumerate(POSITION_SENSITIVE):
        maps = rng.normal(size=(9, 11, bins**2 * classes)).round(3).astype(np.float32)
        options = {"bins": bins, "spatial_scale": scale, "sampling_ratio": samples}
        cells = position_sensitive_roi(maps, boxes, **options)
        arrays |= {f"maps_{i}": maps, f"cells_{i}": cells}
    for i, (height, width) in enumerate(CROPS):
        arrays[f"crop_{i}"] = crop_boxes(features, inside, height=height, width=width)
    np.savez_compressed(FIXTURE, **arrays)


if __name__ == "__main__":
    main()
