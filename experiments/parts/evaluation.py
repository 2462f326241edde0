"""What `evaluate` computes, writes and prints, for either stage."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_pipeline.boxes import PersonBoxes, best_boxes, ground_truth_boxes, read_boxes
from data_pipeline.readers.coco import as_coco
from data_pipeline.schema import Dataset
from experiments.parts import measure, variants
from experiments.parts.gallery import Evaluated, draw_boxes, draw_poses
from experiments.parts.report import detector_page, joint_cells, pose_page
from g_rmi.config import require_numbers
from g_rmi.detector.detector import Detector
from g_rmi.evaluation.crowding import by_crowding
from g_rmi.evaluation.keypoint_table import KeypointRow, keypoint_table
from g_rmi.evaluation.results import Result, box_results, write_results
from g_rmi.evaluation.thresholds import ThresholdRow, thresholds
from g_rmi.evaluation.truth import BOX_METRICS, KEYPOINT_METRICS, Backend, Truth, evaluate_boxes
from g_rmi.evaluation.visibility_table import VisibilityRow, visibility_table
from g_rmi.files import write_whole
from g_rmi.geometry import to_xywh
from g_rmi.inference.dataset import FoundBoxes
from g_rmi.inference.load import load_task
from g_rmi.inference.people import refuse_crop_settings
from g_rmi.inference.settings import COUNTING, Settings
from g_rmi.parts.task import PartsTask
from g_rmi.pose.heads.head import decodings
from g_rmi.pose.task import PoseTask
from g_rmi.training.hosts import Hosts, is_first
from g_rmi.training.weights import read_config
from g_rmi.viz.table import markdown, number_rows, show


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Evaluates a checkpoint of a detector, a pose or a bottom-up network on labelled images.

    Writes metrics.json, boxes.json and keypoints.json (COCO's results format) and drawings; with
    detected boxes also thresholds.md: how many people are right, false and missed from each score
    on. Runs on all devices.
    """

    workdir: Path  # Work directory of a training, or a weights file.
    # "latest", "best" (by the AP or box_AP of the evaluations during training), or a step.
    checkpoint: str = "latest"
    # Data directory; of several, the first that has the split. Default: the synthetic set.
    data: tuple[Path, ...] = ()
    split: str = "val"  # Split of the data set.
    # Boxes for the pose network: "gt" (the annotated ones), "detector", or a file in COCO's results
    # format, such as the detector's boxes.json.
    boxes: str = "gt"
    # The detector's work directory or weights file, for `--boxes detector`.
    detector: Path | None = None
    # Where the results go. Default: WORKDIR/evaluation; a weights file has none.
    out: Path | None = None
    # Repeat with each decoding option changed in turn, and with every combination of boxes (these
    # and the annotated ones), score and suppression: options.md, options.json.
    table: bool = False
    pictures: int = 12  # Number of images to draw.
    # Joints scoring lower are not drawn. Default: .3 where scores are an expected OKS, else .02.
    min_keypoint_score: float | None = None
    min_drawn_score: float = 0.5  # Detected boxes scoring lower are not drawn.
    # Crops or images per batch and device. Default: 32 crops, 8 images.
    batch_size: int | None = None
    # Also write report.html: numbers, curves, errors, images, training, config.
    report: bool = False
    # What computes COCO's numbers: pycocotools, or hotcoco if installed.
    coco_backend: Backend = "pycocotools"
    # "auto" detects srun and mpirun; "all" joins the hosts of a Kubernetes or TPU job, each of
    # which runs this command; "one" works alone. The first host writes.
    hosts: Hosts = "auto"
    # How people are found. Default: as stored in the weights, but without score thresholds, because
    # AP counts doubtful people, too.
    settings: Settings = COUNTING

    def __post_init__(self):
        require_numbers(self, 0, None, "pictures", "min_keypoint_score")
        require_numbers(self, 0, 1, "min_drawn_score")
        require_numbers(self, 1, None, "batch_size")


