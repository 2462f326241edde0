"""Non-maximum suppression of boxes: ours against loops and onnxruntime, in one run.

    python -m experiments.benchmarks.nms [--boxes 6000] [--rounds 9]

Rivals: a numpy loop over the kept boxes; the same in PyTorch and onnxruntime's NonMaxSuppression
where they are installed; `box_nms`; and `box_nms` with the limit that the detector sets. Inputs:
made proposals (clusters around people, clutter between them), at the detector's two thresholds and
numbers; and a chain, in which every box overlaps its two neighbours alone, so that whether one
stays hangs on all the better ones. Checks that all keep the same boxes; prints medians and ratios.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float

from experiments.benchmarks.onnx_node import onnx_node
from experiments.benchmarks.timing import machine, time_interleaved
from g_rmi.ops.nms import box_nms


class Scored(NamedTuple):
    """N boxes to choose from."""

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]


def made_proposals(
    count: int, *, people: int = 12, height: int = 800, width: int = 1200, seed: int = 0
) -> Scored:
    """What a region proposal network answers: most of it around people, some anywhere."""
    rng = np.random.default_rng(seed)
    picture = np.array([width, height])
    tall = np.exp(rng.uniform(np.log(60), np.log(600), people))
    sides = np.stack([tall * rng.uniform(0.3, 0.6, people), tall], axis=-1)
    centres = rng.uniform(size=(people, 2)) * picture
    who, near = rng.integers(0, people, count), rng.uniform(size=(count, 1)) < 0.6
    clutter = np.exp(rng.uniform(np.log(32), np.log(500), (count, 1)))
    side = np.where(near, sides[who], clutter) * np.exp(0.15 * rng.normal(size=(count, 2)))
    jittered = centres[who] + 0.1 * side * rng.normal(size=(count, 2))
    centre = np.where(near, jittered, rng.uniform(size=(count, 2)) * picture)
    corners = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    boxes = corners.clip(0, np.tile(picture, 2)).astype(np.float32)
    return Scored(boxes, (2 * near[:, 0] + rng.normal(size=count)).astype(np.float32))


def chain(count: int) -> Scored:
    """Boxes in a row, best first, each with IoU 1/3 to its neighbours and 0 to all others."""
    x = 5.0 * np.arange(count)
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 1], axis=1)
    return Scored(boxes.astype(np.float32), -np.arange(count, dtype=np.float32))


def numpy_loop(scored: Scored, threshold: float) -> list[int]:
    """Keeps the best, drops what overlaps it, and so on; the kept in order of their scores."""
    boxes, area = scored.boxes, np.prod(scored.boxes[:, 2:] - scored.boxes[:, :2], axis=1)
    left = np.argsort(-scored.scores, kind="stable")
    keep = []
    while left.size:
        best, left = left[0], left[1:]
        keep.append(int(best))
        corner = np.maximum(boxes[best, :2], boxes[left, :2])
        side = np.maximum(np.minimum(boxes[best, 2:], boxes[left, 2:]) - corner, 0)
        shared = side[:, 0] * side[:, 1]
        left = left[shared / (area[best] + area[left] - shared) <= np.float32(threshold)]
    return keep


def torch_loop(scored: Scored, threshold: float) -> Callable[[], list[int]]:
    """The same in PyTorch.

    Raises:
      ImportError: PyTorch is missing.
    """
    import torch

    boxes, scores = (torch.from_numpy(x) for x in scored)
    limit = torch.tensor(threshold)

    def run() -> list[int]:
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        left = torch.argsort(scores, descending=True, stable=True)
        keep = []
        while len(left):
            best, left = left[0], left[1:]
            keep.append(int(best))
            corner = torch.maximum(boxes[best, :2], boxes[left, :2])
            side = (torch.minimum(boxes[best, 2:], boxes[left, 2:]) - corner).clamp_min(0)
            shared = side[:, 0] * side[:, 1]
            left = left[shared / (area[best] + area[left] - shared) <= limit]
        return keep

    return run


def onnx_nms(scored: Scored, threshold: float) -> Callable[[], list[int]]:
    """NonMaxSuppression of onnxruntime.

    Raises:
      ImportError: onnx or onnxruntime is missing.
    """
    node = onnx_node(
        "NonMaxSuppression",
        {
            "boxes": scored.boxes[None, :, [1, 0, 3, 2]],
            "scores": scored.scores[None, None],
            "most": np.array([len(scored.scores)]),
            "threshold": np.array([threshold], np.float32),
        },
    )
    return lambda: node()[:, 2].tolist()


def rivals(scored: Scored, threshold: float, limit: int) -> dict[str, Callable]:
    """Calls without arguments; loops give the kept indices best first, ours give masks."""
    calls: dict[str, Callable] = {"numpy loop": partial(numpy_loop, scored, threshold)}
    for name, make in (("PyTorch loop", torch_loop), ("onnxruntime", onnx_nms)):
        try:
            calls[name] = make(scored, threshold)
        except ImportError as error:
            print(f"{name}: left out, {error.name} is not installed")
    arrays = (*(jnp.asarray(x) for x in scored), jnp.ones(len(scored.scores), bool))
    for name, most in (("box_nms", None), (f"box_nms, best {limit}", limit)):
        calls[name] = partial(jax.jit(partial(box_nms, threshold=threshold, limit=most)), *arrays)
    return calls


def agreement(calls: dict[str, Callable], limit: int) -> str:
    """Checks that all keep the same boxes.

    Raises:
      ValueError: One keeps other boxes than the numpy loop.
    """
    expected = calls["numpy loop"]()
    for name, call in calls.items():
        kept = np.asarray(call())
        wanted = expected[:limit] if name.endswith(f"best {limit}") else expected
        same = np.flatnonzero(kept) if kept.dtype == bool else np.sort(kept)
        if not np.array_equal(same, np.sort(wanted)):
            raise ValueError(f"{name} keeps other boxes than the numpy loop")
    return f"all keep the same {len(expected)} boxes"


def main(
    *,
    boxes: int = 6_000,
    regions: int = 300,
    detections: int = 100,
    rounds: int = 9,
    processor_time: bool = False,
) -> None:
    """Times suppression and checks that the rivals agree.

    Args:
      boxes: Candidates of the region proposal network, and links of the chain.
      regions: Proposals that it hands on, which the second stage suppresses.
      detections: Most people of a picture.
      rounds: Turns per rival.
      processor_time: Count processor time instead of wall time, for a busy machine.
    """
    clock = time.process_time if processor_time else time.perf_counter
    print(machine())
    print("processor time" if processor_time else "wall time")
    for name, scored, threshold, limit in (
        ("proposals", made_proposals(boxes), 0.7, regions),
        ("proposals", made_proposals(boxes), 0.6, regions),
        ("detections", made_proposals(regions), 0.6, detections),
        ("chain", chain(boxes), 0.3, regions),
    ):
        calls = rivals(scored, threshold, limit)
        print(f"\n{len(scored.scores)} {name} at IoU {threshold}: {agreement(calls, limit)}")
        print(time_interleaved(calls, rounds=rounds, clock=clock).table("box_nms"))


if __name__ == "__main__":
    tyro.cli(main)
