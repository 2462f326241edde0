"""Runs an ablation: `python -m experiments.sweep --config NAME --out DIR`."""

import dataclasses
import json
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments import configs
from experiments.benchmarks import detectors
from experiments.parts import ablations, cli, data, detector_chart, sweep_table
from experiments.parts.experiment import (
    DetectorExperiment,
    Experiment,
    Options,
    PoseExperiment,
    experiment_from_dict,
    override,
)
from experiments.parts.launch import Executor, Job, Launcher, Resources, run_jobs
from experiments.parts.points import Base, Point, resolve
from experiments.parts.sweep_jobs import (
    COST_METRICS,
    IMAGE_METRICS,
    Run,
    Training,
    digest,
    evaluate_points,
    find_boxes,
    train_once,
)
from experiments.parts.sweep_table import Row
from experiments.parts.training import Arguments as TrainArguments
from g_rmi.evaluation.truth import KEYPOINT_METRICS
from g_rmi.files import locked


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains and evaluates the points of a sweep; the same command continues an interrupted one.

    Writes NAME.md, NAME.csv and NAME.png into the output directory, where sweeps share trainings.
    """

    config: str  # Name of a function of experiments/parts/ablations.py; `--list` prints them.
    out: Path  # Gets tables, plots, trainings, each point's numbers, and the jobs' logs.
    # What is varied: a config, by name or as a Python file, whose fields are the options below; or
    # the work directory of a training, which is not trained again.
    base: str = "pose_resnet101"
    # The same for the detector, for points that use its boxes. Default: the config named like the
    # base.
    detector: str | None = None
    # Data directories, as for training. The first with a validation split is evaluated on. Default:
    # the synthetic set.
    data: tuple[Path, ...] = ()
    # ImageNet weights to start from, each after the depth of its backbone.
    pretrained: dict[float, Path] = dataclasses.field(default_factory=dict)
    max_per_image: int = 30  # Boxes of each image that are used at most, the best first.
    # Run jobs on this machine or on Slurm; "debug" runs them in this process.
    launcher: Launcher = "local"
    max_parallel: int | None = None  # Most jobs at once. Default: 1 on this machine, all on Slurm.
    resources: Resources = Resources()  # What each job gets.
    experiment: Options = PoseExperiment()


def read_experiment(name: str) -> Experiment:
    """The experiment of a config or of a training's directory; a ValueError if it is neither."""
    if configs.is_config(name) or not ("/" in name or Path(name).is_dir()):
        return configs.get(name)
    file = Path(name) / "config.json"
    if not file.is_file():
        raise ValueError(f"{name} is not a workdir: it has no config.json")
    return experiment_from_dict(json.loads(file.read_text()))


def read_bases(arguments: Arguments) -> Base:
    """What the sweep varies; a ValueError if a name is unknown or of the other stage."""
    if isinstance(arguments.experiment, DetectorExperiment):
        raise ValueError(f"--base {arguments.base}: must be of a pose network, not a detector")
    if arguments.detector is None:
        return Base(arguments.experiment)
    detector = read_experiment(arguments.detector)
    if not isinstance(detector, DetectorExperiment):
        raise ValueError(f"--detector {arguments.detector}: must be of a detector")
    return Base(arguments.experiment, detector)


def training(
    experiment: Experiment,
    base: Experiment,
    source: str,
    arguments: Arguments,
    before: Training | None = None,
) -> Training:
    """The training that a point needs: the one that was given, if it is of that, or one to make.

    `source` is where the base is from, `before` whose weights to start from; paths of the program's
    arguments are absolute.
    """
    if not before and not configs.is_config(source) and experiment == read_experiment(source):
        return Training.given(Path(source))
    depth = experiment.model.backbone.depth
    pretrained = arguments.pretrained.get(depth)
    if arguments.pretrained and pretrained is None:
        raise ValueError(f"--pretrained: no weights for depth {depth}, which a point needs")
    made = TrainArguments(
        config=source,
        data=arguments.data,
        pretrained=pretrained and pretrained.absolute(),
        experiment=experiment,
    )
    return Training.made(made, base, arguments.out / "trainings", before)


def plan(points: Sequence[Point], base: Base, arguments: Arguments) -> list[Run]:
    """The points with the trainings that they need; a ValueError names one that cannot be."""
    out = arguments.out.absolute()
    directories = tuple(path.absolute() for path in data.directories(arguments.data))
    data.read_split(directories, "val")  # better now than after hours of training
    arguments = dataclasses.replace(arguments, out=out, data=directories)
    runs = []
    for point in points:
        needs = resolve(point, base)
        boxes = looks = None
        if needs.detector and point.counts == "boxes":
            looks = override(needs.detector, point.detector_test).model
        if needs.detector and base.detector and arguments.detector:
            finds = training(needs.detector, base.detector, arguments.detector, arguments)
            look = [dict(point.detector_test)] if point.detector_test else []
            file = out / "boxes" / f"{digest([finds.identity, directories, *look])}.json"
            boxes = file, finds
        pose = None
        if point.counts == "people":
            for fields in (*point.before, point.pose):
                wanted = override(base.pose, fields)
                pose = training(wanted, base.pose, arguments.base, arguments, pose)
        name = "".join(c if c.isalnum() or c in ".+-" else "_" for c in point.name)
        runs.append(
            Run(
                point=point,
                directory=out / "points" / arguments.config / name,
                pose=pose,
                boxes=boxes,
                data=directories,
                max_per_image=arguments.max_per_image,
                detector=looks,
                crops=isinstance(base.pose, PoseExperiment),
            )
        )
    return runs


