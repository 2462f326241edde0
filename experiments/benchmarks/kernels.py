"""Times kernels against what others have for the same, and checks that the results agree.

    python -m experiments.benchmarks.kernels [--only decode nms roi evaluation] [--size paper]

* decode: coarse maps of crops to the votes' maxima, against all votes cast, by XLA and in numba.
* nms: suppression of boxes, against a loop in numpy and onnxruntime's operator; a chain is the
  hardest, in which whether a box stays hangs on all the better ones.
* roi: features of regions and their gradient, against matrices, PyTorch and onnxruntime.
* evaluation: COCO's numbers, by pycocotools and hotcoco.

The rivals are in `tests/oracles`, which a clone has; they take part where they are installed.
"""

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import made, timing
from experiments.benchmarks.made import Grid, Maps, Regions
from experiments.benchmarks.timing import Call, Case, Row, Turns
from experiments.parts import cli
from g_rmi.config import nearest
from g_rmi.evaluation.truth import Backend, Truth, evaluate_boxes, evaluate_keypoints
from g_rmi.ops.image import crop_boxes
from g_rmi.ops.nms import box_nms
from g_rmi.ops.roi import roi_align
from g_rmi.pose.heads import head
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.finders import HoughVotes
from g_rmi.skeleton import COCO


class Size(NamedTuple):
    """How much each kernel is given."""

    crops: int
    boxes: int
    regions: dict[str, int]
    images: int


SMALL = {"height": 20, "width": 30, "channels": 256, "count": 64, "size": 8}
PAPER = {"height": 75, "width": 113, "channels": 1024, "count": 300, "size": 14}
SIZES = {"small": Size(4, 6_000, SMALL, 1_000), "paper": Size(16, 6_000, PAPER, 5_000)}


@dataclasses.dataclass(frozen=True)
class Arguments(Turns):
    """Times kernels against what others have for the same, and checks that the results agree."""

    only: tuple[str, ...] = ("decode", "nms", "roi", "evaluation")  # Some of the kernels.
    # What they are given: what two cores finish in minutes, or what the paper's networks do.
    size: Literal["small", "paper"] = "small"
    # An .npz file of a network's coarse maps to decode: `heatmap` [N, h, w, K] (logits) and
    # `offset` [N, h, w, K, 2] (crop pixels). Default: made ones.
    maps: Path | None = None
    height: int = 353  # Crop rows.
    width: int = 257  # Crop columns.
    radius: float = 25.0  # R in crop pixels.


def rivals(makers: dict[str, str], *given: Any, **options: Any) -> dict[str, Call]:
    """Those of `tests/oracles/rivals.py` that can be had, by what they are called."""

    def make(maker: str) -> Call:
        return getattr(timing.oracle("rivals"), maker)(*given, **options)

    return timing.available(make, makers)


def decode_cases(maps: Maps, grid: Grid) -> Iterator[Case]:
    """Maxima of the votes by `decode` and its rivals; the ways of decoding beside each other."""
    crops = [[jnp.asarray(m) for m in crop] for crop in zip(*maps)]
    size, joints = head.Grid(grid.height, grid.width), maps.logits.shape[3]
    disks = Disks(radius=grid.radius)

    def on_crops(function: Callable) -> Call:
        compiled = jax.jit(function)
        return lambda: [jax.block_until_ready(compiled(*crop)) for crop in crops]

    def decode(logits, offset, way="hough"):
        how = head.Reading(size, tuple(np.resize(COCO.sigmas, joints).tolist()), 1.25, way)
        return disks.decode({"heatmap": logits, "offset": offset}, how)

    def found(logits, offset):
        poses = decode(logits, offset)
        x, y = poses.keypoints.astype(jnp.int32).T
        return y * grid.width + x, poses.keypoint_scores

    def whole(logits, offset):
        votes = HoughVotes(grid.radius).whole(logits, offset, size).reshape(-1, joints)
        return jnp.argmax(votes, axis=0), jnp.max(votes, axis=0)

    calls = {"decode": on_crops(found), "whole vote maps": on_crops(whole)}
    calls |= rivals({"numba": "numba_decode"}, maps, grid)
    yield Case("decode", calls, len(crops), other_maxima, 0.01)
    ways = {way: on_crops(partial(decode, way=way)) for way in head.decodings(disks)}
    yield Case("ways of decoding", ways, len(crops))


def other_maxima(ours: Any, theirs: Any) -> float:
    """Share of joints with another maximum, ties within rounding; infinite if scores differ."""
    (places, scores), (other_places, other_scores) = (
        [np.concatenate(part) for part in zip(*crops)] for crops in (ours, theirs)
    )
    if not np.allclose(scores, other_scores, rtol=1e-3, atol=1e-5):
        return math.inf
    return float(np.mean(places != other_places))


