"""The pose stage for the programs: what its training and its evaluation consist of."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from data_pipeline.boxes import PersonBoxes
from data_pipeline.loader import Batches, box_crops, pose_batches
from data_pipeline.schema import Dataset
from experiments.gallery import draw_pairs
from experiments.parts.experiment import PoseExperiment
from g_rmi.evaluation.pck import evaluate_pck
from g_rmi.evaluation.results import keypoint_results
from g_rmi.evaluation.truth import Truth, evaluate_keypoints
from g_rmi.inference.dataset import predict_boxes
from g_rmi.inference.people import turned_views
from g_rmi.inference.rank import rank_images
from g_rmi.inference.settings import Look, Settings
from g_rmi.pose.task import PoseTask
from g_rmi.training import hosts
from g_rmi.types import People
from g_rmi.viz.draw import compare

BATCH_SIZE = 32  # Crops per device and batch of an evaluation.


class Evaluation(NamedTuple):
    """Predictions for every box, who of them stays, and COCO's numbers."""

    people: People
    scores: Float[np.ndarray, " N"]
    keep: Bool[np.ndarray, " N"]
    results: list[dict]
    metrics: dict[str, float]


def batches(experiment: PoseExperiment, datasets: list[Dataset]) -> Batches:
    """The training crops of this host."""
    return pose_batches(
        datasets,
        height=experiment.model.crop_height,
        width=experiment.model.crop_width,
        config=experiment.data,
        batch_size=experiment.train.batch_size // jax.process_count(),
        seed=experiment.train.seed,
        share=hosts.shard(),
    )


def predict(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    boxes: PersonBoxes,
    look: Look,
    *,
    batch_size: int = BATCH_SIZE,
) -> People:
    """A pose for every box, in image pixels, by all devices of all hosts."""
    batches = box_crops(
        dataset,
        boxes,
        height=task.config.crop_height,
        width=task.config.crop_width,
        box_scale=task.config.box_scale,
        turns=turned_views(task.config, look),
        batch_size=batch_size * jax.local_device_count(),
        share=hosts.shard(),
    )
    return predict_boxes(task, variables, batches, boxes.box, look)


def score(
    truth: Truth, dataset: Dataset, boxes: PersonBoxes, people: People, settings: Settings
) -> Evaluation:
    """Ranks the people, drops duplicates, and asks COCO's evaluation."""
    image_ids = dataset.images.id[boxes.image]
    scores, keep = rank_images(
        people, image_ids, boxes.score, sigmas=truth.skeleton.sigmas, settings=settings
    )
    results = keypoint_results(
        image_ids[keep], people.keypoints[keep], people.keypoint_scores[keep], scores[keep]
    )
    return Evaluation(people, scores, keep, results, evaluate_keypoints(truth, results))


def evaluate_each(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    truth: Truth,
    boxes: PersonBoxes,
    variants: Iterable[Settings],
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Evaluation]:
    """Evaluates each of some settings; those that look alike share their predictions."""
    predicted: dict[Look, People] = {}
    for settings in variants:
        look = settings.look
        if look not in predicted:
            predicted[look] = predict(task, variables, dataset, boxes, look, batch_size=batch_size)
        yield score(truth, dataset, boxes, predicted[look], settings)


def draw(
    dataset: Dataset,
    boxes: PersonBoxes,
    evaluation: Evaluation,
    out: Path,
    *,
    count: int,
    min_keypoint_score: float,
) -> None:
    """Draws truth beside prediction for the first pictures that have people, and one sheet."""
    labelled = dataset.people.take(np.flatnonzero(dataset.people.has_joints))

    def compare_row(image: np.ndarray, row: int) -> np.ndarray:
        people = labelled.take(np.flatnonzero(labelled.image == row))
        shown = np.flatnonzero((boxes.image == row) & evaluation.keep)
        return compare(
            image,
            people.keypoints,
            people.visibility,
            evaluation.people.keypoints[shown],
            evaluation.people.keypoint_scores[shown],
            evaluation.scores[shown],
            skeleton=dataset.skeleton,
            min_score=min_keypoint_score,
        )

    draw_pairs(dataset, np.unique(boxes.image)[:count], compare_row, out)


def torso_pck(
    truth: Truth, dataset: Dataset, boxes: PersonBoxes, people: People
) -> dict[str, float]:
    """PCK@.2 of the torso, for skeletons that have one; needs a box for every labelled person."""
    if not {"left_shoulder", "left_hip"} <= set(truth.skeleton.names):
        return {}
    counts = evaluate_pck(truth, dataset.people.id[boxes.person], people.keypoints)
    return counts.numbers(truth.skeleton)