def read_costs(runs: Sequence[Run], file: Path) -> dict[str, detectors.Costs]:
    """What the detectors of points cost, as far as it was measured of these very ones."""
    rows = json.loads(file.read_text()) if file.is_file() else {}
    found = {run.point.name: rows.get(run.point.name, {}) for run in runs}
    return {
        run.point.name: {name: value for name, value in row.items() if name != "of"}
        for run, row in zip(runs, found.values())
        if row.get("of") == run.identity
    }


def make_jobs(runs: Sequence[Run], sweep: str) -> tuple[list[Job], dict[str, list[Run]]]:
    """The jobs that points wait for, each after what it needs, and the points of evaluations."""
    jobs: dict[str, Job] = {}
    groups: dict[str, list[Run]] = {}
    for run in runs:
        weights = "average" if run.point.averaged else "last"
        boxes = run.boxes[0].stem if run.boxes else "gt"
        pose = run.pose.workdir.name if run.pose else "none"
        parts = [sweep, pose, boxes, weights]
        if look := run.point.pose_test:
            parts.append(digest(dict(look)))
        name = "_".join(parts)
        groups.setdefault(name, []).append(run)
    for name, group in groups.items():
        first, needs = group[0], []
        if first.pose and not first.pose.finished:
            needs.append(Job(f"train_{first.pose.workdir.name}", train_once, (first.pose,)))
        if first.boxes and not first.boxes[0].exists():
            file, finds = first.boxes
            boxes = f"boxes_{finds.workdir.name}_{file.stem}"
            look = first.point.detector_test
            needs.append(Job(boxes, find_boxes, (finds, first.data, file, look)))
        names = frozenset(job.name for job in needs)
        evaluation = Job(name, evaluate_points, (group,), names)
        jobs |= {job.name: job for job in (*needs, evaluation)}
    return list(jobs.values()), groups


def rows(
    runs: Sequence[Run], errors: dict[str, str], costs: dict[str, detectors.Costs]
) -> list[Row]:
    """The table, of what the points' files say."""
    found = []
    for run in runs:
        metrics = run.metrics
        error = errors.get(run.point.name)
        status = "done" if metrics else f"failed: {error}" if error else "waiting"
        names, mark = KEYPOINT_METRICS, None
        if run.point.costs:
            names = COST_METRICS if run.crops else IMAGE_METRICS
        if looks := run.detector:
            assert run.boxes
            names, training = detector_chart.COLUMNS, run.boxes[1].workdir.name
            proposals = getattr(looks, "proposals", None)
            mark = detector_chart.Mark(looks.kind, str(looks.backbone), proposals, training)
            metrics = metrics and {**metrics, **costs.get(run.point.name, {})}
        found.append(Row(run.point.name, metrics, run.minutes, status, names, mark))
    return found


def main(argv: Sequence[str]) -> int:
    """The program; exit status 1 if a point failed, 130 after Ctrl-C."""
    if "--list" in argv or cli.peek(argv, "config") == "list":
        print(ablations.listing())
        return 0
    default = Arguments(config=tyro.MISSING, out=tyro.MISSING)
    arguments = cli.parse(
        default, argv, prog=cli.program("sweep"), option="base", get=read_experiment
    )
    arguments = dataclasses.replace(
        arguments, detector=arguments.detector or namesake(arguments.base)
    )
    base = read_bases(arguments)
    command = shlex.join(["python", "-m", "experiments.sweep", *argv])
    plan(ablations.get(arguments.config, base), base, arguments)  # mistakes leave nothing behind
    with locked(arguments.out / "points" / arguments.config):  # others may share its trainings
        return sweep(arguments, base, command)


def namesake(base: str) -> str | None:
    """The detector's config that is named like a pose network's, if there is one."""
    name = "detector_" + base.removeprefix("pose_")
    return name if name in configs.names() else None


def sweep(arguments: Arguments, base: Base, command: str) -> int:
    """Runs what is left to do, writes the table; returns the exit status."""
    runs = plan(ablations.get(arguments.config, base), base, arguments)
    out, title = arguments.out / arguments.config, ablations.title(arguments.config)
    errors: dict[str, str] = {}
    left = [run for run in runs if run.metrics is None]
    print(f"{len(runs)} points, {len(runs) - len(left)} done before")
    jobs, groups = make_jobs(left, arguments.config)
    compared = [run for run in runs if run.detector]
    file = arguments.out.absolute() / "points" / arguments.config / "costs.json"
    if len(read_costs(compared, file)) < len(compared):  # all in turns, or none is comparable
        found = frozenset(job.name for job in jobs if job.name in groups)
        jobs.append(Job(f"{arguments.config}_costs", detectors.measure, (compared, file), found))

    def table() -> list[Row]:
        return rows(runs, errors, read_costs(compared, file))

    def ended(job: Job, error: str | None) -> None:
        print(f"{job.name}: {error or 'done'}", flush=True)
        for run in groups.get(job.name, ()):
            if run.metrics is None:
                errors[run.point.name] = error or "the job left no numbers"
        sweep_table.save(table(), out, title=title, command=command)

    if jobs:
        executor = Executor(arguments.launcher, out.parent.absolute() / "jobs", arguments.resources)
        everything = len(jobs) if arguments.launcher == "slurm" else 1
        print(f"{len(jobs)} jobs, logs in {executor.folder}", flush=True)
        try:
            run_jobs(jobs, executor, limit=arguments.max_parallel or everything, ended=ended)
        except KeyboardInterrupt:
            rest = "Slurm keeps the jobs" if arguments.launcher == "slurm" else "stopped"
            print(f"{rest}; the same command goes on")
            return 128 + signal.SIGINT
    found = table()
    print(sweep_table.save(found, out, title=title, command=command))
    failed = [row.name for row in found if row.metrics is None]
    if len(read_costs(compared, file)) < len(compared):
        failed.append("costs")
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries again")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
