"""One graph from a picture to its people: `g_rmi.inference.people` in ONNX."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from g_rmi import __version__
from g_rmi.config import to_dict
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.inference.onnx import networks
from g_rmi.inference.onnx.boxes import NEVER, Boxes, detect, steps_to
from g_rmi.inference.onnx.decode import find, values_at
from g_rmi.inference.onnx.graph import Graph, Value
from g_rmi.inference.onnx.networks import Layers
from g_rmi.inference.onnx.sampling import FAR, Canvas, Mipmaps, fit, grids, mipmaps, sample
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.rank import rank_options
from g_rmi.inference.settings import Settings
from g_rmi.ops.oks import EPSILON
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.head import tells_visibility
from g_rmi.pose.task import PoseTask

# Pixels between a joint of ours and theirs: float32 in another order. Two places can have nearly as
# many votes as each other, so one joint in so many may be elsewhere.
TOLERANCE, MOST = 0.5, 0.02


def to_onnx(pipeline: PosePipeline, picture: UInt8[np.ndarray, "H W 3"]) -> tuple[bytes, str]:
    """The whole of a pipeline as ONNX, compared with the pipeline itself on a picture.

    For the inputs and outputs see `people_model`. Returns the model, and how close it is in words.

    Raises:
      ValueError: The two do not find the same people, there are no words for a part of the
        pipeline, or onnx or onnxruntime is not installed.
    """
    try:
        import onnx  # noqa: F401 (what `Graph` needs)
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the package {error.name}: pip install onnx onnxruntime"
        ) from None
    data = people_model(pipeline).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    keypoints, *_, valid = session.run(None, {"picture": picture})
    ours: Any = pipeline(picture)
    return data, agreement(keypoints[valid], ours.keypoints)


def agreement(found: Float[np.ndarray, "M K 2"], ours: Float[np.ndarray, "N K 2"]) -> str:
    """How close two sets of people are, in words; a ValueError if they are not the same."""
    wrong = f"onnxruntime finds {len(found)} people where jax finds {len(ours)}"
    if len(found) == len(ours):
        distance = np.linalg.norm(found - ours, axis=-1)
        apart = int((~(distance <= TOLERANCE)).sum())
        if apart <= MOST * distance.size:
            worst = distance.max(initial=0)
            return f"the same {len(ours)} people as jax, joints within {worst:.2g} px"
        wrong = f"onnxruntime has {apart} of {distance.size} joints elsewhere than jax"
    raise ValueError(f"{wrong}: nothing was written")


def people_model(pipeline: PosePipeline) -> Any:
    """The whole of a pipeline as an `onnx.ModelProto`.

    Its input is "picture", uint8 RGB [height, width, 3] of any size; its outputs are the columns of
    `g_rmi.inference.people.PeopleTable` that there are for one picture, "valid" the last of them,
    `max_people` rows, best first. The metadata names the keypoints, limbs and settings.

    Raises:
      ValueError: There are no words for a part of the pipeline; it is named.
    """
    detector, pose = _check(pipeline)
    settings = pipeline.settings
    first, second = (_layers(pipeline.variables[name]) for name in ("detector", "pose"))
    graph = Graph()
    picture = graph.input("picture", np.uint8, ["height", "width", 3])
    levels = mipmaps(graph, picture)
    config = detector.config
    canvas = fit(picture.sides(slice(0, 2)), canvas=config.canvas, squash=config.squash)
    found = detect(_on_canvas(levels, canvas), canvas, first, config)
    boxes, scores, valid = _best(found, canvas, settings)
    poses = _poses(levels, boxes, second, pose, settings)
    table = _ranked(poses, boxes, scores, valid, pose.skeleton.sigmas, settings)
    joints, rows = len(pose.skeleton), settings.max_people
    shapes = {
        "keypoints": (joints, 2),
        "keypoint_scores": (joints,),
        "scores": (),
        "boxes": (4,),
        "visibility": (joints,),
        "valid": (),
    }
    outputs = {
        name: (_padded(table[name], rows, len(shape)), (rows, *shape))
        for name, shape in shapes.items()
        if name in table
    }
    about = {
        "keypoints": pose.skeleton.names,
        "limbs": pose.skeleton.limbs,
        "settings": to_dict(settings),
        "drawn_from": pose.config.head.drawn_from(pose.decoding(settings.decoding)),
        "version": __version__,
    }
    return graph.model(outputs, {name: json.dumps(value) for name, value in about.items()})


def _check(pipeline: PosePipeline) -> tuple[FasterRCNN, PoseTask]:
    """Both stages; a ValueError names what cannot be written."""
    detector, pose, settings = pipeline.detector, pipeline.pose, pipeline.settings
    if not isinstance(pose, PoseTask) or not isinstance(pose.config.head, Disks):
        kind = pose.config.head.kind if isinstance(pose, PoseTask) else "bottom-up"
        raise ValueError(f"a pose network of kind {kind!r}: only 'disks' goes to ONNX as a whole")
    if not isinstance(detector, FasterRCNN):
        kind = detector.config.kind if detector else None
        raise ValueError(f"a detector of kind {kind!r}: only 'faster_rcnn' goes to ONNX as a whole")
    for name in ("flip_test", "rotation_test"):
        if getattr(settings, name):
            raise ValueError(f"{name} = True: not in ONNX, which looks at each picture once")
    if names := ", ".join(pose.skeleton.blocks):
        raise ValueError(f"several classes, {names}: only one goes to ONNX as a whole")
    for config in (detector.config, pose.config):
        networks.check_backbone(config)
    return detector, pose


def _layers(variables: Any) -> Layers:
    variables = jax.device_get(variables)
    return Layers(variables["params"], variables.get("batch_stats", {}))


def _on_canvas(levels: Mipmaps, canvas: Canvas) -> Value:
    """The picture on the canvas, [1, 3, H, W]."""

    def along(axis: int) -> Value:
        steps = steps_to(canvas.sides.at(axis, axis=0))
        inside = steps < canvas.size.at(axis, axis=0)
        return inside.Where(steps.as_float() * canvas.scale.at(axis, axis=0), FAR).Unsqueeze([0])

    return sample(levels, along(0), along(1), canvas.scale.ReduceProd([0]))


def _best(found: Boxes, canvas: Canvas, settings: Settings) -> tuple[Value, Value, Value]:
    """The boxes to look into, in image pixels, their scores, and which are none.

    At least one row: a network that has seen nothing at all is run on a box without area.
    """
    graph: Graph = found.scores.graph
    scale = graph.concat(*(canvas.scale.part(i, i + 1, axis=0) for i in (1, 0, 1, 0)), axis=0)
    # Pixel centres are scaled; boxes begin half a pixel before them, in both frames.
    boxes = found.boxes * scale + (1.0 - scale) * 0.5
    sure = found.scores >= settings.min_box_score
    count = sure.as_int().ReduceSum([0]).Min([settings.max_people])
    rows = count.Max([1])
    boxes = graph.concat(boxes, np.zeros((1, 4), np.float32), axis=0).part(0, rows, axis=0)
    scores = graph.concat(found.scores, np.zeros(1, np.float32), axis=0).part(0, rows, axis=0)
    return boxes, scores, steps_to(rows.at(0, axis=0)) < count


def _poses(
    levels: Mipmaps, boxes: Value, layers: Layers, pose: PoseTask, settings: Settings
) -> dict[str, Value]:
    """Keypoints [N, K, 2] in image pixels, scores [N], of joints [N, K], and their visibility."""
    config, grid = pose.config, pose.grid
    windows = _extended(boxes, config.aspect, config.box_scale)
    low, high = windows.part(0, 2, axis=1), windows.part(2, 4, axis=1)
    cells = (grid.height - 1) * (grid.width - 1)
    areas = (high - low).ReduceProd([1], keepdims=0) * (1 / cells)
    crops = sample(levels, *grids(windows, **grid._asdict()), areas)
    blocks = networks.resnet(networks.normalise(crops, config), layers["trunk"], config)
    final = networks.pyramid(blocks, layers["top_down"]) if config.fpn_channels else blocks[-1]
    names = "heatmap", "offset", *(("visibility",) if tells_visibility(config.head) else ())
    maps = [layers.conv(final, name) for name in names]
    shape = grid.every(4 if config.fpn_channels else config.output_stride)
    how, head = pose.reading(settings.decoding), config.head
    assert isinstance(head, Disks)  # what `_check` sees to

    def decode(logits: Value, offset: Value, *visibility: Value) -> tuple[Value, ...]:
        found = find(logits, offset, shape, head, how)
        told = (values_at(x, found.points, shape, how).Sigmoid() for x in visibility)
        return found.points, found.scores, found.agreement.ReduceMean([0], keepdims=0), *told

    columns = "keypoints", "keypoint_scores", "scores", *names[2:]
    poses = dict(zip(columns, levels.image.graph.each(decode, *maps)))
    last = np.array([[[grid.width - 1, grid.height - 1]]], np.float32)
    inside = poses["keypoints"] * ((high - low).Unsqueeze([1]) / last)
    return poses | {"keypoints": low.Unsqueeze([1]) + inside}


def _extended(boxes: Value, aspect: float, scale: float) -> Value:
    """`g_rmi.ops.boxes.extend_boxes`."""
    low, high = boxes.part(0, 2, axis=1), boxes.part(2, 4, axis=1)
    centre, side = (low + high) * 0.5, (high - low).Abs()
    width, height = (side.part(i, i + 1, axis=1) for i in (0, 1))
    height = height.Max(width * aspect).Max(1.0) * scale
    half = boxes.graph.concat(height * (1 / aspect), height, axis=1) * 0.5
    return boxes.graph.concat(centre - half, centre + half, axis=1)


def _ranked(
    poses: Mapping[str, Value],
    boxes: Value,
    box_scores: Value,
    valid: Value,
    sigmas: Sequence[float],
    settings: Settings,
) -> dict[str, Value]:
    """`g_rmi.inference.rank.rank`: the columns of `PeopleTable` for those who stay, best first."""
    scores = {
        "pose": poses["scores"],
        "box": box_scores,
        "product": poses["scores"] * box_scores,
    }[settings.ranking]
    keep = valid & ~(scores < settings.min_score)
    _, order = keep.Where(scores, NEVER).TopK(scores.sides(slice(0, 1)), outputs=2)
    columns = {**poses, "scores": scores, "boxes": boxes}
    columns = {name: column.Gather(order) for name, column in columns.items()}
    boxes, keep, options = columns["boxes"], keep.Gather(order), rank_options(settings)
    if options["box_nms"] is not None:
        keep = _greedy(_iou(boxes), keep, options["box_nms"])
    if options["oks_nms"] is not None:
        keep = _greedy(_oks(columns["keypoints"], boxes, sigmas), keep, options["oks_nms"])
    kept = keep.NonZero().at(0, axis=0)
    return {name: column.Gather(kept) for name, column in {**columns, "valid": keep}.items()}


def _greedy(similarity: Value, keep: Value, threshold: float) -> Value:
    """`g_rmi.ops.nms.greedy_nms` of candidates that come best first."""
    drops = (similarity > threshold).as_float().Trilu(np.int64(1), upper=1)

    def sweep(kept: Value) -> Value:
        dropped = kept.as_float().Unsqueeze([0]).MatMul(drops).Squeeze([0]) > 0.0
        return keep & ~dropped

    return keep.graph.repeat(sweep, keep, most=keep.Size())


def _iou(boxes: Value) -> Value:
    """`g_rmi.ops.boxes.iou` of all pairs, for boxes that have an area."""
    low, high = boxes.part(0, 2, axis=1), boxes.part(2, 4, axis=1)
    area = (high - low).ReduceProd([1], keepdims=0)
    upper = low.Unsqueeze([1]).Max(low.Unsqueeze([0]))
    lower = high.Unsqueeze([1]).Min(high.Unsqueeze([0]))
    shared = (lower - upper).Max(0.0).ReduceProd([2], keepdims=0)
    return shared / (area.Unsqueeze([1]) + area.Unsqueeze([0]) - shared)


def _oks(points: Value, boxes: Value, sigmas: Sequence[float]) -> Value:
    """`g_rmi.ops.oks.pairwise_oks`, the areas those of the boxes."""
    area = (boxes.part(2, 4, axis=1) - boxes.part(0, 2, axis=1)).ReduceProd([1], keepdims=0)
    mean = (area.Unsqueeze([1]) + area.Unsqueeze([0])) * 0.5 + EPSILON
    distance = points.Unsqueeze([1]) - points.Unsqueeze([0])
    square = (distance * distance).ReduceSum([3], keepdims=0) / mean.Unsqueeze([2])
    fall_off = -0.5 / (2 * np.array(sigmas)) ** 2
    return (square * fall_off.reshape(1, 1, -1)).Exp().ReduceMean([2], keepdims=0)


def _padded(column: Value, rows: int, axes: int) -> Value:
    """With zeros up to so many rows."""
    graph: Graph = column.graph
    missing = rows - column.sides(slice(0, 1))
    pads = graph.concat([0] * (1 + axes), missing, *[[0] * axes] * bool(axes), axis=0)
    return column.Pad(pads)
