"""Both stages in plain PyTorch: an oracle, and the benchmarks' rival.

Networks, weights and rules are those of `g_rmi.find_people`; the program is what one writes in
PyTorch without torchvision: eager, one picture of its own size at a time (nothing is padded), all
crops of the picture as one batch, batch norm folded into the convolutions.

* Crops of pictures and of features: `grid_sample`.
* Suppression: the matrix of similarities in one go, then a loop over the kept rows.
* Hough voting: the four shares of every vote by `scatter_add_`, crop by crop, as the votes of all
  crops at once fall out of a processor's caches, which takes three times as long.
"""

import dataclasses
import os
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.geometry import fit_canvas
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.pose.heads.disks import Disks
from g_rmi.types import People
from tests.oracles.torch_networks import Detector, PoseNetwork, fold_norms, load_state

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Boxes(NamedTuple):
    """People of one picture, best first."""

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]


def normalise(image: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """RGB in 0..255 to what the networks take."""
    mean, std = (image.new_tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    return (image / 255 - mean) / std


def pyramid(image: Float[Tensor, "1 3 H W"]) -> list[Tensor]:
    """Means of 1, 4, 16 and 64 pixels; the last rows and columns are repeated to fill a block."""
    height, width = image.shape[-2:]
    levels = [image]
    x = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
    for reduction in (2, 4, 8):
        x = F.avg_pool2d(x, 2)
        levels.append(x[..., : -(-height // reduction), : -(-width // reduction)])
    return levels


def crop(
    maps: Float[Tensor, "1 C H W"], boxes: Float[Tensor, "N 4"], height: int, width: int
) -> Float[Tensor, "N C height width"]:
    """Boxes in pixels of the maps, align-corners; zeros outside."""
    rows, columns = maps.shape[-2:]
    share = [torch.linspace(0, 1, n, device=boxes.device) for n in (width, height)]
    # grid_sample's frame: the middles of the outer pixels are -1 and 1.
    x0, y0, x1, y1 = (2 * boxes / boxes.new_tensor([columns - 1, rows - 1] * 2) - 1).T[..., None]
    x, y = x0 + (x1 - x0) * share[0], y0 + (y1 - y0) * share[1]
    shape = (len(boxes), height, width)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    # The boxes one below the other: one call on maps that need not be repeated.
    crops = F.grid_sample(maps, grid.view(1, -1, width, 2), align_corners=True)
    return crops.view(-1, *shape).transpose(0, 1)


def crop_from_pyramid(
    levels: Sequence[Tensor], boxes: Float[Tensor, "N 4"], height: int, width: int
) -> Float[Tensor, "N 3 height width"]:
    """Crops of a picture, each from the level of its scale."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) / ((height - 1) * (width - 1))
    wanted = (areas[:, None] >= areas.new_tensor([4, 16, 64])).sum(1)
    crops = boxes.new_empty(len(boxes), 3, height, width)
    for level in wanted.unique().tolist():
        rows, r = wanted == level, 2**level
        crops[rows] = crop(levels[level], (boxes[rows] - (r - 1) / 2) / r, height, width)
    return crops


@cache
def anchor_boxes(config: FasterRCNNConfig, height: int, width: int) -> Float[Tensor, "A 4"]:
    """Anchors around every cell of the features, by row, column, ratio and scale."""
    ratios, scales = (
        torch.tensor(x, dtype=torch.float64) for x in (config.anchor_ratios, config.anchor_scales)
    )
    w = config.anchor_base * scales / ratios.sqrt()[:, None]
    h = config.anchor_base * scales * ratios.sqrt()[:, None]
    shapes = torch.stack([-w, -h, w, h], -1).view(-1, 4).float() / 2
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = config.output_stride * torch.stack([x, y, x, y], -1).view(-1, 1, 4)
    return (centres + shapes).view(-1, 4)


def decode_boxes(codes, anchors, size) -> Float[Tensor, "N 4"]:
    """Boxes of codes relative to anchors, cut to a picture of `size` rows and columns."""
    centre, side = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    centre = centre + codes[:, :2] / 10 * side
    half = (codes[:, 2:] / 5).clamp(max=np.log(1000 / 16)).exp() * side / 2
    boxes = torch.cat([centre - half, centre + half], 1)
    return boxes.clamp(boxes.new_zeros(4), boxes.new_tensor([size[1], size[0]] * 2))


def iou(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N N"]:
    """Of all pairs."""
    corner = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    side = (torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner).clamp(min=0)
    shared = side[..., 0] * side[..., 1]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return shared / (area[:, None] + area - shared)


def oks(keypoints: Float[Tensor, "N K 2"], areas: Float[Tensor, " N"], sigmas: Sequence[float]):
    """Of all pairs, with the mean of the two areas."""
    square = (keypoints[:, None] - keypoints[None]).square().sum(-1)
    area = (areas[:, None] + areas) / 2 + np.spacing(1)
    variances = (2 * keypoints.new_tensor(sigmas)).square()
    return (-square / (2 * variances * area[..., None])).exp().mean(-1)


def pose_windows(boxes: Float[Tensor, "N 4"], aspect: float, scale: float) -> Float[Tensor, "N 4"]:
    """Boxes at a fixed height / width, enlarged around their centres."""
    centre, (width, height) = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).T
    height = scale * torch.maximum(height, width * aspect).clamp(min=1)
    half = torch.stack([height / aspect, height], 1) / 2
    return torch.cat([centre - half, centre + half], 1)


def suppress(similarity: Float[Tensor, "N N"], threshold: float, limit: int) -> list[int]:
    """Greedy suppression of rows that are sorted, best first; the first `limit` that stay."""
    over, alive = (similarity > threshold).numpy(), np.ones(len(similarity), bool)
    kept = []
    for row in range(len(alive)):
        if alive[row] and len(kept) < limit:
            kept.append(row)
            alive &= ~over[row]
    return kept


def select(boxes, scores, threshold: float, limit: int) -> Boxes:
    """The best boxes after suppression."""
    some = (boxes[:, 2:] > boxes[:, :2]).all(1)
    scores, order = scores[some].sort(descending=True, stable=True)
    boxes = boxes[some][order]
    kept = suppress(iou(boxes), threshold, limit)
    return Boxes(boxes[kept], scores[kept])


def hough_peaks(
    logits: Float[Tensor, "K h w"],
    offsets: Float[Tensor, "2K h w"],
    *,
    size: tuple[int, int],
    radius: float,
) -> tuple[Float[Tensor, "K 2"], Float[Tensor, " K"]]:
    """Maxima of the vote maps of one crop at its resolution: points (x, y) and scores."""
    height, width = size
    joints = len(logits)
    maps = torch.cat([logits, offsets])[None]
    maps = F.interpolate(maps, size, mode="bilinear", align_corners=True)[0]
    weight = maps[:joints].sigmoid().flatten(1)
    dx, dy = maps[joints:].unflatten(0, (joints, 2)).unbind(1)
    # A margin of one pixel before and two after the map catches what falls outside.
    x = (dx + torch.arange(width)).clamp(-1, width).flatten(1)
    y = (dy + torch.arange(height)[:, None]).clamp(-1, height).flatten(1)
    left, upper = x.floor(), y.floor()
    right, lower = x - left, y - upper
    index = ((upper + 1) * (width + 3) + left + 1).long()
    votes = weight.new_zeros(joints, (height + 3) * (width + 3))
    for row, row_share in ((0, 1 - lower), (1, lower)):
        row_share = row_share * weight
        for column, share in ((0, 1 - right), (1, right)):
            votes.scatter_add_(1, index + (row * (width + 3) + column), row_share * share)
    votes = votes.unflatten(1, (height + 3, width + 3))[:, 1 : height + 1, 1 : width + 1]
    scores, index = votes.flatten(1).max(1)
    points = torch.stack([index % width, index // width], -1).float()
    return points, scores / (np.pi * radius**2)


class TwoStage:
    """A pipeline's twin: its networks and weights, its numbers and thresholds."""

    def __init__(self, pipeline: PosePipeline, *, memory_format: Any = torch.channels_last):
        """Copies the weights.

        Args:
          pipeline: With a detector.
          memory_format: Of maps and kernels.

        Raises:
          ValueError: The pipeline does what the twin does not.
        """
        assert pipeline.detector is not None
        _check(pipeline)
        self.detector_config, self.pose_config = pipeline.detector.config, pipeline.pose.config
        self.settings, self.sigmas = pipeline.settings, pipeline.pose.skeleton.sigmas
        self.memory_format = memory_format
        detector = Detector(self.detector_config)
        pose = PoseNetwork(self.pose_config, len(self.sigmas))
        for stage, network in {"detector": detector, "pose": pose}.items():
            load_state(network, pipeline.variables[stage])
            fold_norms(network.eval())
            network.to(memory_format=memory_format)
        self.detector, self.pose = detector, pose

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> People:
        """The people of a picture, best first, in its own pixels."""
        levels = self.pyramid(image)
        return self.find_poses(levels, self.find_boxes(levels))

    @torch.inference_mode()
    def pyramid(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Tensor]:
        """The picture at four scales."""
        return pyramid(torch.from_numpy(image).permute(2, 0, 1)[None].float())

    @torch.inference_mode()
    def find_boxes(self, levels: Sequence[Tensor]) -> Boxes:
        """First stage: `levels` are those of `pyramid`; boxes in image pixels."""
        config = self.detector_config
        height, width = levels[0].shape[-2:]
        size = fit_canvas(height, width, canvas=config.canvas).size
        whole = torch.tensor([[0.0, 0.0, width - 1, height - 1]])
        features, objectness, codes = self.detector(
            self._input(crop_from_pyramid(levels, whole, *size))
        )
        best, index = objectness.topk(min(config.candidates, len(objectness)))
        anchors = anchor_boxes(config, *features.shape[-2:])[index]
        boxes = decode_boxes(codes[index], anchors, size)
        regions, _ = select(boxes, best, config.rpn_nms_iou, config.proposals)

        side = config.roi_size
        cells = F.max_pool2d(crop(features, regions / config.output_stride, side, side), 2)
        logits, codes = self.detector.box_head(cells.contiguous(memory_format=self.memory_format))
        scores = logits.softmax(1)[:, 1]
        boxes = decode_boxes(codes, regions, size)
        some = scores >= self.settings.min_box_score
        limit = min(config.detections, self.settings.max_people)
        found = select(boxes[some], scores[some], config.box_nms_iou, limit)
        # Boxes begin half a pixel before the middles of their pixels, which are what is scaled.
        scale = torch.tensor([(width - 1) / (size[1] - 1), (height - 1) / (size[0] - 1)] * 2)
        return Boxes(scale * found.boxes + (1 - scale) / 2, found.scores)

    @torch.inference_mode()
    def find_poses(self, levels: Sequence[Tensor], found: Boxes) -> People:
        """Second stage: a pose for every box of the picture, rescored and suppressed."""
        config = self.pose_config
        size = config.crop_height, config.crop_width
        if len(found.boxes) == 0:
            joints = np.zeros((0, len(self.sigmas)), np.float32)
            nobody = np.zeros(0, np.float32), np.zeros((0, 4), np.float32)
            return People(np.stack([joints] * 2, -1), joints, *nobody)
        windows = pose_windows(found.boxes, config.aspect, config.box_scale)
        crops = crop_from_pyramid(levels, windows, *size)
        maps = self.pose(self._input(crops))
        assert isinstance(config.head, Disks)
        radius = config.head.radius
        peaks = [hough_peaks(*both, size=size, radius=radius) for both in zip(*maps)]
        points, joint_scores = (torch.stack(x) for x in zip(*peaks))
        scale = (windows[:, 2:] - windows[:, :2]) / torch.tensor([size[1] - 1, size[0] - 1])
        keypoints = windows[:, None, :2] + points * scale[:, None]

        scores, order = joint_scores.mean(1).sort(descending=True, stable=True)
        keypoints, joint_scores, boxes = (x[order] for x in (keypoints, joint_scores, found.boxes))
        similarity = oks(keypoints, (boxes[:, 2:] - boxes[:, :2]).prod(1), self.sigmas)
        kept = suppress(similarity, self.settings.oks_nms, len(boxes))
        return People(*(x[kept].numpy() for x in (keypoints, joint_scores, scores, boxes)))

    def _input(self, image: Tensor) -> Tensor:
        return normalise(image).contiguous(memory_format=self.memory_format)


def stages(pipeline, image, people, layout):
    """The benchmark's calls on one picture, on all usable cores: pyramid, detector, poses."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    twin = TwoStage(pipeline, memory_format=getattr(torch, layout))
    levels = twin.pyramid(image)
    calls = {
        "pyramid": partial(twin.pyramid, image),
        "detector": partial(twin.find_boxes, levels),
    }
    for count, given in people.items():
        found = Boxes(*(torch.tensor(np.asarray(x)[0, :count]) for x in given[:2]))
        calls[f"poses of {count}"] = partial(twin.find_poses, levels, found)
    return calls


def _check(pipeline: PosePipeline) -> None:
    """Refuses what the twin has no rule for."""
    assert pipeline.detector is not None
    detector, pose = pipeline.detector.config, pipeline.pose.config
    settings = pipeline.settings
    paper = Settings(
        decoding="hough",
        min_box_score=settings.min_box_score,
        min_score=0.0,
        max_people=settings.max_people,
        oks_nms=settings.oks_nms,
        crops_at_once=settings.crops_at_once,
    )
    settings = dataclasses.replace(settings, decoding=pipeline.pose.decoding(settings.decoding))
    unknown = {
        "norm = group": "group" in (detector.norm, pose.norm),
        f"head = {pose.head.kind}": not isinstance(pose.head, Disks),
        "dtype = bfloat16": "bfloat16" in (detector.dtype, pose.dtype),
        "roi = align": detector.roi == "align",
        "settings": settings != paper,
    }
    if any(unknown.values()):
        names = ", ".join(name for name, is_used in unknown.items() if is_used)
        raise ValueError(f"{names}: the PyTorch twin has only what the paper has, in float32")
