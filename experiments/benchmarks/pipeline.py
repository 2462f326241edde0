"""Times the one compiled program by the number of people in the picture.

python -m experiments.benchmarks.pipeline --detector DIR --pose DIR
"""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import cli
from experiments.benchmarks.timing import machine, time_interleaved
from g_rmi.find_people import DEFAULTS, Candidates, find_boxes, find_poses, pyramid
from g_rmi.geometry import fit_canvas
from g_rmi.pipeline import PosePipeline, pack


def standing_people(count: int, rows: int, size: tuple[int, int]) -> Candidates:
    """Boxes of people side by side, `count` of `rows` valid, in one picture of height x width."""
    height, width = size
    left = np.linspace(0, 0.85 * width, rows)
    boxes = np.stack([left, 0 * left + 0.1 * height, left + 0.15 * width, 0 * left + height], -1)
    scores, valid = np.linspace(1, 0.5, rows), np.arange(rows) < count
    return Candidates(
        jnp.asarray(boxes[None], jnp.float32),
        jnp.asarray(scores[None], jnp.float32),
        jnp.asarray(valid[None]),
    )


def main(
    *,
    detector: Path | None = None,
    pose: Path | None = None,
    height: int = 480,
    width: int = 640,
    people: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 30),
    rounds: int = 10,
) -> None:
    """Times both stages on one picture of noise with given numbers of people.

    Args:
      detector: Work directory of a detector; the weights that come with the package without it.
      pose: The same of a pose network.
      height: Rows of the picture.
      width: Its columns.
      people: Numbers of people.
      rounds: Turns.
    """
    options = dataclasses.replace(DEFAULTS, people=max(people))
    pipeline = PosePipeline.load(detector, pose, options=options)
    assert pipeline.detector is not None  # given above
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    canvas = pipeline.detector.config.canvas
    pictures = jax.device_put(pack([image], canvas=canvas, count=1))
    oriented = fit_canvas(height, width, canvas=canvas).canvas
    first = jax.jit(partial(find_boxes, pipeline.detector, canvas=oriented, options=options))
    second = jax.jit(partial(find_poses, pipeline.pose, options=options))
    levels = jax.jit(pyramid)(pictures)
    calls = {
        "pyramid": partial(jax.jit(pyramid), pictures),
        "detector": partial(first, pipeline.variables[0], pictures, levels),
    }
    for count in people:
        given = jax.device_put(standing_people(count, max(people), (height, width)))
        calls[f"poses of {count}"] = partial(second, pipeline.variables[1], pictures, levels, given)
    timings = time_interleaved(calls, rounds=rounds)
    print(f"one picture of {height} x {width}; {machine()}")
    print(timings.table(f"poses of {max(people)}"))
    for count in people:
        parts = ("pyramid", "detector", f"poses of {count}")
        whole = sum(timings.median(part) for part in parts)
        print(f"{count:3} people {1 / whole:8.1f} pictures/s")


if __name__ == "__main__":
    cli.run(lambda argv: tyro.cli(main, args=argv))
