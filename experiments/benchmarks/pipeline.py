"""Times the one compiled program by the number of people in the picture, against PyTorch.

    python -m experiments.benchmarks.pipeline [--people 1 4 16] [--detector DIR --pose DIR]

The rival, in a clone with PyTorch available, is `tests/oracles/torch_two_stage.py`: same networks,
weights and rules, in both of PyTorch's memory layouts. All use all usable cores and take turns, and
all are given the same boxes of people, in which they must find the same poses. onnxruntime, where
jax2onnx is installed too, runs the pose network that `export onnx` writes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.timing import Call, Case, Seconds, Turns
from experiments.parts import cli
from g_rmi.geometry import fit_canvas
from g_rmi.inference.canvas import pack
from g_rmi.inference.people import find_boxes, find_poses
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.sampling import mipmaps
from g_rmi.inference.settings import Settings
from g_rmi.pose.task import PoseTask
from g_rmi.types import Detections


@dataclasses.dataclass(frozen=True)
class Arguments(Turns):
    """Times both stages on one picture of noise with given numbers of people."""

    # Work directory of a detector. Default: the weights that come with the package.
    detector: Path | None = None
    pose: Path | None = None  # Likewise of a pose network.
    height: int = 480  # Rows of the picture.
    width: int = 640  # Columns of the picture.
    people: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 30)  # Numbers of people.
    # People who go through our pose network together; PyTorch's takes all at once.
    crops_at_once: int = Settings().crops_at_once


def standing_people(count: int, rows: int, size: tuple[int, int]) -> Detections:
    """Boxes of people side by side, `count` of `rows` valid, in one picture of height x width."""
    height, width = size
    left = np.linspace(0, 0.85 * width, rows)
    boxes = np.stack([left, 0 * left + 0.1 * height, left + 0.15 * width, 0 * left + height], -1)
    scores, valid = np.linspace(1, 0.5, rows), np.arange(rows) < count
    found = Detections(boxes.astype(np.float32), scores.astype(np.float32), valid)
    return jax.tree.map(lambda x: jnp.asarray(x[None]), found)


def our_stages(
    pipeline: PosePipeline, image: np.ndarray, people: Mapping[int, Detections]
) -> dict[str, Call]:
    """The stages as compiled programs."""
    assert pipeline.detector is not None  # what `main` sees to
    assert isinstance(pipeline.pose, PoseTask)
    size, settings, weights = image.shape[:2], pipeline.settings, pipeline.variables
    canvas = pipeline.detector.config.canvas
    pictures = jax.device_put(pack([image], canvas=canvas, count=1))
    oriented = fit_canvas(*size, canvas=canvas).canvas
    first = jax.jit(partial(find_boxes, pipeline.detector, canvas=oriented, settings=settings))
    second = jax.jit(partial(find_poses, pipeline.pose, settings=settings))
    levels = jax.jit(mipmaps)(pictures)
    return {
        "pyramid": partial(jax.jit(mipmaps), pictures),
        "detector": partial(first, weights["detector"], pictures, levels),
        **{
            f"poses of {count}": partial(second, weights["pose"], pictures, levels, given)
            for count, given in people.items()
        },
    }


def cases(pipeline: PosePipeline, image: np.ndarray, people: Sequence[int]) -> list[Case]:
    """A case for each stage, ours first."""
    given = {count: standing_people(count, max(people), image.shape[:2]) for count in people}
    stages = {"ours": our_stages(pipeline, image, given)}
    if jax.default_backend() == "cpu":

        def theirs(layout: str) -> dict[str, Call]:
            return timing.oracle("torch_two_stage").stages(pipeline, image, given, layout)

        stages |= timing.available(theirs, timing.LAYOUTS)
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


def network_cases(pipeline: PosePipeline, counts: Sequence[int]) -> Iterator[Case]:
    """The pose network alone on so many crops at once, against onnxruntime."""
    task, variables = pipeline.pose, pipeline.variables["pose"]
    assert isinstance(task, PoseTask)

    def onnx(_: str) -> Any:
        return timing.oracle("rivals").onnx_network(task, variables)

    others = timing.available(onnx, {"onnxruntime": ""})
    ours = jax.jit(task.predict)
    for count in counts:
        crops = np.random.default_rng(0).uniform(0, 255, (count, *task.grid, 3)).astype(np.float32)
        calls = {"ours": partial(ours, variables, jnp.asarray(crops))}
        calls |= {name: partial(run, crops) for name, run in others.items()}
        yield Case(f"pose network, {count} crops", calls, count, other_maps, 1e-3)


def other_maps(ours: Any, theirs: Any) -> float:
    """The largest difference of two sets of maps, as a share of the map's largest number."""
    pairs = ((np.asarray(ours[name]), theirs[name]) for name in ours)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def whole(stages: Mapping[str, Seconds], count: int) -> Seconds:
    """The sums of all stages, round by round, for a picture with so many people."""
    parts = [stages[name] for name in ("pyramid", "detector", f"poses of {count}")]
    return {whose: np.sum([part[whose] for part in parts], axis=0) for whose in parts[0]}


def other_joints(ours: Any, theirs: Any) -> float:
    """Share of joints that are .01 pixels apart or more, of a `PeopleTable` of one and a `People`.

    Some may be where two pixels have the same votes but for rounding; infinite if they are not as
    many people.
    """
    keypoints = np.asarray(ours.keypoints[0])[np.asarray(ours.valid[0])]
    if keypoints.shape != theirs.keypoints.shape:
        return np.inf
    apart = np.linalg.norm(keypoints - theirs.keypoints, axis=-1)
    return float(np.mean(apart >= 0.01)) if apart.size else 0.0


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="benchmarks.pipeline")
    people, at_once = arguments.people, arguments.crops_at_once
    # As the paper decodes, which the twin does, whatever the weights ask for.
    settings = Settings(
        decoding="hough",
        min_box_score=0.05,
        min_score=0.0,
        max_people=max(people),
        crops_at_once=at_once,
    )
    pipeline = PosePipeline.load(arguments.detector, arguments.pose, settings=settings)
    if pipeline.detector is None:
        raise ValueError(f"--pose {arguments.pose}: a detector and a pose network are timed")
    size = arguments.height, arguments.width
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    table, stages = [], {}
    for case in cases(pipeline, image, people):
        stages[case.name], more = arguments.compare(case)
        table += more
    for case in network_cases(pipeline, (1, at_once)):
        table += arguments.compare(case)[1]
    for count in people:
        table += timing.rows(f"whole, {count} people", whole(stages, count))
    note = f"One picture of {size[0]} x {size[1]}, {at_once} crops at once."
    arguments.save("pipeline", table, note=note)


if __name__ == "__main__":
    cli.run(main)