def detected(
    arguments: Arguments, dataset: Dataset, classes: Sequence[str]
) -> dict[str, FoundBoxes] | None:
    """What the detector of `--boxes detector` finds, by class; None: it is not asked.

    Raises:
      ValueError: It does not find these classes, or it and the option do not go together.
    """
    if (arguments.boxes == "detector") != bool(arguments.detector):
        raise ValueError("--boxes detector and --detector DIR go together")
    if not arguments.detector:
        return None
    task, variables = load_task(arguments.detector, stage="detector")
    assert not isinstance(task, PoseTask | PartsTask)
    if missing := {*classes} ^ {*task.classes}:
        raise ValueError(
            f"--detector {arguments.detector} finds {', '.join(task.classes) or 'people alone'}: "
            f"{min(missing)!r} is on one side only"
        )
    found = measure.find_boxes(task, variables, dataset, flip_test=arguments.settings.flip_test)
    return {name: found.of_class(i) for i, name in enumerate(task.classes)} or {"": found}


def read_box_source(
    arguments: Arguments, dataset: Dataset, found: FoundBoxes | None, *, only: bool
) -> PersonBoxes:
    """The boxes that `--boxes` names: those found, if there are such; else `only` of its class."""
    settings = arguments.settings
    if arguments.boxes == "gt":
        return ground_truth_boxes(dataset)
    least, most = settings.min_box_score, settings.max_people
    if found is None:
        limits = {"min_score": least, "max_per_image": most}
        own = dataset.categories if only else frozenset()
        boxes = read_boxes(arguments.boxes, dataset, **limits, only=own)
        if boxes.note and is_first():
            print(f"note: {arguments.boxes}: {boxes.note}")
        if not len(boxes):
            raise ValueError(f"--boxes {arguments.boxes}: no box to look into")
        return boxes
    return best_boxes(*found[:3], min_score=least, max_per_image=most)


def evaluate_classes(
    dataset: Dataset, out: Path, columns: Sequence[str], each: Callable[[str, Dataset, Path], None]
) -> None:
    """Evaluates class by class into a directory of each, as if there were no other.

    Then writes the numbers of all and their means, and what was found, under the ids of the data
    set's categories.
    """
    numbers: dict[str, dict[str, float]] = {}
    results: dict[str, list[Result]] = {"keypoints.json": [], "boxes.json": []}
    for one in dataset.skeleton.classes:
        own, folder = dataset.of_class(one.name), out / one.name
        if not own.people.has_box.any():
            if is_first():
                print(f"note: no {one.name} in {dataset.directory}, {dataset.split}")
            continue
        if is_first():
            print(f"{one.name}:")
        each(one.name, own, folder)
        if is_first():
            numbers[one.name] = json.loads((folder / "metrics.json").read_text())
            category = {"category_id": one.id, "category_name": one.name}
            for file in (name for name in results if (folder / name).is_file()):
                found = json.loads((folder / file).read_text())
                results[file] += [entry | category for entry in found]
    if not is_first():
        return
    metrics = measure.mean_over_classes(numbers)
    write_json(out / "metrics.json", metrics)
    for file, entries in results.items():
        if entries:
            write_results(out / file, entries)
    rows = {**numbers, "mean": metrics}
    show_numbers(rows, columns, f"{dataset.directory}, {dataset.split}: by class")
    print(f"wrote the numbers of all classes, and a directory for each, to {out}")


def evaluate_detector(
    task: Detector, variables: dict, dataset: Dataset, arguments: Arguments, out: Path
) -> None:
    """Finds people, writes what was found, prints COCO's twelve numbers, of each class."""
    refuse_pose_options(arguments)
    if (ours := list(dataset.skeleton.blocks)) != list(task.classes):
        raise ValueError(f"{dataset.directory} has {ours}, not {task.classes}")
    found = measure.find_boxes(
        task,
        variables,
        dataset,
        flip_test=arguments.settings.flip_test,
        batch_size=arguments.batch_size or measure.PICTURES,
    )
    if not task.classes:
        return report_boxes(dataset, found, arguments, out)
    by_class = {name: found.of_class(number) for number, name in enumerate(task.classes)}

    def each(name: str, own: Dataset, folder: Path) -> None:
        report_boxes(own, by_class[name], arguments, folder)

    return evaluate_classes(dataset, out, BOX_METRICS, each)


