"""Networks over data sets, and COCO's numbers for what they find."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from data_pipeline.boxes import PersonBoxes
from data_pipeline.loader import box_crops, canvases
from data_pipeline.schema import Dataset
from g_rmi.detector.detector import Detector
from g_rmi.evaluation.keypoint_table import keypoint_table
from g_rmi.evaluation.pck import evaluate_pck, evaluate_pckh
from g_rmi.evaluation.results import Result, box_results, keypoint_results
from g_rmi.evaluation.truth import Truth, evaluate_boxes, evaluate_keypoints
from g_rmi.inference.dataset import (
    FoundBoxes,
    detect_people,
    make_find,
    make_predict,
    predict_boxes,
)
from g_rmi.inference.dataset import find_everybody as dataset_people
from g_rmi.inference.people import turned_views
from g_rmi.inference.rank import rank_images
from g_rmi.inference.settings import COUNTING, Look, Settings
from g_rmi.parts.task import PartsTask
from g_rmi.pose.heads.head import needs_truth
from g_rmi.pose.task import PoseTask
from g_rmi.training import hosts
from g_rmi.types import People

CROPS, PICTURES = 32, 8  # Rows of a batch for each device.
COSTS = ("ms_per_crop", "GFLOPs", "Mparameters")


class PoseEvaluation(NamedTuple):
    """Predictions for every box, who of them stays, and COCO's numbers."""

    people: People
    scores: Float[np.ndarray, " N"]
    keep: Bool[np.ndarray, " N"]
    results: list[dict]
    metrics: dict[str, float]


