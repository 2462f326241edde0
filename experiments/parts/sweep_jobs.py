"""What the jobs of a sweep do: train once, find boxes once, evaluate points."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.boxes import ground_truth_boxes, read_boxes
from data_pipeline.readers.coco import as_coco
from experiments.parts import data, measure, training
from experiments.parts.experiment import Experiment, PartsExperiment, PoseExperiment, override
from experiments.parts.pairs import fit_pairs
from experiments.parts.points import Fields, Point, settings_of
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import flatten, to_dict
from g_rmi.detector.detector import Detector
from g_rmi.evaluation.results import box_results
from g_rmi.evaluation.truth import Truth, evaluate_boxes
from g_rmi.files import locked, write_whole
from g_rmi.inference.load import load_task
from g_rmi.parts.task import PartsTask, as_variables
from g_rmi.pose.task import PoseTask
from g_rmi.training.checkpoint import FREE_FIELDS
from g_rmi.training.writer import read_metrics

Json = dict[str, Any]

# Columns of points that ask for costs.
COST_METRICS = ("AP", "AP50", "PCK", "occluded_within", *measure.COSTS)
IMAGE_METRICS = ("AP", "AP50", "AP75", "APM", "APL", "ms_per_image")  # of a bottom-up network

_ALL_BOXES = 100  # of a picture, as COCO counts them
_COSMETIC = FREE_FIELDS - {"train.steps"}  # may change without another result


def digest(value: Any) -> str:
    """Eight digits that tell values apart."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def differences(experiment: Experiment, base: Experiment) -> str:
    """The changed fields as part of a file name: "radius_12.5"."""
    before = dict(flatten(to_dict(base)))
    changed = (
        f"{name.rpartition('.')[2]}_{'x'.join(map(str, v)) if isinstance(v, tuple) else v}"
        for name, v in flatten(to_dict(experiment))
        if v != before.get(name)  # another kind has other fields
    )
    return "_".join(changed)[:80]


@dataclasses.dataclass(frozen=True)
class Training:
    """A training that points share."""

    workdir: Path
    identity: Json  # What it results from.
    arguments: training.Arguments | None = None  # How it is made; None for one that was given.
    before: "Training | None" = None  # Whose weights it starts from.

    @classmethod
    def given(cls, workdir: Path) -> "Training":
        """A training of the user's, with its newest checkpoint."""
        steps = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
        workdir = workdir.resolve()
        return cls(workdir, {"workdir": str(workdir), "step": max(steps, default=0)})

    @classmethod
    def made(
        cls,
        arguments: training.Arguments,
        base: Experiment,
        folder: Path,
        before: "Training | None" = None,
    ) -> "Training":
        """A training of the sweep's, in a directory of its own below `folder`."""
        experiment = arguments.experiment
        fields = flatten(to_dict(experiment))
        identity = {
            "experiment": {name: value for name, value in fields if name not in _COSMETIC},
            "data": [str(path) for path in arguments.data],
            "pretrained": arguments.pretrained and str(arguments.pretrained),
        }
        if before:
            identity["init"] = before.identity
        parts = (experiment.stage, differences(experiment, base), digest(identity))
        workdir = folder / "_".join(part for part in parts if part)
        init = before.workdir if before else None
        arguments = dataclasses.replace(arguments, workdir=workdir, init=init)
        return cls(workdir, identity, arguments, before)

    @property
    def finished(self) -> bool:
        """Whether its last checkpoint is there."""
        if self.arguments is None:
            return True
        steps = self.arguments.experiment.train.steps
        return (self.workdir / "checkpoints" / str(steps)).is_dir()

    @property
    def minutes(self) -> float | None:
        """Time of its steps and those before, without compilation and evaluation.

        None if it has not begun.
        """
        metrics, config = self.workdir / "metrics.jsonl", self.workdir / "config.json"
        if not (metrics.is_file() and config.is_file()):
            return None
        batch_size = json.loads(config.read_text())["train"]["batch_size"]
        seconds, done = 0.0, 0
        for line in read_metrics(metrics):
            if rate := line.get("train/examples_per_second"):
                seconds += (line["step"] - done) * batch_size / rate
                done = line["step"]
        return seconds / 60 + ((self.before and self.before.minutes) or 0.0)


