"""The detector from canvas to boxes: `g_rmi.detector.faster_rcnn` in ONNX."""

from functools import partial
from typing import NamedTuple

import numpy as np

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.inference.onnx import networks
from g_rmi.inference.onnx.graph import Graph, Value
from g_rmi.inference.onnx.networks import Layers
from g_rmi.inference.onnx.sampling import Canvas, grids, sample_grids
from g_rmi.ops.anchors import anchor_boxes
from g_rmi.ops.boxes import MAX_ENLARGEMENT

# No score; `NonMaxSuppression` leaves out what is not above its threshold.
NEVER, _LOWEST = -np.inf, -1e38
_SCALES = np.array([[10.0, 10.0, 5.0, 5.0]])  # of `g_rmi.ops.boxes.decode_boxes`


class Boxes(NamedTuple):
    """Boxes [N, 4], best first, and their scores [N]."""

    boxes: Value
    scores: Value


def detect(image: Value, canvas: Canvas, layers: Layers, config: FasterRCNNConfig) -> Boxes:
    """People on a canvas [1, 3, H, W], RGB in 0..255; boxes in its pixels."""
    mask = partial(masked, canvas)
    *_, features = networks.resnet(
        networks.normalise(image, config), layers["trunk"], config, blocks=3, mask=mask
    )
    proposals = _propose(features, canvas, layers["rpn"], config)
    regions = _regions(features, proposals.boxes, config)
    head = layers["box_head"]
    x = networks.block4(regions, head["block4"], config).ReduceMean([2, 3], keepdims=0)
    logits = head.dense(x, "class")
    scores = (logits.at(1, axis=1) - logits.at(0, axis=1)).Sigmoid()
    return select(
        Boxes(decode_boxes(head.dense(x, "codes"), proposals.boxes), scores),
        canvas.size,
        count=config.detections,
        iou=config.box_nms_iou,
    )


def _cells(canvas: Canvas, stride: int) -> Value:
    """Rows and columns of a map of the canvas, int64 [2]."""
    return (canvas.sides - 1) / stride + 1


def masked(canvas: Canvas, x: Value, *, stride: int) -> Value:
    """Zeros beside the picture, on maps of so many pixels a cell."""
    return x * _mask(canvas, stride)


def _mask(canvas: Canvas, stride: int) -> Value:
    """`g_rmi.nn.resnet.picture_mask` as 0 and 1, [1, 1, h, w]."""
    cells = _cells(canvas, stride)

    def along(axis: int) -> Value:
        steps = steps_to(cells.at(axis, axis=0)) * stride
        return (steps < canvas.size.at(axis, axis=0)).as_float()

    return (along(0).Unsqueeze([1]) * along(1).Unsqueeze([0])).Unsqueeze([0, 1])


def steps_to(count: Value) -> Value:
    """0, 1, 2, ..., as many as `count` says, int64 []."""
    return count.graph.node("Range", np.int64(0), count, np.int64(1))


def _propose(features: Value, canvas: Canvas, layers: Layers, config: FasterRCNNConfig) -> Boxes:
    """`g_rmi.detector.proposals.propose`."""
    graph: Graph = features.graph
    x = layers.conv(features, "conv", dilation=config.rpn_dilation).Relu()
    # One number, or four, for each anchor of each cell.
    objectness = layers.conv(x, "objectness").Transpose(perm=[0, 2, 3, 1])
    deltas = layers.conv(x, "codes").Transpose(perm=[0, 2, 3, 1]).Reshape([-1, 4])
    stride = config.output_stride
    objectness = (
        _mask(canvas, stride).Transpose(perm=[0, 2, 3, 1]).Greater(0.5).Where(objectness, NEVER)
    )
    objectness = objectness.Reshape([-1])
    count = objectness.Size().Min(config.candidates).Unsqueeze([0])
    scores, index = objectness.TopK(count, outputs=2)
    # Anchors are those of the first cell, moved.
    shapes = np.asarray(
        anchor_boxes(
            height=1,
            width=1,
            stride=stride,
            base=config.anchor_base,
            scales=config.anchor_scales,
            ratios=config.anchor_ratios,
        )
    )
    cell, shape = index / len(shapes), index % len(shapes)
    columns = _cells(canvas, stride).part(1, 2, axis=0)
    place = graph.concat(
        *((part * stride).Unsqueeze([1]) for part in (cell % columns, cell / columns)), axis=1
    ).as_float()
    anchors = graph.concat(place, place, axis=1) + graph.constant(shapes).Gather(shape)
    boxes = decode_boxes(deltas.Gather(index), anchors)
    options = {"count": config.proposals, "iou": config.rpn_nms_iou}
    return select(Boxes(boxes, scores), canvas.size, **options)


def _regions(features: Value, boxes: Value, config: FasterRCNNConfig) -> Value:
    """`g_rmi.detector.faster_rcnn.network.crop_regions`."""
    stride, size = config.output_stride, config.roi_size
    if config.roi == "align":
        whole = boxes.sides(slice(0, 1))
        zeros = boxes.graph.constant([0]).Expand(whole)
        return (features).RoiAlign(
            boxes + stride / 2,
            zeros,
            output_height=size // 2,
            output_width=size // 2,
            spatial_scale=1 / stride,
            sampling_ratio=2,
            coordinate_transformation_mode="half_pixel",
        )
    crops = sample_grids(features, *grids(boxes * (1 / stride), height=size, width=size))
    return crops.MaxPool(kernel_shape=[2, 2], strides=[2, 2])


def select(found: Boxes, size: Value, *, count: int, iou: float) -> Boxes:
    """`g_rmi.detector.detector.select`, but for the best candidates, and only what is there."""
    graph: Graph = size.graph
    whole = size.as_float()
    corner = graph.concat(*(whole.part(i, i + 1, axis=0) for i in (1, 0, 1, 0)), axis=0)
    boxes = found.boxes.Max(0.0).Min(corner)
    area = boxes.part(2, 4, axis=1) - boxes.part(0, 2, axis=1)
    usable = area.ReduceMin([1], keepdims=0) > 0.0
    scores = usable.Where(found.scores, NEVER)
    index = boxes.Unsqueeze([0]).NonMaxSuppression(
        scores.Unsqueeze([0, 1]), count, iou, np.float32(_LOWEST)
    )
    index = index.at(2, axis=1)
    return Boxes(boxes.Gather(index), scores.Gather(index))


def decode_boxes(deltas: Value, anchors: Value) -> Value:
    """`g_rmi.ops.boxes.decode_boxes`."""
    deltas = deltas * (1 / _SCALES)
    low, high = anchors.part(0, 2, axis=1), anchors.part(2, 4, axis=1)
    side = high - low
    centre = (low + high) * 0.5 + deltas.part(0, 2, axis=1) * side
    half = deltas.part(2, 4, axis=1).Min(float(np.log(MAX_ENLARGEMENT))).Exp() * side * 0.5
    return deltas.graph.concat(centre - half, centre + half, axis=1)