def report_boxes(dataset: Dataset, found: FoundBoxes, arguments: Arguments, out: Path) -> None:
    """Writes boxes that were found and drawings, prints COCO's numbers."""
    truth = Truth(as_coco(dataset), dataset.skeleton, arguments.coco_backend)
    results, metrics = measure.score_boxes(dataset, truth, found)
    if not is_first():
        return
    write_results(out / "boxes.json", results)
    least = arguments.min_drawn_score
    draw_boxes(dataset, found, out / "pictures", count=arguments.pictures, min_score=least)
    show_numbers({"person boxes": metrics}, BOX_METRICS, title_of(arguments, dataset))
    evaluated = evaluated_by(
        arguments,
        dataset=dataset,
        truth=truth,
        results=results,
        metrics=metrics,
        summary=f"{len(results)} boxes in {len(dataset.images)} pictures",
    )
    finish(evaluated, out, ["boxes.json"], detector_page if arguments.report else None)


def evaluate_pose(
    task: PoseTask, variables: dict, dataset: Dataset, arguments: Arguments, out: Path
) -> None:
    """Finds poses in boxes, writes them, prints COCO's ten numbers, of each class.

    Every host computes all numbers: waiting for the first one would take as long.
    """
    if difference := dataset.skeleton.difference(task.skeleton):
        raise ValueError(f"{dataset.directory} has {difference}, as {arguments.workdir}")
    if not dataset.people.has_joints.any():
        raise ValueError(
            f"{dataset.directory}, {dataset.split}: nobody's joints are labelled; "
            "boxes alone can measure a detector"
        )
    found = detected(arguments, dataset, list(task.skeleton.blocks))
    if not task.skeleton.classes:
        return report_poses(task, variables, dataset, arguments, out, found[""] if found else None)

    def each(name: str, own: Dataset, folder: Path) -> None:
        mine = found[name] if found else None
        report_poses(task.of_class(name), variables, own, arguments, folder, mine, only=True)

    return evaluate_classes(dataset, out, KEYPOINT_METRICS, each)


def report_poses(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    arguments: Arguments,
    out: Path,
    found: FoundBoxes | None,
    *,
    only: bool = False,
) -> None:
    """Finds poses in boxes, writes them, prints COCO's ten numbers and the table of joints.

    The boxes of `--boxes detector` are those `found`; of a file `only` those of the set's category.
    """
    main, head = Path(arguments.boxes).name, task.config.head
    truth = Truth(as_coco(dataset), task.skeleton, arguments.coco_backend)
    sources = {main: read_box_source(arguments, dataset, found, only=only)}
    decoding = task.decoding(arguments.settings.decoding)
    given = main, dataclasses.replace(arguments.settings, decoding=decoding)
    tables: dict[str, variants.Rows] = {f"boxes: {arguments.boxes}": {"as given": given}}
    if arguments.table:
        sources.setdefault("gt", ground_truth_boxes(dataset))
        tables = {
            f"boxes: {arguments.boxes}": variants.one_at_a_time(*given, decodings(head)),
            "combinations": variants.grid({name: name != "gt" for name in sources}, given[1]),
        }
    evaluations = evaluate_rows(task, variables, dataset, truth, arguments, sources, tables)
    boxes, evaluation = sources[main], evaluations[given]
    box_entries = box_results(dataset.images.id[boxes.image], boxes.box, boxes.score)
    metrics = evaluation.metrics | evaluate_boxes(truth, box_entries) | {"boxes": float(len(boxes))}
    if arguments.boxes == "gt":
        metrics |= measure.correct_keypoints(truth, dataset, boxes, evaluation.people)
    joints = keypoint_table(truth, evaluation.results)
    seen = visibility_table(truth, evaluation.results)
    if seen:
        metrics["visibility_AUC"] = seen[-1].auc
    if not is_first():
        return
    drawn_from = head.drawn_from(decoding)
    write_found(dataset, boxes, evaluation, box_entries, joints, arguments, out, drawn_from)
    files = ["keypoints.json", "boxes.json", "joints.md"]
    if seen:
        write_rows(VisibilityRow._fields, seen, out / "visibility.md")
        files.append("visibility.md")
    if arguments.boxes != "gt":
        kept = to_xywh(evaluation.people.boxes[evaluation.keep])
        shown = [pose | {"bbox": box} for pose, box in zip(evaluation.results, kept)]
        counts = [(f"{row.score:g}", *map(str, row[1:])) for row in thresholds(truth, shown)]
        text = markdown(("least score", *ThresholdRow._fields[1:]), counts)
        write_whole(out / "thresholds.md", text)
        print(text)
        files.append("thresholds.md")
    numbers = {
        title: {name: evaluations[row].metrics for name, row in table.items()}
        for title, table in tables.items()
    }
    if arguments.table:
        files = ["options.md", "options.json", *files]
        write_tables(numbers, out)
    numbers[f"boxes: {arguments.boxes}"] |= by_crowding(truth, evaluation.results)
    for title, table in numbers.items():
        show_numbers(table, KEYPOINT_METRICS, f"{title_of(arguments, dataset)}; {title}")
    evaluated = evaluated_by(
        arguments,
        dataset=dataset,
        truth=truth,
        results=evaluation.results,
        metrics=metrics,
        summary=describe_boxes(arguments.boxes, metrics),
    )
    page = partial(pose_page, joints=joints, seen=seen) if arguments.report else None
    finish(evaluated, out, files, page)