def mean_over_classes(numbers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The numbers of some classes, "horse/AP", and their means, "AP", as COCO takes them.

    A class in which there is nobody to find, whose number is -1, is left out of a mean.
    """
    names = dict.fromkeys(name for each in numbers.values() for name in each)
    found = {n: [each[n] for each in numbers.values() if each.get(n, -1) != -1] for n in names}
    means = {name: float(np.mean(values)) if values else -1.0 for name, values in found.items()}
    own = {f"{c}/{name}": value for c, each in numbers.items() for name, value in each.items()}
    return means | own


def predict_poses(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    boxes: PersonBoxes,
    look: Look,
    *,
    batch_size: int = CROPS,
) -> People:
    """A pose for every box, in image pixels, by all devices of all hosts."""
    batches = box_crops(
        dataset,
        boxes,
        height=task.config.crop_height,
        width=task.config.crop_width,
        box_scale=task.config.box_scale,
        turns=turned_views(task.config, look),
        joints=needs_truth(task.config.head),
        batch_size=batch_size * jax.local_device_count(),
        share=hosts.shard(),
    )
    return predict_boxes(task, variables, batches, boxes.box, look)


def score_poses(
    truth: Truth, dataset: Dataset, boxes: PersonBoxes, people: People, settings: Settings
) -> PoseEvaluation:
    """Ranks the people, drops duplicates, and asks COCO's evaluation."""
    image_ids = dataset.images.id[boxes.image]
    scores, keep = rank_images(
        people, image_ids, boxes.score, sigmas=truth.skeleton.sigmas, settings=settings
    )
    kept = people[keep]
    columns = kept.keypoints, kept.keypoint_scores, scores[keep], kept.visibility
    results = keypoint_results(image_ids[keep], *columns)
    return PoseEvaluation(people, scores, keep, results, evaluate_keypoints(truth, results))


def evaluate_each(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    truth: Truth,
    boxes: PersonBoxes,
    variants: Iterable[Settings],
    *,
    batch_size: int = CROPS,
) -> Iterator[PoseEvaluation]:
    """Evaluates each of some settings; those that look alike share their predictions."""
    predicted: dict[Look, People] = {}
    for settings in variants:
        look = settings.look
        if look not in predicted:
            predicted[look] = predict_poses(
                task, variables, dataset, boxes, look, batch_size=batch_size
            )
        yield score_poses(truth, dataset, boxes, predicted[look], settings)


def correct_keypoints(
    truth: Truth, dataset: Dataset, boxes: PersonBoxes, people: People
) -> dict[str, float]:
    """PCK@.2 of the torso, PCKh@.5 of the head; needs a box for every labelled person.

    The first for skeletons that have a torso, the second for data that have boxes of heads.
    """
    found, numbers = (truth, dataset.people.id[boxes.person], people.keypoints), {}
    if {"left_shoulder", "left_hip"} <= set(truth.skeleton.names):
        numbers = evaluate_pck(*found).numbers(truth.skeleton)
    if dataset.head_boxes:
        heads = evaluate_pckh(*found, dataset.head_boxes)
        numbers |= heads.numbers(truth.skeleton, name="PCKh")
    return numbers


def joint_numbers(truth: Truth, results: list[Result]) -> dict[str, float]:
    """AP_<joint> of each, and the share of all hidden joints that are found (see `KeypointRow`)."""
    *joints, whole = keypoint_table(truth, results)
    return {f"AP_{row.name}": row.ap for row in joints} | {"occluded_within": whole.occluded_within}


def crop_costs(task: PoseTask, variables: dict, look: Look) -> dict[str, float]:
    """What a crop costs, `COSTS`.

    Milliseconds from crop to pose on this machine, in batches of 8, the median of five; GFLOPs of
    the network by XLA's count, a multiply-add as two; and millions of parameters, also of what only
    training uses.
    """
    rows, views = 8, len(turned_views(task.config, look))
    shape = (1 + views, *task.grid, 3) if views else (*task.grid, 3)
    random = np.random.default_rng(0)
    batch = {
        "image": random.integers(0, 256, (rows, *shape), np.uint8),
        "box": np.tile(np.array([0, 0, *task.grid[::-1]], np.float32), (rows, 1)),
    }
    run = jax.jit(make_predict(task, look))
    seconds = []
    for _ in range(6):  # the first compiles
        begin = time.perf_counter()
        jax.block_until_ready(run(variables, batch))
        seconds.append(time.perf_counter() - begin)
    one = jax.ShapeDtypeStruct((1, *task.grid, 3), np.uint8)
    cost: Any = jax.jit(task.predict).lower(variables, one).cost_analysis()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    values = 1e3 * float(np.median(seconds[1:])) / rows, cost["flops"] / 1e9, parameters / 1e6
    return dict(zip(COSTS, values))


def find_boxes(
    task: Detector,
    variables: dict,
    dataset: Dataset,
    *,
    flip_test: bool = False,
    batch_size: int = PICTURES,
) -> FoundBoxes:
    """The people of every picture, by all devices of all hosts."""
    pictures = canvases(
        dataset,
        canvas=task.config.canvas,
        squash=task.config.squash,
        batch_size=batch_size * jax.local_device_count(),
        share=hosts.shard(),
    )
    return detect_people(task, variables, pictures, flip_test=flip_test)


def find_everybody(
    task: PartsTask,
    variables: dict,
    dataset: Dataset,
    *,
    decoding: str | None = None,
    batch_size: int = PICTURES,
) -> tuple[PersonBoxes, People]:
    """The people of every picture, bottom-up, and the hulls of their joints, by all devices."""
    pictures = canvases(
        dataset,
        canvas=task.config.canvas,
        batch_size=batch_size * jax.local_device_count(),
        share=hosts.shard(),
    )
    image, people = dataset_people(task, variables, pictures, decoding=decoding)
    nobody = np.full(len(image), -1, np.int64)
    boxes, scores = (column.astype(np.float64) for column in (people.boxes, people.scores))
    return PersonBoxes(image, boxes, scores, nobody), people


def everybody(task: PartsTask, variables: dict, dataset: Dataset, truth: Truth) -> dict[str, float]:
    """COCO's numbers of the people of every picture, bottom-up, and `ms_per_image`.

    Milliseconds of one picture at a time on this machine, from its canvas to its people: the median
    of the first 24 pictures of the more frequent orientation, compilation left out.
    """
    boxes, people = find_everybody(task, variables, dataset)
    metrics = score_poses(truth, dataset, boxes, people, COUNTING).metrics
    run = jax.jit(make_find(task))
    seconds: dict[tuple[int, ...], list[float]] = {}
    for batch in itertools.islice(canvases(dataset, canvas=task.config.canvas, batch_size=1), 48):
        begin = time.perf_counter()
        jax.block_until_ready(run(variables, batch))
        seconds.setdefault(batch["image"].shape, []).append(time.perf_counter() - begin)
    _, *warm = max(seconds.values(), key=len)
    return metrics | {"ms_per_image": 1e3 * float(np.median(warm[:24]))}


def score_boxes(
    dataset: Dataset, truth: Truth, found: FoundBoxes
) -> tuple[list[Result], dict[str, float]]:
    """What was found, in COCO's format, and COCO's twelve numbers."""
    results = box_results(dataset.images.id[found.image], found.boxes, found.scores)
    return results, evaluate_boxes(truth, results)
