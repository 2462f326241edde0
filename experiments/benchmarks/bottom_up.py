"""Times bottom-up against top-down by the number of people in a picture.

    python -m experiments.benchmarks.bottom_up --parts DIR --data DIR [--detector DIR --pose DIR]

Real pictures from a validation split, one at a time, through the pipelines that `predict` runs.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.images import decode
from data_pipeline.schema import DataError, Dataset
from experiments.benchmarks.timing import Case, Turns
from experiments.parts import cli, data
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.inference.pipeline import PosePipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Turns):
    """Times both ways to people on pictures with given numbers of them."""

    parts: Path  # Work directory or weights file of a bottom-up network.
    # The same of a detector. Default: the weights that come with the package.
    detector: Path | None = None
    pose: Path | None = None  # The same of a pose network.
    # Data directories; the first with a validation split is looked at. Default: the synthetic set.
    data: tuple[Path, ...] = ()
    people: tuple[int, ...] = (1, 2, 4, 8, 13)  # Numbers of labelled people.
    pictures: int = 4  # Pictures with each number, which take turns.


def lying(dataset: Dataset, count: int, pictures: int) -> list[np.ndarray]:
    """The first pictures that are wider than high and in which so many people are labelled."""
    images, people = dataset.images, dataset.people
    there = np.bincount(people.image[~people.is_crowd], minlength=len(images))
    (rows,) = np.nonzero((there == count) & (images.width > images.height))
    return [decode(dataset.source.read(int(row))) for row in rows[:pictures]]


def cases(
    pipelines: dict[str, PosePipeline], dataset: Dataset, arguments: Arguments
) -> Iterator[Case]:
    """A case for each number of people, bottom-up first; a DataError without such pictures."""
    for count in arguments.people:
        pictures = lying(dataset, count, arguments.pictures)
        if not pictures:
            raise DataError(f"{dataset}: no picture in landscape with {count} people (--people)")

        def call(pipeline, turn):
            return lambda: pipeline(next(turn))

        rivals = {
            name: call(pipeline, itertools.cycle(pictures)) for name, pipeline in pipelines.items()
        }
        for _ in pictures[1:]:  # every size is compiled before turns count
            for run in rivals.values():
                run()
        yield Case(f"people: {count}", rivals)


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="benchmarks.bottom_up")
    enable_compilation_cache()
    dataset, *_ = data.read_split(data.directories(arguments.data), "val")
    pipelines = {
        "bottom-up": PosePipeline.load(pose=arguments.parts),
        "top-down": PosePipeline.load(arguments.detector, arguments.pose),
    }
    compared = (arguments.compare(case) for case in cases(pipelines, dataset, arguments))
    table = [row for _, rows in compared for row in rows]
    arguments.save(
        "bottom_up", table, note=f"{dataset.directory}, {dataset.split}, pictures in landscape."
    )


if __name__ == "__main__":
    cli.run(main)