def write_found(
    dataset: Dataset,
    boxes: PersonBoxes,
    evaluation: measure.PoseEvaluation,
    box_entries: list[Result],
    joints: list[KeypointRow],
    arguments: Arguments,
    out: Path,
    drawn_from: float,
) -> None:
    """Writes results, drawings and the table of joints, which it prints, too."""
    write_results(out / "boxes.json", box_entries)
    write_results(out / "keypoints.json", evaluation.results)
    drawn, count = arguments.min_keypoint_score, arguments.pictures
    least = drawn_from if drawn is None else drawn
    folder = out / "pictures"
    draw_poses(dataset, boxes, evaluation, folder, count=count, min_keypoint_score=least)
    write_rows(KeypointRow._fields, joints, out / "joints.md")


def write_rows(header: Sequence[str], rows: Sequence[NamedTuple], path: Path) -> None:
    """Writes a table of numbers of each joint, and prints it."""
    text = markdown(header, joint_cells(rows))
    write_whole(path, text)
    print(text)


def evaluate_parts(
    task: PartsTask, variables: dict, dataset: Dataset, arguments: Arguments, out: Path
) -> None:
    """Finds everybody in whole pictures, writes them, prints COCO's numbers, by joint, too."""
    if difference := dataset.skeleton.difference(task.skeleton):
        raise ValueError(f"{dataset.directory} has {difference}, as {arguments.workdir}")
    for name in ("boxes", "detector", "table"):
        if getattr(arguments, name) != getattr(Arguments(arguments.workdir), name):
            raise ValueError(f"--{name}: {arguments.workdir} finds people without boxes")
    refuse_crop_settings(arguments.settings)
    decoding = task.decoding(arguments.settings.decoding)
    size = arguments.batch_size or measure.PICTURES
    find = {"decoding": decoding, "batch_size": size}
    boxes, people = measure.find_everybody(task, variables, dataset, **find)
    truth = Truth(as_coco(dataset), task.skeleton, arguments.coco_backend)
    evaluation = measure.score_poses(truth, dataset, boxes, people, arguments.settings)
    box_entries = box_results(dataset.images.id[boxes.image], boxes.box, boxes.score)
    metrics = evaluation.metrics | evaluate_boxes(truth, box_entries) | {"boxes": float(len(boxes))}
    joints = keypoint_table(truth, evaluation.results)
    if not is_first():
        return
    drawn_from = task.config.head.drawn_from(decoding)
    write_found(dataset, boxes, evaluation, box_entries, joints, arguments, out, drawn_from)
    crowding = by_crowding(truth, evaluation.results)
    show_numbers({decoding: metrics} | crowding, KEYPOINT_METRICS, title_of(arguments, dataset))
    evaluated = evaluated_by(
        arguments,
        dataset=dataset,
        truth=truth,
        results=evaluation.results,
        metrics=metrics,
        summary=f"{len(boxes)} people in {len(dataset.images)} pictures",
    )
    page = partial(pose_page, joints=joints) if arguments.report else None
    finish(evaluated, out, ["keypoints.json", "boxes.json", "joints.md"], page)


