"""Evaluates a training: `python -m experiments.evaluate --workdir DIR [--data DIR]`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.parts import cli, data
from experiments.parts.evaluation import Arguments
from experiments.parts.stages import STAGES
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.detector.detector import Detector
from g_rmi.evaluation.truth import require
from g_rmi.files import check_directory
from g_rmi.inference.load import load_settings, load_task
from g_rmi.inference.settings import COUNTING
from g_rmi.parts.task import PartsTask
from g_rmi.pose.task import PoseTask
from g_rmi.training.hosts import join_hosts


def names_of(task: PoseTask | Detector | PartsTask) -> tuple[str, ...]:
    """The classes that a network finds; none: people alone."""
    if isinstance(task, PoseTask | PartsTask):
        return tuple(task.skeleton.blocks)
    return task.classes


def main(argv: Sequence[str]) -> None:
    """The program."""
    workdir = cli.peek(argv, "workdir")
    settings = load_settings(workdir) if workdir and Path(workdir).is_file() else COUNTING
    # AP counts everybody.
    settings = dataclasses.replace(settings, min_box_score=0.0, min_score=0.0)
    arguments = cli.arguments(Arguments, argv, name="evaluate", settings=settings)
    require(arguments.coco_backend)
    join_hosts(arguments.hosts)
    enable_compilation_cache()
    task, variables = load_task(arguments.workdir, arguments.checkpoint)
    if not arguments.out and arguments.workdir.is_file():
        raise ValueError(f"--out DIR is needed: {arguments.workdir} is a file")
    out = arguments.out or arguments.workdir / "evaluation"
    check_directory(out)
    directories, classes = data.directories(arguments.data), names_of(task)
    dataset, *_ = data.read_split(directories, arguments.split, categories=classes)
    data.check_counted(dataset, poses=STAGES[task.stage].keypoints)
    data.check_pictures(dataset, 0.0)
    STAGES[task.stage].evaluate(task, variables, dataset, arguments, out)


if __name__ == "__main__":
    cli.run(main)
