"""The detector stage for the programs: what its training and its evaluation consist of."""

from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import numpy as np

from data_pipeline.coco import as_coco
from data_pipeline.images import decode
from data_pipeline.loader import Batches, canvases, detection_batches
from data_pipeline.schema import Dataset
from experiments.parts.experiment import DetectorExperiment
from g_rmi.detector.task import DetectorTask
from g_rmi.evaluation import coco
from g_rmi.inference.dataset import FoundBoxes, detect_people
from g_rmi.training import hosts
from g_rmi.viz.draw import contact_sheet, draw_people

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
        **hosts.shard(),
    )


def evaluate(
    task: DetectorTask,
    variables: dict,
    dataset: Dataset,
    *,
    flip_test: bool = False,
    batch_size: int = BATCH_SIZE,
    backend: coco.Backend = "pycocotools",
) -> Evaluation:
    """Finds the people of every picture, on all devices of all hosts; asks COCO's evaluation."""
    pictures = canvases(
        dataset,
        canvas=task.config.canvas,
        batch_size=batch_size * jax.local_device_count(),
        **hosts.shard(),
    )
    found = detect_people(task, variables, pictures, flip_test=flip_test)
    results = coco.box_results(dataset.images.id[found.image], found.boxes, found.scores)
    metrics = coco.evaluate_boxes(as_coco(dataset), results, backend=backend)
    return Evaluation(found, results, metrics)


def draw(dataset: Dataset, found: FoundBoxes, out: Path, *, count: int, min_score: float) -> None:
    """Draws annotated beside found boxes for the first pictures that have people, and a sheet."""
    out.mkdir(parents=True, exist_ok=True)
    people, sheet = dataset.people, []
    for row in np.unique(people.image[~people.is_crowd])[:count]:
        image = decode(dataset.source.read(int(row)))
        truth = people.box[(people.image == row) & ~people.is_crowd]
        shown = np.flatnonzero((found.image == row) & (found.scores >= min_score))
        sides = [(truth, None), (found.boxes[shown], found.scores[shown])]
        pair = []
        for boxes, scores in sides:
            no_joints = np.zeros((len(boxes), len(dataset.skeleton), 2), np.float32)
            pair.append(
                draw_people(
                    image,
                    no_joints,
                    np.zeros(no_joints.shape[:2], np.float32),
                    scores,
                    boxes.astype(np.float32),
                    skeleton=dataset.skeleton,
                )
            )
        picture = contact_sheet(pair, columns=2, cell=image.shape[:2], titles=["truth", "found"])
        name = Path(dataset.images.file_name[row]).stem
        cv2.imwrite(str(out / f"{name}.jpg"), picture[..., ::-1])
        sheet.append(picture)
    if sheet:
        page = contact_sheet(sheet, columns=2, cell=(360, 960))
        cv2.imwrite(str(out / "contact_sheet.jpg"), page[..., ::-1])
