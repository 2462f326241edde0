"""Features of regions: our sampler against interpolation matrices, PyTorch and onnxruntime.

    python -m experiments.benchmarks.roi [--rounds 5] [--only small]

Forward and, where a rival has one, the gradient with respect to the features. Rivals of
`crop_boxes`: products with dense interpolation matrices, box by box; PyTorch's `grid_sample` and
onnxruntime's CropAndResize where they are installed. Rival of `roi_align`: onnxruntime's RoiAlign.
Two sizes: the paper's features, 75 x 113 x 1024, with 300 boxes on 14 x 14 samples, and a small
net's, 20 x 30 x 256 with 64 boxes on 8 x 8. Prints medians and ratios, and how far results differ.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from jaxtyping import Array, Float

from experiments.benchmarks.onnx_node import onnx_node
from experiments.benchmarks.timing import machine, time_interleaved
from g_rmi.ops.image import crop_boxes
from g_rmi.ops.roi import roi_align


class Regions(NamedTuple):
    """A feature map, boxes in its pixels and the samples per side of a box."""

    features: Float[np.ndarray, "H W C"]
    boxes: Float[np.ndarray, "N 4"]
    size: int


def made_regions(
    *, height: int, width: int, channels: int, count: int, size: int, seed: int = 0
) -> Regions:
    """Noise, and upright boxes from a few pixels to half the map, inside it."""
    rng = np.random.default_rng(seed)
    tall = np.exp(rng.uniform(np.log(3), np.log(0.5 * height), (count, 1)))
    half = tall * [0.3, 0.5]
    corner = np.array([width - 1, height - 1])
    centre = rng.uniform(size=(count, 2)) * corner
    boxes = np.concatenate([centre - half, centre + half], axis=1).clip(0, np.tile(corner, 2))
    features = rng.normal(size=(height, width, channels)).astype(np.float32)
    return Regions(features, boxes.astype(np.float32), size)


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


def torch_grid_sample(regions: Regions) -> tuple[Callable, Callable]:
    """The crops by PyTorch's `grid_sample`, and their gradient.

    Raises:
      ImportError: PyTorch is missing.
    """
    import torch

    height, width, _ = regions.features.shape
    n, size = len(regions.boxes), regions.size
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    x, y = (
        regions.boxes[:, i] * (1 - share) + regions.boxes[:, i + 2] * share for i in (0, 1)
    )  # [size, N]
    places = np.broadcast_arrays(
        2 * x.T[:, None, :] / (width - 1) - 1, 2 * y.T[:, :, None] / (height - 1) - 1
    )
    grid = torch.from_numpy(np.stack(places, axis=-1).reshape(1, n * size, size, 2))
    features = torch.from_numpy(regions.features).permute(2, 0, 1)[None]  # channels last

    def forward(x=features):
        crops = torch.nn.functional.grid_sample(x, grid, align_corners=True)
        return crops[0].reshape(-1, n, size, size).permute(1, 2, 3, 0)

    def gradient():
        x = features.detach().requires_grad_()
        forward(x).square().sum().backward()
        return x.grad[0].permute(1, 2, 0)

    return forward, gradient


def onnx_crops(regions: Regions) -> Callable:
    """CropAndResize of onnxruntime.

    Raises:
      ImportError: onnx or onnxruntime is missing.
    """
    height, width, _ = regions.features.shape
    corner = np.array([height - 1, width - 1] * 2, np.float32)
    node = onnx_node(
        "CropAndResize",
        {
            "features": np.ascontiguousarray(regions.features.transpose(2, 0, 1))[None],
            "boxes": regions.boxes[:, [1, 0, 3, 2]] / corner,
            "image": np.zeros(len(regions.boxes), np.int32),
            "size": np.array([regions.size] * 2, np.int32),
        },
        domain="com.microsoft",
        mode="bilinear",
    )
    return lambda: node().transpose(0, 2, 3, 1)


def onnx_roi_align(regions: Regions) -> Callable:
    """RoiAlign of onnxruntime, 2 x 2 samples a cell.

    Raises:
      ImportError: onnx or onnxruntime is missing.
    """
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


def rivals(regions: Regions) -> dict[str, dict[str, Callable]]:
    """Task -> name -> call; within a task, all calls have the same result."""
    features, boxes = jnp.asarray(regions.features), jnp.asarray(regions.boxes)
    size = regions.size
    crop = partial(crop_boxes, height=size, width=size)
    align = partial(roi_align, output_size=size // 2, spatial_scale=1.0, sampling_ratio=2)

    def forward(kernel):
        return partial(jax.jit(kernel), features, boxes)

    def gradient(kernel):
        return partial(jax.jit(jax.grad(lambda f, b: jnp.sum(kernel(f, b) ** 2))), features, boxes)

    matrices = partial(by_matrices, size=size)
    tasks: dict[str, dict[str, Callable]] = {
        "crops": {"crop_boxes": forward(crop), "matrices": forward(matrices)},
        "gradient of crops": {"crop_boxes": gradient(crop), "matrices": gradient(matrices)},
        "RoIAlign": {"roi_align": forward(align)},
        "gradient of RoIAlign": {"roi_align": gradient(align)},
    }
    try:
        sampled = torch_grid_sample(regions)
        tasks["crops"]["PyTorch"], tasks["gradient of crops"]["PyTorch"] = sampled
    except ImportError:
        print("PyTorch: left out, not installed")
    try:
        tasks["crops"]["onnxruntime"] = onnx_crops(regions)
        tasks["RoIAlign"]["onnxruntime"] = onnx_roi_align(regions)
    except ImportError as error:
        print(f"onnxruntime: left out, {error.name} is not installed")
    return tasks


def difference(calls: dict[str, Callable]) -> float:
    """How far a result is from the first one at most, relative to the largest number."""
    first, *others = (np.asarray(call()) for call in calls.values())
    return max((np.abs(x - first).max() / np.abs(first).max() for x in others), default=0.0)


def main(
    *,
    only: Literal["small", "paper"] | None = None,
    rounds: int = 5,
    processor_time: bool = False,
) -> None:
    """Times the samplers and compares their results.

    Args:
      only: One of the two sizes.
      rounds: Turns per rival.
      processor_time: Count processor time instead of wall time, for a busy machine.
    """
    clock = time.process_time if processor_time else time.perf_counter
    print(machine())
    print("processor time" if processor_time else "wall time")
    sizes = {
        "small": {"height": 20, "width": 30, "channels": 256, "count": 64, "size": 8},
        "paper": {"height": 75, "width": 113, "channels": 1024, "count": 300, "size": 14},
    }
    for name in sizes if only is None else (only,):
        for task, calls in rivals(made_regions(**sizes[name])).items():
            print(f"\n{name}, {task}: results differ by at most {difference(calls):.0e}")
            timings = time_interleaved(calls, rounds=rounds, warmup=1, clock=clock)
            print(timings.table(next(iter(calls))))


if __name__ == "__main__":
    tyro.cli(main)