def nms_cases(count: int, *, proposals: int = 300, detections: int = 100) -> Iterator[Case]:
    """The detector's suppressions, and a chain."""
    for name, given, threshold, limit in (
        (f"{count} proposals", made.made_proposals(count), 0.7, count),
        (f"{count} proposals, best {proposals}", made.made_proposals(count), 0.7, proposals),
        (f"{count} proposals, best {proposals}", made.made_proposals(count), 0.6, proposals),
        (f"{proposals} detections", made.made_proposals(proposals), 0.6, detections),
        (f"a chain of {count}", made.chain(count), 0.3, count),
    ):
        arrays = (*map(jnp.asarray, given), jnp.ones(len(given[1]), bool))
        ours = jax.jit(partial(box_nms, threshold=threshold, limit=limit))
        others = {"numpy loop": "numpy_nms", "onnxruntime": "onnx_nms"}
        calls = {"box_nms": partial(ours, *arrays), **rivals(others, *given, threshold, limit)}
        yield Case(f"{name}, IoU {threshold}", calls, 1, kept_by_one)


def kept_by_one(ours: Any, theirs: Any) -> float:
    """Boxes that only one keeps, of a mask and of indices."""
    return len(set(np.flatnonzero(ours)) ^ set(theirs))


def roi_cases(regions: Regions) -> Iterator[Case]:
    """Features of regions, forward and the gradient with respect to the map."""
    size, arrays = regions.size, [jnp.asarray(x) for x in regions[:2]]
    crop = partial(crop_boxes, height=size, width=size)
    align = partial(roi_align, output_size=size // 2, spatial_scale=1.0, sampling_ratio=2)
    for what, name, kernel, others in (
        ("crops", "crop_boxes", crop, {"matrices": "matrix_crops", "PyTorch": "torch_crops"}),
        ("RoIAlign", "roi_align", align, {"onnxruntime": "onnx_roi_align"}),
    ):
        squares = jax.grad(lambda *given, kernel=kernel: jnp.sum(kernel(*given) ** 2))
        for case, ours in ((what, kernel), (f"gradient of {what}", squares)):
            calls = {name: partial(jax.jit(ours), *arrays)}
            calls |= rivals(others, regions, gradient=ours is squares)
            yield Case(case, calls, len(regions.boxes), relative, 1e-4)


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference as a share of the largest number."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return np.abs(theirs - ours).max() / np.abs(ours).max()


def evaluation_cases(images: int) -> Iterator[Case]:
    """COCO's numbers of keypoints and boxes by every backend that is installed."""
    annotations, poses, boxes = made.made_results(images)
    backends = list(get_args(Backend))
    if importlib.util.find_spec("hotcoco") is None:
        print("faster: left out (No module named 'hotcoco')")
        backends = ["pycocotools"]

    for name, evaluate, results in (
        ("keypoints", evaluate_keypoints, poses),
        ("boxes", evaluate_boxes, boxes),
    ):

        def whole(backend, evaluate=evaluate, results=results):
            return evaluate(Truth(annotations, backend=backend), results)

        calls = {backend: partial(whole, backend) for backend in backends}
        yield Case(f"evaluation of {name}", calls, images, of_metrics, 1e-9)


def of_metrics(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The largest difference of two sets of metrics."""
    return max(abs(ours[name] - theirs[name]) for name in ours)


KERNELS: dict[str, Callable[[Size, Maps, Grid], Iterator[Case]]] = {
    "decode": lambda size, maps, grid: decode_cases(maps, grid),
    "nms": lambda size, maps, grid: nms_cases(size.boxes),
    "roi": lambda size, maps, grid: roi_cases(made.made_regions(**size.regions)),
    "evaluation": lambda size, maps, grid: evaluation_cases(size.images),
}


def main(argv: Sequence[str]) -> None:
    """The program; a ValueError if there is no such kernel, or rivals do not agree."""
    arguments = cli.arguments(Arguments, argv, name="benchmarks.kernels")
    for name in arguments.only:
        if name not in KERNELS:
            raise ValueError(f"--only {name}: no such kernel{nearest(name, KERNELS)}")
    size, grid = SIZES[arguments.size], Grid(arguments.height, arguments.width, arguments.radius)
    path = arguments.maps
    maps = made.read_maps(path) if path else made.made_maps(grid, count=size.crops)
    table: list[Row] = []
    for name in arguments.only:
        for case in KERNELS[name](size, maps, grid):
            table += arguments.compare(case)[1]
    crops = f"{len(maps.logits)} crops of {grid.height} x {grid.width}"
    arguments.save("kernels", table, note=f"{arguments.size.title()} sizes; {crops} to decode.")


if __name__ == "__main__":
    cli.run(main)
