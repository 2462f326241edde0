"""What others do with the inputs of the kernels' benchmark.

Each function takes an input of `experiments.benchmarks.made` and gives a call without arguments, or
an ImportError where a package is missing.
"""

import math
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from g_rmi.pose.onnx import to_onnx
from tests.oracles import onnx_ops


def numba_decode(maps, grid):
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


def numpy_nms(boxes, scores, threshold, limit):
    """Keeps the best, drops what overlaps it, and so on; the kept in order of their scores."""

    def run():
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        left = np.argsort(-scores, kind="stable")
        keep = []
        while left.size and len(keep) < limit:
            best, left = left[0], left[1:]
            keep.append(int(best))
            corner = np.maximum(boxes[best, :2], boxes[left, :2])
            side = np.maximum(np.minimum(boxes[best, 2:], boxes[left, 2:]) - corner, 0)
            shared = side[:, 0] * side[:, 1]
            left = left[shared / (area[best] + area[left] - shared) <= np.float32(threshold)]
        return keep

    return run


def onnx_nms(boxes, scores, threshold, limit):
    """NonMaxSuppression of onnxruntime."""
    inputs = {
        "boxes": boxes[None, :, [1, 0, 3, 2]],
        "scores": scores[None, None],
        "most": np.array([limit]),
        "threshold": np.array([threshold], np.float32),
    }
    node = onnx_ops.node("NonMaxSuppression", inputs)
    return lambda: node()[:, 2].tolist()


def onnx_network(task, variables):
    """The exported pose network in onnxruntime, on all usable cores: crops to maps by name."""
    model, _ = to_onnx(task, variables)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda crops: dict(zip(names, session.run(names, {"crops": crops}), strict=True))


def matrix_crops(regions, *, gradient):
    """`crop_boxes` as products with dense matrices of bilinear shares, or its gradient."""
    share = np.linspace(0, 1, regions.size, dtype=np.float32)

    def shares(start, stop, count):
        position = start * (1 - share) + stop * share
        pixel = np.arange(count, dtype=np.float32)
        return jnp.maximum(1 - jnp.abs(position[:, None] - pixel[None]), 0.0)

    def crops(features, boxes):
        def crop(box):
            rows = jnp.einsum("ih,hwc->iwc", shares(box[1], box[3], features.shape[0]), features)
            return jnp.einsum("jw,iwc->ijc", shares(box[0], box[2], features.shape[1]), rows)

        return lax.map(crop, boxes)

    kernel = jax.grad(lambda *given: jnp.sum(crops(*given) ** 2)) if gradient else crops
    return partial(jax.jit(kernel), jnp.asarray(regions.features), jnp.asarray(regions.boxes))


def torch_crops(regions, *, gradient):
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


def onnx_roi_align(regions, *, gradient):
    """RoiAlign of onnxruntime, 2 x 2 samples a cell."""
    if gradient:
        raise ValueError("it has no gradients")
    size = (regions.size // 2,) * 2
    options = {"output_size": size, "spatial_scale": 1.0, "sampling_ratio": 2}
    return onnx_ops.aligned(regions.features, regions.boxes, **options)
