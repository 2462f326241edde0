"""Evaluates a training: `python -m experiments.evaluate --workdir DIR [--data DIR]`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float
from rich import box
from rich.console import Console
from rich.table import Table

from data_pipeline.boxes import PersonBoxes, ground_truth_boxes, read_boxes
from data_pipeline.coco import as_coco
from data_pipeline.images import decode
from data_pipeline.loader import box_crops
from data_pipeline.schema import Dataset
from experiments import cli, data
from g_rmi import config
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.evaluation import coco
from g_rmi.evaluation.evaluator import Decoding, predict_boxes, rank_and_suppress
from g_rmi.evaluation.keypoint_table import format_table, keypoint_table
from g_rmi.evaluation.pck import evaluate_pck
from g_rmi.pose.task import PoseTask
from g_rmi.training.checkpoint import load_variables
from g_rmi.types import People
from g_rmi.viz.draw import compare, contact_sheet


class Evaluation(NamedTuple):
    """Predictions for every box, who of them stays, and COCO's numbers."""

    people: People
    scores: Float[np.ndarray, " N"]
    keep: Bool[np.ndarray, " N"]
    results: list[dict]
    metrics: dict[str, float]


def load_task(workdir: Path) -> tuple[PoseTask, dict]:
    """The task and the evaluation weights of a training.

    Raises:
      ValueError: Not a work directory, or its config is not one of this version.
    """
    values, variables = load_variables(workdir)
    experiment = config.from_dict(config.PoseExperiment, values)
    return PoseTask(experiment.model), variables


def predict(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    boxes: PersonBoxes,
    decoding: Decoding,
    *,
    batch_size: int = 32,
) -> People:
    """A pose for every box, in image pixels."""
    batches = box_crops(
        dataset,
        boxes,
        height=task.config.crop_height,
        width=task.config.crop_width,
        box_scale=task.config.box_scale,
        batch_size=batch_size,
    )
    return predict_boxes(task, variables, batches, boxes.box, decoding)


def score(
    task: PoseTask, dataset: Dataset, boxes: PersonBoxes, people: People, decoding: Decoding
) -> Evaluation:
    """Ranks the people, drops duplicates, and asks COCO's evaluation."""
    image_ids = dataset.images.id[boxes.image]
    scores, keep = rank_and_suppress(
        people,
        image_ids,
        boxes.score,
        sigmas=task.skeleton.sigmas,
        decoding=decoding,
    )
    results = coco.keypoint_results(
        image_ids[keep], people.keypoints[keep], people.keypoint_scores[keep], scores[keep]
    )
    metrics = coco.evaluate_keypoints(as_coco(dataset), results, skeleton=task.skeleton)
    return Evaluation(people, scores, keep, results, metrics)


def options_table(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    boxes: PersonBoxes,
    decoding: Decoding,
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """COCO's numbers with one option at a time changed from `decoding`."""
    changes: list[dict[str, Any]] = [
        {},
        {"method": "argmax"},
        {"method": "argmax_offset"},
        {"method": "hough"},
        {"refine": not decoding.refine},
        {"flip_test": not decoding.flip_test},
        {"score": "pose"},
        {"score": "box"},
        {"score": "product"},
        *({"oks_threshold": threshold} for threshold in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)),
    ]
    rows, predicted = {}, {}
    for change in changes:
        variant = dataclasses.replace(decoding, **change)
        off_grid = variant.method == "argmax_offset" and variant.refine  # nothing to refine
        if off_grid or (change and variant == decoding):
            continue
        network = (variant.method, variant.refine, variant.flip_test)
        if network not in predicted:
            predicted[network] = predict(
                task, variables, dataset, boxes, variant, batch_size=batch_size
            )
        name = ", ".join(f"{k} = {v}" for k, v in change.items()) or "as given"
        rows[name] = score(task, dataset, boxes, predicted[network], variant).metrics
    return rows


