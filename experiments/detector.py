"""The detector stage for the programs: what its training and its evaluation consist of."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from data_pipeline.loader import Batches, canvases, detection_batches
from data_pipeline.schema import Dataset
from experiments.gallery import draw_pairs
from experiments.parts.experiment import DetectorExperiment
from g_rmi.detector.detector import Detector
from g_rmi.evaluation.results import box_results
from g_rmi.evaluation.truth import Truth, evaluate_boxes
from g_rmi.inference.dataset import FoundBoxes, detect_people
from g_rmi.training import hosts
from g_rmi.viz.draw import compare_boxes

BATCH_SIZE = 8  # Pictures per device and batch of an evaluation.


class Evaluation(NamedTuple):
    """What was found, in COCO's format, and COCO's twelve numbers."""

    found: FoundBoxes
    results: list[dict]
    metrics: dict[str, float]


def batches(experiment: DetectorExperiment, datasets: list[Dataset]) -> Batches:
    """The training pictures of this host."""
    return detection_batches(
        datasets,
        canvas=experiment.model.canvas,
        config=experiment.data,
        batch_size=experiment.train.batch_size // jax.process_count(),
        seed=experiment.train.seed,
        share=hosts.shard(),
    )


def find(
    task: Detector,
    variables: dict,
    dataset: Dataset,
    *,
    flip_test: bool = False,
    batch_size: int = BATCH_SIZE,
) -> FoundBoxes:
    """The people of every picture, by all devices of all hosts."""
    pictures = canvases(
        dataset,
        canvas=task.config.canvas,
        batch_size=batch_size * jax.local_device_count(),
        share=hosts.shard(),
    )
    return detect_people(task, variables, pictures, flip_test=flip_test)


def score(dataset: Dataset, truth: Truth, found: FoundBoxes) -> Evaluation:
    """Asks COCO's evaluation."""
    results = box_results(dataset.images.id[found.image], found.boxes, found.scores)
    return Evaluation(found, results, evaluate_boxes(truth, results))


def draw(dataset: Dataset, found: FoundBoxes, out: Path, *, count: int, min_score: float) -> None:
    """Draws annotated beside found boxes for the first pictures that have people, and a sheet."""
    people = dataset.people

    def compare_row(image: np.ndarray, row: int) -> np.ndarray:
        truth = people.box[(people.image == row) & ~people.is_crowd]
        shown = (found.image == row) & (found.scores >= min_score)
        return compare_boxes(image, truth, found.boxes[shown], found.scores[shown])

    draw_pairs(dataset, np.unique(people.image[~people.is_crowd])[:count], compare_row, out)
