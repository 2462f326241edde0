"""The stages: what each trains on, how it is evaluated, which number is best."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from data_pipeline.boxes import ground_truth_boxes
from data_pipeline.detection_examples import trainable_images
from data_pipeline.loader import Batches, detection_batches, parts_batches, pose_batches, trainable
from data_pipeline.parts_examples import parts_images
from data_pipeline.readers.coco import as_coco
from data_pipeline.schema import Dataset
from experiments.parts import evaluation, measure
from experiments.parts.experiment import (
    DetectorExperiment,
    Experiment,
    PartsExperiment,
    PoseExperiment,
)
from g_rmi.detector.detector import Detector
from g_rmi.evaluation.truth import Truth
from g_rmi.inference.dataset import make_detect, make_find, make_predict
from g_rmi.inference.settings import COUNTING
from g_rmi.parts.task import PartsTask
from g_rmi.pose.task import PoseTask
from g_rmi.training import hosts
from g_rmi.training.loop import Evaluate


class Stage(NamedTuple):
    """One kind of network and its training."""

    # The experiment and its training sets to this host's batches.
    batches: Callable[[Any, list[Dataset]], Batches]
    # The task and its validation set to what the loop calls between steps: COCO's numbers.
    validate: Callable[[Any, Dataset], Evaluate]
    # The experiment and a training set to how many examples there are in it.
    examples: Callable[[Any, Dataset], int]
    best_by: str  # The number by which the best checkpoint is kept.
    keypoints: bool  # The network is made for a keypoint set, which is saved beside its config.
    rows: int  # Of an evaluation's batch, for each device.
    prediction: Callable[[Any], Callable]  # The task to the function that an evaluation runs.
    # What `evaluate` computes, writes and prints.
    evaluate: Callable[[Any, dict, Dataset, evaluation.Arguments, Path], None]


def _reading(experiment: Experiment) -> dict[str, Any]:
    return {
        "config": experiment.data,
        "batch_size": experiment.train.batch_size // jax.process_count(),
        "seed": experiment.train.seed,
        "share": hosts.shard(),
    }


def _crops(experiment: PoseExperiment, datasets: list[Dataset]) -> Batches:
    size = experiment.model.crop_height, experiment.model.crop_width
    return pose_batches(datasets, height=size[0], width=size[1], **_reading(experiment))


def _canvases(experiment: DetectorExperiment, datasets: list[Dataset]) -> Batches:
    size = {"canvas": experiment.model.canvas, "squash": experiment.model.squash}
    return detection_batches(datasets, **size, **_reading(experiment))


def _announce(validation: Dataset) -> None:
    """Says why nothing happens for a while."""
    if hosts.is_first():
        print(f"evaluating {len(validation.images)} images ...", flush=True)


def _validate_poses(task: PoseTask, validation: Dataset) -> Evaluate:
    if task.skeleton.classes:
        sets = {name: validation.of_class(name) for name in task.skeleton.blocks}
        each = {
            name: _validate_poses(task.of_class(name), own)
            for name, own in sets.items()
            if own.people.has_joints.any()
        }
        return lambda variables, step: measure.mean_over_classes(
            {name: evaluate(variables, step) for name, evaluate in each.items()}
        )
    truth, boxes = Truth(as_coco(validation), validation.skeleton), ground_truth_boxes(validation)

    def evaluate(variables: dict, _: int) -> dict[str, float]:
        _announce(validation)
        people = measure.predict_poses(task, variables, validation, boxes, COUNTING.look)
        return measure.score_poses(truth, validation, boxes, people, COUNTING).metrics

    return evaluate


def _validate_boxes(task: Detector, validation: Dataset) -> Evaluate:
    sets = {name: validation.of_class(name) for name in task.classes} or {"": validation}
    truths = {name: Truth(as_coco(own), own.skeleton) for name, own in sets.items()}

    def evaluate(variables: dict, _: int) -> dict[str, float]:
        _announce(validation)
        found = measure.find_boxes(task, variables, validation)
        if not task.classes:
            return measure.score_boxes(validation, truths[""], found)[1]
        numbers = {
            name: measure.score_boxes(sets[name], truths[name], found.of_class(number))[1]
            for number, name in enumerate(task.classes)
        }
        return measure.mean_over_classes(numbers)

    return evaluate


def _whole(experiment: PartsExperiment, datasets: list[Dataset]) -> Batches:
    return parts_batches(datasets, canvas=experiment.model.canvas, **_reading(experiment))


def _validate_everybody(task: PartsTask, validation: Dataset) -> Evaluate:
    truth = Truth(as_coco(validation), validation.skeleton)

    def evaluate(variables: dict, _: int) -> dict[str, float]:
        _announce(validation)
        # The regressions that the other solvers ask are fitted in the end.
        boxes, people = measure.find_everybody(task, variables, validation, decoding="tree")
        return measure.score_poses(truth, validation, boxes, people, COUNTING).metrics

    return evaluate


STAGES = {
    "pose": Stage(
        batches=_crops,
        validate=_validate_poses,
        examples=lambda experiment, d: len(trainable(d, experiment.data.min_keypoints)),
        best_by="AP",
        keypoints=True,
        rows=measure.CROPS,
        prediction=lambda task: make_predict(task, COUNTING.look),
        evaluate=evaluation.evaluate_pose,
    ),
    "detector": Stage(
        batches=_canvases,
        validate=_validate_boxes,
        examples=lambda _, dataset: len(trainable_images(dataset)),
        best_by="box_AP",
        keypoints=False,
        rows=measure.PICTURES,
        prediction=make_detect,
        evaluate=evaluation.evaluate_detector,
    ),
    "parts": Stage(
        batches=_whole,
        validate=_validate_everybody,
        examples=lambda _, dataset: len(parts_images(dataset)),
        best_by="AP",
        keypoints=True,
        rows=measure.PICTURES,
        prediction=make_find,
        evaluate=evaluation.evaluate_parts,
    ),
}