def draw(
    dataset: Dataset,
    boxes: PersonBoxes,
    evaluation: Evaluation,
    out: Path,
    *,
    count: int,
    min_joint_score: float,
) -> None:
    """Draws truth beside prediction for the first pictures that have people, and one sheet."""
    out.mkdir(parents=True, exist_ok=True)
    sheet = []
    for row in np.unique(boxes.image)[:count]:
        image = decode(dataset.source.read(int(row)))
        people = dataset.people
        labelled = ~people.is_crowd & (people.num_keypoints > 0) & (people.image == row)
        people = people.take(np.flatnonzero(labelled))
        shown = np.flatnonzero((boxes.image == row) & evaluation.keep)
        picture = compare(
            image,
            people.keypoints,
            people.visibility,
            evaluation.people.keypoints[shown],
            evaluation.people.keypoint_scores[shown],
            evaluation.scores[shown],
            skeleton=dataset.skeleton,
            min_score=min_joint_score,
        )
        name = Path(dataset.images.file_name[row]).stem
        cv2.imwrite(str(out / f"{name}.jpg"), picture[..., ::-1])
        sheet.append(picture)
    if sheet:
        page = contact_sheet(sheet, columns=2, cell=(360, 960))
        cv2.imwrite(str(out / "contact_sheet.jpg"), page[..., ::-1])


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Evaluates the newest checkpoint of a training.

    Writes metrics.json, keypoints.json (COCO's results format) and drawn pictures.

    Attributes:
      workdir: Directory of the training.
      data: Data directory; the embedded synthetic set without it.
      split: Which split of it.
      boxes: "gt", or a file of person boxes in COCO's results format.
      min_score: Boxes of the file that score lower are left out.
      max_per_image: Best boxes of each picture that are kept.
      out: Where the results go. Default: WORKDIR/evaluation.
      table: Also evaluate with each option changed, one row each.
      pictures: Pictures to draw.
      min_joint_score: Joints that score lower are not drawn. Few votes meet in a short training.
      batch_size: Crops per batch.
      decoding: How maps become people.
    """

    workdir: Path
    data: Path | None = None
    split: str = "val"
    boxes: str = "gt"
    min_score: float = 0.0
    max_per_image: int = 30
    out: Path | None = None
    table: bool = False
    pictures: int = 12
    min_joint_score: float = 0.02
    batch_size: int = 32
    decoding: Decoding = Decoding()


def read_box_source(arguments: Arguments, dataset: Dataset) -> PersonBoxes:
    """The boxes that `--boxes` names."""
    if arguments.boxes == "gt":
        return ground_truth_boxes(dataset)
    return read_boxes(
        arguments.boxes,
        dataset,
        min_score=arguments.min_score,
        max_per_image=arguments.max_per_image,
    )


def torso_pck(
    task: PoseTask, dataset: Dataset, boxes: PersonBoxes, people: People
) -> dict[str, float]:
    """PCK@.2 of the torso, for skeletons that have one; needs a box for every labelled person."""
    if not {"left_shoulder", "left_hip"} <= set(task.skeleton.names):
        return {}
    counts = evaluate_pck(
        as_coco(dataset),
        dataset.people.id[boxes.person],
        people.keypoints,
        skeleton=task.skeleton,
    )
    return counts.numbers(task.skeleton)


def describe_boxes(source: str, metrics: dict[str, float]) -> str:
    """One line on the boxes that the poses were found in."""
    line = f"{metrics['boxes']} boxes ({source}), person box_AP {metrics['box_AP']:.3f}"
    if "PCK" in metrics:
        line += (
            f"; PCK@.2 of the torso {metrics['PCK']:.3f} over {metrics['PCK_people']:.0f} people"
        )
    return line


def show(rows: dict[str, dict[str, float]], title: str) -> None:
    """Prints COCO's ten numbers, one row per name."""
    table = Table("", *coco.KEYPOINT_METRICS, title=title, title_justify="left", box=box.SIMPLE)
    for name, metrics in rows.items():
        table.add_row(name, *(f"{metrics[column]:.3f}" for column in coco.KEYPOINT_METRICS))
    Console(width=max(Console().width, 110)).print(table)  # cut lines are worse than long ones


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = tyro.cli(
        Arguments,
        args=argv,
        prog="python -m experiments.evaluate",
        description=Arguments.__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    enable_compilation_cache()
    task, variables = load_task(arguments.workdir)
    directories = data.directories([arguments.data] if arguments.data else [])
    (dataset,) = data.read_split(directories, arguments.split)
    boxes = read_box_source(arguments, dataset)
    people = predict(
        task, variables, dataset, boxes, arguments.decoding, batch_size=arguments.batch_size
    )
    evaluation = score(task, dataset, boxes, people, arguments.decoding)
    image_ids = dataset.images.id[boxes.image]
    found = coco.box_results(image_ids, boxes.box, boxes.score)
    box_metrics = coco.evaluate_boxes(as_coco(dataset), found)
    metrics = {**evaluation.metrics, **box_metrics, "boxes": len(boxes)}
    if arguments.boxes == "gt":
        metrics |= torso_pck(task, dataset, boxes, people)
    out = arguments.out or arguments.workdir / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    coco.write_results(out / "keypoints.json", evaluation.results)
    coco.write_results(out / "boxes.json", found)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    truth = as_coco(dataset)
    joints = keypoint_table(truth, evaluation.results, skeleton=task.skeleton)
    (out / "joints.md").write_text(format_table(joints))
    draw(
        dataset,
        boxes,
        evaluation,
        out / "pictures",
        count=arguments.pictures,
        min_joint_score=arguments.min_joint_score,
    )
    rows = {f"boxes: {arguments.boxes}": metrics}
    if arguments.table:
        rows = options_table(
            task, variables, dataset, boxes, arguments.decoding, arguments.batch_size
        )
        (out / "options.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(format_table(joints))
    title = f"{arguments.workdir} on {dataset.directory}, {dataset.split}"
    show(rows, title)
    print(describe_boxes(arguments.boxes, metrics))
    print(f"wrote metrics.json, keypoints.json, boxes.json, joints.md and pictures/ to {out}")


if __name__ == "__main__":
    cli.run(main)