def evaluate_rows(
    task: PoseTask,
    variables: dict,
    dataset: Dataset,
    truth: Truth,
    arguments: Arguments,
    sources: dict[str, PersonBoxes],
    tables: dict[str, variants.Rows],
) -> dict[tuple[str, Settings], measure.PoseEvaluation]:
    """Evaluates every row of some tables once, by its source of boxes and its settings."""
    rows = dict.fromkeys(row for table in tables.values() for row in table.values())
    size = arguments.batch_size or measure.CROPS
    evaluations = {}
    for source, boxes in sources.items():
        each = [settings for name, settings in rows if name == source]
        found = measure.evaluate_each(task, variables, dataset, truth, boxes, each, batch_size=size)
        evaluations |= {(source, settings): e for settings, e in zip(each, found)}
    return evaluations


def write_tables(tables: dict[str, variants.Numbers], out: Path) -> None:
    """Writes options.json and options.md."""
    rows = {name: row for table in tables.values() for name, row in table.items()}
    write_json(out / "options.json", rows)
    texts = (
        markdown((title, *KEYPOINT_METRICS), number_rows(table, KEYPOINT_METRICS))
        for title, table in tables.items()
    )
    write_whole(out / "options.md", "\n".join(texts))


def evaluated_by(arguments: Arguments, **outcome: Any) -> Evaluated:
    """The outcome of an evaluation beside what it was asked for."""
    return Evaluated(
        workdir=arguments.workdir,
        config=read_config(arguments.workdir),
        options=dataclasses.asdict(arguments),
        pictures=arguments.pictures,
        min_box_score=arguments.min_drawn_score,
        **outcome,
    )


def finish(
    evaluated: Evaluated, out: Path, files: Sequence[str], page: Callable[[Evaluated], str] | None
) -> None:
    """Writes the numbers and, if it is wanted, the page; says what was written."""
    write_json(out / "metrics.json", evaluated.metrics)
    print(evaluated.summary)
    print(f"wrote {', '.join(['metrics.json', *files])} and pictures/ to {out}")
    if page:
        write_whole(out / "report.html", page(evaluated))
        print(f"wrote {out / 'report.html'}")


def write_json(path: Path, values: dict) -> None:
    """Writes numbers by name."""
    write_whole(path, json.dumps(values, indent=2) + "\n")


def title_of(arguments: Arguments, dataset: Dataset) -> str:
    """What was evaluated on what."""
    return f"{arguments.workdir} on {dataset.directory}, {dataset.split}"


def describe_boxes(source: str, metrics: dict[str, float]) -> str:
    """One line on the boxes that the poses were found in."""
    line = f"{metrics['boxes']:.0f} boxes ({source}), person box_AP {metrics['box_AP']:.3f}"
    if "PCK" in metrics:
        line += f"; PCK@.2 of the torso {metrics['PCK']:.3f}"
        line += f" over {metrics['PCK_people']:.0f} people"
    if "PCKh" in metrics:
        line += f"; PCKh@.5 {metrics['PCKh']:.3f} over {metrics['PCKh_people']:.0f} people"
    return line


def show_numbers(numbers: variants.Numbers, columns: Sequence[str], title: str) -> None:
    """Prints COCO's numbers, one row per name."""
    names = (column.removeprefix("box_") for column in columns)
    show(("", *names), number_rows(numbers, columns), title=title)


def refuse_pose_options(arguments: Arguments) -> None:
    """A detector must not seem to follow options that only the pose network reads."""
    only_pose = ("boxes", "detector", "table", "min_keypoint_score")
    default = Arguments(arguments.workdir)
    given = [name for name in only_pose if getattr(arguments, name) != getattr(default, name)]
    for name, value in dataclasses.asdict(arguments.settings).items():
        if name != "flip_test" and value != getattr(default.settings, name):
            given.append(name)
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')}: {arguments.workdir} holds a detector; this option is "
            "for pose networks"
        )
