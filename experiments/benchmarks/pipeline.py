"""Times the one compiled program by the number of people in the picture, against PyTorch.

    python -m experiments.benchmarks.pipeline [--people 1 4 16] [--detector DIR --pose DIR]

The rival, in a clone with PyTorch available, is `tests/oracles/torch_two_stage.py`: same networks,
weights and rules, in both of PyTorch's memory layouts. All use all usable cores and take turns, and
all are given the same boxes of people, in which they must find the same poses.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.rivals import twin
from experiments.benchmarks.timing import (
    RESULTS,
    Call,
    Case,
    Row,
    Timings,
    available,
    compare,
    rows,
    save,
)
from experiments.parts import cli
from g_rmi.geometry import fit_canvas
from g_rmi.inference.canvas import pack
from g_rmi.inference.people import find_boxes, find_poses
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.sampling import mipmaps
from g_rmi.inference.settings import Settings
from g_rmi.types import Detections

Stages = dict[str, Call]
LAYOUTS = ("channels_last", "contiguous_format")


def standing_people(count: int, rows: int, size: tuple[int, int]) -> Detections:
    """Boxes of people side by side, `count` of `rows` valid, in one picture of height x width."""
    height, width = size
    left = np.linspace(0, 0.85 * width, rows)
    boxes = np.stack([left, 0 * left + 0.1 * height, left + 0.15 * width, 0 * left + height], -1)
    scores, valid = np.linspace(1, 0.5, rows), np.arange(rows) < count
    return Detections(
        jnp.asarray(boxes[None], jnp.float32),
        jnp.asarray(scores[None], jnp.float32),
        jnp.asarray(valid[None]),
    )


def our_stages(pipeline: PosePipeline, image: np.ndarray, people: Sequence[int]) -> Stages:
    """The stages as compiled programs."""
    assert pipeline.detector is not None
    size, settings = image.shape[:2], pipeline.settings
    canvas = pipeline.detector.config.canvas
    pictures = jax.device_put(pack([image], canvas=canvas, count=1))
    oriented = fit_canvas(*size, canvas=canvas).canvas
    first = jax.jit(partial(find_boxes, pipeline.detector, canvas=oriented, settings=settings))
    second = jax.jit(partial(find_poses, pipeline.pose, settings=settings))
    levels = jax.jit(mipmaps)(pictures)
    calls: Stages = {
        "pyramid": partial(jax.jit(mipmaps), pictures),
        "detector": partial(first, pipeline.variables["detector"], pictures, levels),
    }
    for count in people:
        given = jax.device_put(standing_people(count, max(people), size))
        variables = pipeline.variables["pose"]
        calls[f"poses of {count}"] = partial(second, variables, pictures, levels, given)
    return calls


def torch_stages(
    pipeline: PosePipeline, image: np.ndarray, people: Sequence[int], *, layout: str
) -> Stages:
    """The same in PyTorch, in one of its memory layouts.

    Raises:
      ImportError: The twin or PyTorch is missing.
      ValueError: The networks do what the twin does not.
    """
    two_stage = twin("torch_two_stage")
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rival = two_stage.TwoStage(pipeline, memory_format=getattr(torch, layout))
    levels = rival.pyramid(image)
    calls: Stages = {
        "pyramid": partial(rival.pyramid, image),
        "detector": partial(rival.find_boxes, levels),
    }
    for count in people:
        given = standing_people(count, max(people), image.shape[:2])
        boxes, scores = (torch.tensor(np.asarray(x)[0, :count]) for x in given[:2])
        found = two_stage.Boxes(boxes, scores)
        calls[f"poses of {count}"] = partial(rival.find_poses, levels, found)
    return calls


def cases(pipeline: PosePipeline, image: np.ndarray, people: Sequence[int]) -> list[Case]:
    """A case for each stage, ours first."""
    stages = {"ours": our_stages(pipeline, image, people)}
    if jax.default_backend() == "cpu":
        stages |= available(
            {
                f"PyTorch, {layout}": partial(torch_stages, pipeline, image, people, layout=layout)
                for layout in LAYOUTS
            }
        )
    else:
        print("PyTorch: left out (the twin runs on processors only)")
    return [
        Case(
            stage,
            {whose: calls[stage] for whose, calls in stages.items()},
            difference=other_joints if stage.startswith("poses") else None,
            tolerance=0.05,
        )
        for stage in stages["ours"]
    ]


def whole(stages: dict[str, Timings], count: int) -> Timings:
    """The sums of all stages, round by round, for a picture with so many people."""
    parts = [stages[name].seconds for name in ("pyramid", "detector", f"poses of {count}")]
    return Timings({whose: [sum(r) for r in zip(*(p[whose] for p in parts))] for whose in parts[0]})


def other_joints(ours: Any, theirs: Any) -> float:
    """Share of joints that are .01 pixels apart or more; infinite if they are not as many people.

    Some may be where two pixels have the same votes but for rounding.

    Args:
      ours: `PeopleTable` of one picture.
      theirs: `People`.
    """
    valid = np.asarray(ours.valid[0])
    keypoints = np.asarray(ours.keypoints[0])[valid]
    if keypoints.shape != theirs.keypoints.shape:
        return np.inf
    apart = np.linalg.norm(keypoints - theirs.keypoints, axis=-1)
    return float(np.mean(apart >= 0.01)) if apart.size else 0.0


def main(
    *,
    detector: Path | None = None,
    pose: Path | None = None,
    height: int = 480,
    width: int = 640,
    people: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 30),
    crops_at_once: int = Settings().crops_at_once,
    rounds: int = 10,
    out: Path = RESULTS,
) -> None:
    """Times both stages on one picture of noise with given numbers of people.

    Args:
      detector: Work directory of a detector. Default: the weights that come with the package.
      pose: Likewise of a pose network.
      height: Rows of the picture.
      width: Columns of the picture.
      people: Numbers of people.
      crops_at_once: People who go through our pose network together; PyTorch's takes all at once.
      rounds: Turns.
      out: Folder of the results.
    """
    # As the paper decodes, which the twin does, whatever the weights ask for.
    settings = Settings(
        decoding="hough", min_box_score=0.05, max_people=max(people), crops_at_once=crops_at_once
    )
    pipeline = PosePipeline.load(detector, pose, settings=settings)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    table: list[Row] = []
    stages = {}
    for case in cases(pipeline, image, people):
        stages[case.name], more = compare(case, rounds=rounds)
        table += more
    for count in people:
        table += rows(f"whole, {count} people", whole(stages, count))
    note = f"One picture of {height} x {width}, {crops_at_once} crops at once, {rounds} rounds."
    save("pipeline", table, out, note=note)


if __name__ == "__main__":
    cli.run(lambda argv: tyro.cli(main, args=argv))
