"""Times the one compiled program by the number of people in the picture, against PyTorch.

    python -m experiments.benchmarks.pipeline [--people 1 4 16] [--detector DIR --pose DIR]

The rival, where PyTorch is installed, is `experiments.benchmarks.torch_two_stage`: same networks,
weights and rules, in the faster of PyTorch's two memory layouts. Both use all usable cores and take
turns, and both are given the same boxes of people; that they find the same poses is printed, too.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import cli
from experiments.benchmarks.timing import Timings, machine, time_interleaved
from g_rmi.geometry import fit_canvas
from g_rmi.inference.canvas import pack
from g_rmi.inference.people import find_boxes, find_poses
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.sampling import mipmaps
from g_rmi.inference.settings import Settings
from g_rmi.types import Detections

Stages = dict[str, Callable[[], Any]]
THEIRS = "PyTorch: "


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


def torch_stages(pipeline: PosePipeline, image: np.ndarray, people: Sequence[int]) -> Stages:
    """The same in PyTorch; nothing, and why, where that cannot be."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: no baseline")
        return {}
    from experiments.benchmarks.torch_two_stage import Boxes, TwoStage

    if jax.default_backend() != "cpu":
        print("the PyTorch baseline runs on processors only")
        return {}
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    def stages(twin: TwoStage) -> Stages:
        levels = twin.pyramid(image)
        calls: Stages = {
            "pyramid": partial(twin.pyramid, image),
            "detector": partial(twin.find_boxes, levels),
        }
        for count in people:
            given = standing_people(count, max(people), image.shape[:2])
            boxes, scores = (torch.tensor(np.asarray(x)[0, :count]) for x in given[:2])
            calls[f"poses of {count}"] = partial(twin.find_poses, levels, Boxes(boxes, scores))
        return calls

    layouts = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
    try:
        rivals = {
            name: stages(TwoStage(pipeline, memory_format=layout))
            for name, layout in layouts.items()
        }
    except ValueError as error:
        print(f"no baseline: {error}")
        return {}
    tried = "detector", f"poses of {sorted(people)[len(people) // 2]}"
    trial = time_interleaved(
        {name: lambda calls=calls: [calls[t]() for t in tried] for name, calls in rivals.items()},
        rounds=3,
    )
    faster = min(rivals, key=trial.median)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {faster}")
    return rivals[faster]


def with_wholes(timings: Timings, people: Sequence[int]) -> Timings:
    """Adds the sums of all stages, round by round."""
    seconds = dict(timings.seconds)
    for whose in ("", THEIRS) if f"{THEIRS}detector" in seconds else ("",):
        for count in people:
            parts = (f"{whose}{part}" for part in ("pyramid", "detector", f"poses of {count}"))
            rounds = zip(*(timings.seconds[part] for part in parts))
            seconds[f"{whose}whole, {count} people"] = [sum(parts) for parts in rounds]
    return Timings(seconds)


def side_by_side(timings: Timings) -> str:
    """One line per stage: medians of both sides and the ratio."""
    lines = [f"{'':28} {'PyTorch':>12} {'ours':>12} {'ours / PyTorch':>16}"]
    for name in timings.seconds:
        rival = THEIRS + name
        if rival in timings.seconds:
            theirs, ours = (f"{1e3 * timings.median(n):.2f} ms" for n in (rival, name))
            lines.append(f"{name:28} {theirs:>12} {ours:>12} {timings.ratio(name, rival):16.3f}")
    return "\n".join(lines)


def agreement(ours: Any, theirs: Any) -> str:
    """How far the poses of both sides are apart, `PeopleTable` of one picture and `People`."""
    valid = np.asarray(ours.valid[0])
    keypoints = np.asarray(ours.keypoints[0])[valid]
    if keypoints.shape != theirs.keypoints.shape:
        return f"ours finds {len(keypoints)} people, PyTorch {len(theirs.keypoints)}"
    apart = np.linalg.norm(keypoints - theirs.keypoints, axis=-1)
    near = np.sum(apart < 0.01)
    return (
        f"both find {len(apart)} people, {near} of {apart.size} joints less than .01 pixels apart"
    )


def main(
    *,
    detector: Path | None = None,
    pose: Path | None = None,
    height: int = 480,
    width: int = 640,
    people: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 30),
    crops_at_once: int = Settings().crops_at_once,
    rounds: int = 10,
) -> None:
    """Times both stages on one picture of noise with given numbers of people.

    Args:
      detector: Work directory of a detector; the weights that come with the package without it.
      pose: The same of a pose network.
      height: Rows of the picture.
      width: Its columns.
      people: Numbers of people.
      crops_at_once: People who go through our pose network together; PyTorch's takes all at once.
      rounds: Turns.
    """
    # As the paper decodes, which the twin does, whatever the weights ask for.
    settings = Settings(
        decoding="hough", min_box_score=0.05, max_people=max(people), crops_at_once=crops_at_once
    )
    pipeline = PosePipeline.load(detector, pose, settings=settings)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    print(f"one picture of {height} x {width}; {machine()}")
    ours, theirs = (make(pipeline, image, people) for make in (our_stages, torch_stages))
    calls: Stages = {}
    for name, call in ours.items():
        calls[name] = call
        if theirs:
            calls[THEIRS + name] = theirs[name]
    timings = with_wholes(time_interleaved(calls, rounds=rounds), people)
    last = f"{max(people)}"
    if theirs:
        print(agreement(ours[f"poses of {last}"](), theirs[f"poses of {last}"]()))
    print(side_by_side(timings) if theirs else timings.table(f"whole, {last} people"))
    for count in people:
        rate = 1 / timings.median(f"whole, {count} people")
        print(f"{count:3} people {rate:8.1f} pictures/s")


if __name__ == "__main__":
    cli.run(lambda argv: tyro.cli(main, args=argv))
