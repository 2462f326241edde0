"""What others do with the kernels' inputs; makers raise an ImportError where a package is missing.

Each maker takes an input of `experiments.benchmarks.made` and gives a call without arguments.
"""

import importlib
import math
from types import ModuleType

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from experiments.benchmarks.made import Grid, Maps, Regions, Scored
from experiments.benchmarks.onnx_node import onnx_node
from experiments.benchmarks.timing import Call


def twin(name: str) -> ModuleType:
    """A PyTorch twin of this project's networks: an oracle of the tests, which a clone has.

    Raises:
      ImportError: This is no clone, or PyTorch is missing.
    """
    return importlib.import_module(f"tests.oracles.{name}")


def numba_decode(maps: Maps, grid: Grid) -> Call:
    """Casts the votes of every position of the crops, joint by joint on one core; their maxima."""
    import numba

    @numba.njit(fastmath=True)
    def cast(votes, x, y, weight):
        rows, columns = votes.shape
        x, y = x + np.float32(1), y + np.float32(1)
        if x >= 0 and y >= 0 and x < columns - 1 and y < rows - 1:
            left, upper = int(x), int(y)
            lower_weight = weight * (y - np.float32(upper))
            upper_weight = weight - lower_weight
            share = x - np.float32(left)
            votes[upper, left] += upper_weight * (1 - share)
            votes[upper, left + 1] += upper_weight * share
            votes[upper + 1, left] += lower_weight * (1 - share)
            votes[upper + 1, left + 1] += lower_weight * share

    @numba.njit(fastmath=True)
    def peaks(logits, target, height, width):
        joints, h, w = logits.shape
        one = np.float32(1)
        down, across = np.float32((h - 1) / (height - 1)), np.float32((w - 1) / (width - 1))
        votes = np.zeros((joints, height + 2, width + 2), np.float32)
        for k in range(joints):
            for i in range(height):
                row = np.float32(i) * down
                a = min(int(row), h - 2)
                v = row - np.float32(a)
                for j in range(width):
                    column = np.float32(j) * across
                    b = min(int(column), w - 2)
                    u = column - np.float32(b)
                    p, q, r, s = (one - v) * (one - u), (one - v) * u, v * (one - u), v * u
                    z = logits[k]
                    logit = p * z[a, b] + q * z[a, b + 1] + r * z[a + 1, b] + s * z[a + 1, b + 1]
                    t = target[k, 0]
                    x = p * t[a, b] + q * t[a, b + 1] + r * t[a + 1, b] + s * t[a + 1, b + 1]
                    t = target[k, 1]
                    y = p * t[a, b] + q * t[a, b + 1] + r * t[a + 1, b] + s * t[a + 1, b + 1]
                    cast(votes[k], x, y, one / (one + math.exp(-logit)))
        places, scores = np.empty(joints, np.int64), np.empty(joints, np.float32)
        for k in range(joints):
            inside = votes[k, 1:-1, 1:-1].copy().ravel()
            places[k] = inside.argmax()
            scores[k] = inside[places[k]]
        return places, scores

    h, w = maps.logits.shape[1:3]
    steps = [(size - 1) / (n - 1) for size, n in ((grid.width, w), (grid.height, h))]
    positions = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1) * steps
    target = np.moveaxis(maps.offset + positions[None, :, :, None], (3, 4), (1, 2))
    target = np.ascontiguousarray(target, np.float32)
    logits = np.ascontiguousarray(np.moveaxis(maps.logits, 3, 1))

    def run():
        crops = [peaks(*crop, grid.height, grid.width) for crop in zip(logits, target)]
        return [(places, votes / (math.pi * grid.radius**2)) for places, votes in crops]

    return run


def numpy_nms(scored: Scored, threshold: float, limit: int) -> list[int]:
    """Keeps the best, drops what overlaps it, and so on; the kept in order of their scores."""
    boxes, area = scored.boxes, np.prod(scored.boxes[:, 2:] - scored.boxes[:, :2], axis=1)
    left = np.argsort(-scored.scores, kind="stable")
    keep = []
    while left.size and len(keep) < limit:
        best, left = left[0], left[1:]
        keep.append(int(best))
        corner = np.maximum(boxes[best, :2], boxes[left, :2])
        side = np.maximum(np.minimum(boxes[best, 2:], boxes[left, 2:]) - corner, 0)
        shared = side[:, 0] * side[:, 1]
        left = left[shared / (area[best] + area[left] - shared) <= np.float32(threshold)]
    return keep


def onnx_nms(scored: Scored, threshold: float, limit: int) -> Call:
    """NonMaxSuppression of onnxruntime."""
    node = onnx_node(
        "NonMaxSuppression",
        {
            "boxes": scored.boxes[None, :, [1, 0, 3, 2]],
            "scores": scored.scores[None, None],
            "most": np.array([limit]),
            "threshold": np.array([threshold], np.float32),
        },
    )
    return lambda: node()[:, 2].tolist()


def by_matrices(
    features: Float[Array, "H W C"], boxes: Float[Array, "N 4"], *, size: int
) -> Float[Array, "N size size C"]:
    """`crop_boxes` as products with dense matrices of bilinear shares."""
    share = (np.arange(size) / (size - 1)).astype(np.float32)

    def shares(start, stop, count):
        position = start * (1 - share) + stop * share
        pixel = np.arange(count, dtype=np.float32)
        return jnp.maximum(1 - jnp.abs(position[:, None] - pixel[None]), 0.0)

    def crop(box):
        rows = jnp.einsum("ih,hwc->iwc", shares(box[1], box[3], features.shape[0]), features)
        return jnp.einsum("jw,iwc->ijc", shares(box[0], box[2], features.shape[1]), rows)

    return lax.map(crop, boxes)


def torch_crops(regions: Regions, *, gradient: bool = False) -> Call:
    """The crops by PyTorch's `grid_sample`, or the gradient of the sum of their squares."""
    import torch

    height, width, _ = regions.features.shape
    n, size = len(regions.boxes), regions.size
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    x, y = (regions.boxes[:, i] * (1 - share) + regions.boxes[:, i + 2] * share for i in (0, 1))
    places = np.broadcast_arrays(
        2 * x.T[:, None, :] / (width - 1) - 1, 2 * y.T[:, :, None] / (height - 1) - 1
    )
    grid = torch.from_numpy(np.stack(places, axis=-1).reshape(1, n * size, size, 2))
    features = torch.from_numpy(regions.features).permute(2, 0, 1)[None]  # channels last

    def crops(x=features):
        crops = torch.nn.functional.grid_sample(x, grid, align_corners=True)
        return crops[0].reshape(-1, n, size, size).permute(1, 2, 3, 0)

    def backward():
        x = features.detach().requires_grad_()
        crops(x).square().sum().backward()
        return x.grad[0].permute(1, 2, 0)

    return backward if gradient else crops


def onnx_roi_align(regions: Regions) -> Call:
    """RoiAlign of onnxruntime, 2 x 2 samples a cell."""
    node = onnx_node(
        "RoiAlign",
        {
            "features": np.ascontiguousarray(regions.features.transpose(2, 0, 1))[None],
            "boxes": regions.boxes,
            "image": np.zeros(len(regions.boxes), np.int64),
        },
        mode="avg",
        coordinate_transformation_mode="half_pixel",
        output_height=regions.size // 2,
        output_width=regions.size // 2,
        sampling_ratio=2,
    )
    return lambda: node().transpose(0, 2, 3, 1)