@dataclasses.dataclass(frozen=True)
class Run:
    """A point with what it needs."""

    point: Point
    directory: Path  # Gets config.json and metrics.json.
    pose: Training | None  # None if boxes alone count.
    boxes: tuple[Path, Training] | None  # The file, and who finds them; None for annotated ones.
    data: tuple[Path, ...]
    max_per_image: int
    detector: Any = None  # Settings of the detector that looks, where boxes alone count.
    crops: bool = True  # The network looks at crops, not at whole images.

    @property
    def identity(self) -> Json:
        """All that the numbers depend on."""
        values = {
            "pose": self.pose and self.pose.identity,
            "detector": self.boxes and self.boxes[1].identity,
            "max_per_image": self.pose and self.boxes and self.max_per_image,
            "settings": dataclasses.asdict(settings_of(self.point)),
            "averaged": self.point.averaged,
            "data": self.data,
        }
        if self.point.costs:
            values["costs"] = True
        for name in ("detector_test", "pose_test"):
            if fields := getattr(self.point, name):
                values[name] = dict(fields)
        return json.loads(json.dumps(values, default=str))  # as it comes back from its file

    @property
    def minutes(self) -> float | None:
        """Training time of what counts."""
        counts = self.pose or (self.boxes and self.boxes[1])
        return counts.minutes if counts else None

    @property
    def metrics(self) -> dict[str, float] | None:
        """The numbers of this very point; None if they are not there."""
        try:
            if json.loads((self.directory / "config.json").read_text()) != self.identity:
                return None
            return json.loads((self.directory / "metrics.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def save(self, metrics: dict[str, float]) -> None:
        """Writes both files, the numbers last."""
        (self.directory / "metrics.json").unlink(missing_ok=True)
        write_whole(self.directory / "config.json", json.dumps(self.identity, indent=2) + "\n")
        write_whole(self.directory / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def train_once(needed: Training) -> None:
    """Trains, or continues, unless it is done."""
    if needed.arguments is None or needed.finished:
        return
    if needed.before:
        train_once(needed.before)
    with locked(needed.workdir, wait=True):
        if not needed.finished:
            training.run(needed.arguments)


def test_task(task: Any, fields: Fields) -> Detector:
    """A detector with fields that differ only when it finds boxes, {"model.proposals": 50}."""
    changes = {name.removeprefix("model."): value for name, value in fields.items()}
    return dataclasses.replace(task.config, **changes).task()


def find_boxes(detector: Training, directories: Sequence[Path], file: Path, fields: Fields) -> None:
    """Trains a detector unless it is done; writes the boxes it finds in the validation set.

    `fields` of its config, {"model.proposals": 50}, are others for that than in training.
    """
    train_once(detector)
    enable_compilation_cache()
    task, variables = load_task(detector.workdir, stage="detector")
    task = test_task(task, fields)
    dataset, *_ = data.read_split(directories, "val")
    found = measure.find_boxes(task, variables, dataset)
    results = box_results(dataset.images.id[found.image], found.boxes, found.scores)
    write_whole(file, json.dumps(results))


def evaluate_points(runs: Sequence[Run]) -> None:
    """Evaluates points that differ in nothing but the settings."""
    enable_compilation_cache()
    first = runs[0]
    dataset, *_ = data.read_split(first.data, "val")
    if first.boxes:
        most = first.max_per_image if first.pose else _ALL_BOXES
        boxes = read_boxes(first.boxes[0], dataset, max_per_image=most)
    else:
        boxes = ground_truth_boxes(dataset)
    truth = Truth(as_coco(dataset), dataset.skeleton)
    found = box_results(dataset.images.id[boxes.image], boxes.box, boxes.score)
    box_metrics = evaluate_boxes(truth, found)
    if first.pose is None:
        for run in runs:
            run.save(box_metrics)
            print(f"{run.point.name}: box AP {box_metrics['box_AP']:.3f}", flush=True)
        return
    task, variables = load_task(first.pose.workdir, average=first.point.averaged)
    # As an experiment's, for fields to be checked as they were when the points were made.
    if isinstance(task, PartsTask):
        changed = override(PartsExperiment(model=task.config), first.point.pose_test).model
        refit = changed.decoding.features != task.config.decoding.features
        task = dataclasses.replace(task, config=changed)
        if refit:
            pairs = fit_pairs(task, variables, data.read_split(first.data, "train"))
            variables = {**variables, "pairs": as_variables(pairs)}
        for run in runs:
            metrics = measure.everybody(task, variables, dataset, truth)
            run.save(metrics)
            print(f"{run.point.name}: AP {metrics['AP']:.3f}", flush=True)
        return
    assert isinstance(task, PoseTask)
    changed = override(PoseExperiment(model=task.config), first.point.pose_test)
    task = dataclasses.replace(task, config=changed.model)
    variants = [settings_of(run.point) for run in runs]
    evaluations = measure.evaluate_each(task, variables, dataset, truth, boxes, variants)
    for run, evaluation in zip(runs, evaluations):
        metrics = {**evaluation.metrics, **box_metrics}
        if run.point.costs:
            metrics |= measure.joint_numbers(truth, evaluation.results)
            metrics |= {"PCK": -1.0} | measure.correct_keypoints(
                truth, dataset, boxes, evaluation.people
            )
            metrics |= measure.crop_costs(task, variables, settings_of(run.point).look)
        run.save(metrics)
        print(f"{run.point.name}: AP {evaluation.metrics['AP']:.3f}", flush=True)
