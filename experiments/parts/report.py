"""The page of `evaluate --report`: numbers, curves, errors and pictures of one evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.parts.gallery import Evaluated, box_galleries, pose_galleries
from g_rmi.evaluation import diagnosis
from g_rmi.evaluation.diagnosis import ERRORS, KINDS, Diagnosis
from g_rmi.evaluation.keypoint_table import KeypointRow
from g_rmi.evaluation.truth import KEYPOINT_METRICS, Evaluation, average_precision, precision_recall
from g_rmi.evaluation.visibility_table import VisibilityRow
from g_rmi.training.writer import read_metrics
from g_rmi.viz import svg
from g_rmi.viz.report import Folded, Numbers, Plots, Section, Table, page
from g_rmi.viz.table import number

POINTS = 400  # Most points of a training curve.
COLOURS = dict(zip(KINDS, ("#2c8a4b", "#9fd3ae", "#8250df", "#d9a514", "#c93c37"), strict=True))


def pose_page(
    evaluated: Evaluated, joints: Sequence[KeypointRow], seen: Sequence[VisibilityRow] = ()
) -> str:
    """The page of a pose network, with the tables of `keypoint_table` and `visibility_table`."""
    truth, results = evaluated.truth, evaluated.results
    curves = truth.evaluate(results, "keypoints")
    found = diagnosis.diagnose(truth, results)
    fixed = diagnosis.if_fixed(truth, results, found)
    numbers = {name: evaluated.metrics[name] for name in KEYPOINT_METRICS}
    boxes = {name: evaluated.metrics[name] for name in ("box_AP", "box_AP50", "box_AR100")}
    visible = Table(VisibilityRow._fields, joint_cells(seen))
    sections = [
        Section("Keypoints", "", [Numbers(numbers)]),
        Section("Boxes that were looked into", _BOXES, [Numbers(boxes)]),
        Section("Precision and recall", "", [_precision_plots(curves, "OKS")]),
        Section("Joints", _JOINTS, [Table(KeypointRow._fields, joint_cells(joints))]),
        Section("Visibility", _VISIBILITY, [visible] if seen else []),
        _errors(evaluated, found, fixed),
        Section("Groups of people", _GROUPS, [_group_table(found)]),
        Section("Pictures", _PICTURES, pose_galleries(evaluated, found)),
    ]
    return _page(evaluated, sections)


def detector_page(evaluated: Evaluated) -> str:
    """The page of a detector: numbers, curves, pictures, training."""
    # Who was matched with whom only pycocotools tells.
    evaluation = evaluated.truth.evaluate(evaluated.results, "bbox", backend="pycocotools")
    sections = [
        Section("Person boxes", "", [Numbers(evaluated.metrics)]),
        Section("Precision and recall", "", [_precision_plots(evaluation, "IoU")]),
        Section("Pictures", _PICTURES, box_galleries(evaluated, evaluation)),
    ]
    return _page(evaluated, sections)


def _page(evaluated: Evaluated, sections: Sequence[Section]) -> str:
    """The page, with training curves and configs below."""
    dataset = evaluated.dataset
    title = f"{evaluated.workdir.resolve().name} on {dataset.directory.name}, {dataset.split}"
    configs = {"Of the training": evaluated.config, "Of the evaluation": evaluated.options}
    folded = [Folded(name, json.dumps(x, indent=2, default=str)) for name, x in configs.items()]
    curves = Section("Training", "", _training_plots(evaluated.workdir / "metrics.jsonl"))
    more = curves, Section("Configuration", "", folded)
    return page(title, evaluated.summary, [*sections, *more])


_JOINTS = (
    "found: of people found at OKS .5; oks: mean similarity of these joints; within: share of all "
    "labelled joints with a similarity of at least .5; occluded: those labelled though hidden "
    "(COCO's v = 1), and their within; ap: COCO's AP with that joint alone."
)
_VISIBILITY = (
    "Of the joints that were found with a similarity of at least .5. seen, hidden: how many are "
    "labelled so (COCO's v = 2, v = 1); accuracy: share of which the likelier of the two is right; "
    "balanced: mean of this over the seen and over the hidden, .5 for a guess; auc: how often a "
    "seen one is thought likelier to be seen than a hidden one."
)
_BOXES = (
    "Against all annotated people. Annotated boxes do not reach 1 either: people without a "
    "labelled joint are not looked into, and so count as not found."
)
_ERRORS = (
    "After Ronchi and Perona (ICCV 2017). A labelled joint of a person who is found at OKS .1 is "
    "good from a similarity of .85 on, jitter from .5 on; else it is near the same person's joint "
    "of the other side (inversion), near another person's (swap), or near neither (miss). Score: "
    "people for whom a worse detection outscored the best one. AP if fixed: evaluated again with "
    "that error corrected, alone and together with those above it."
)
_GROUPS = (
    "Size is the square root of the annotated area; others overlap from a box IoU of .1 on. "
    "Found: at OKS .1. AR: recall over COCO's ten thresholds. The rest: shares of found people's "
    "labelled joints."
)
_PICTURES = "Labels on the left, predictions on the right. A click enlarges."


def _precision_plots(evaluation: Evaluation, similarity: str) -> Plots:
    recall = np.linspace(0, 1, 101)
    curves = {
        f"{similarity} {name}" if name != "mean" else "mean of .5 to .95": (recall, precision)
        for name, precision in precision_recall(evaluation).items()
    }
    thresholds = evaluation.params.iouThrs
    average = {"AP": (thresholds, average_precision(evaluation))}
    precision = svg.line_plot(curves, x="recall", y="precision", unit_square=True)
    ap = svg.line_plot(average, x=similarity, y="AP")
    return Plots({"Precision at each recall": precision, f"AP at each {similarity}": ap})


def joint_cells(joints: Sequence[NamedTuple]) -> list[tuple[str, ...]]:
    """A table of joints as text, below the header `KeypointRow._fields` or another's."""
    return [tuple(str(x) if isinstance(x, str | int) else number(x) for x in row) for row in joints]


def _errors(
    evaluated: Evaluated, found: Diagnosis, fixed: dict[str, tuple[float, float]]
) -> Section:
    """Counts, what fixing would gain, and where on the body errors are."""
    counts = {kind: int((found.kinds == i).sum()) for i, kind in enumerate(KINDS)}
    joints = max(1, sum(counts.values()))
    whats = {kind: f"{count} joints, {count / joints:.0%}" for kind, count in counts.items()}
    whats["score"] = _people(found.outscored.sum())
    whats["false positive"] = f"{len(found.false_positives)} detections"
    whats["false negative"] = _people((found.found < 0).sum())
    rows = [("good", whats["good"], "", "")]
    rows += [(error, whats[error], *map(number, fixed[error])) for error in ERRORS]
    ap = max(0.0, evaluated.metrics["AP"])
    gains = svg.gain_plot(ap, {error: max(0.0, fixed[error][0]) for error in ERRORS}, x="AP")
    labelled = evaluated.dataset.skeleton.names
    shares = {}
    for name, kinds in zip(labelled, found.kinds.T, strict=True):
        known = max(1, (kinds >= 0).sum())
        shares[name.replace("_", " ")] = [float((kinds == i).sum() / known) for i in range(5)]
    becomes = svg.share_plot(shares, COLOURS, x="share of found people's labelled joints")
    plots = {
        f"AP, now {number(evaluated.metrics['AP'])}, if one error were fixed": gains,
        "What becomes of each joint": becomes,
    }
    header = ("error", "how many", "AP if fixed", "with those above")
    return Section("Errors", _ERRORS, [Table(header, rows), Plots(plots)])


def _people(count: int) -> str:
    return f"{count} person" if count == 1 else f"{count} people"


def _group_table(found: Diagnosis) -> Table:
    rows = []
    for name, mask in diagnosis.groups(found).items():
        kinds, count, reached = found.kinds[mask], int(mask.sum()), ["-", "-"]
        joints = (kinds >= 0).sum()
        shares = [f"{(kinds == i).sum() / joints:.0%}" if joints else "-" for i in range(5)]
        if count:
            share, recall = (found.found[mask] >= 0).mean(), found.recall[mask].mean()
            reached = [f"{share:.0%}", number(float(recall))]
        rows.append((name, str(count), *reached, *shares))
    return Table(("people", "count", "found", "AR", *KINDS), rows)


def _training_plots(path: Path) -> list[Plots]:
    """Losses, evaluations and the learning rate by step, where the training wrote them."""
    curves: dict[str, tuple[list, list]] = {}
    for line in read_metrics(path):
        for name, value in line.items():
            if value is not None and "/" in name:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    aside = ("finite", "gradient_norm", "learning_rate", "examples_per_second", "waiting")
    wanted = {
        "Losses": [n for n in curves if n.startswith("train/") and n.split("/")[1] not in aside],
        "Evaluation": [f"eval/{box}AP{at}" for box in ("", "box_") for at in ("", "50", "75")],
        "Learning rate": ["train/learning_rate"],
    }
    plots = {}
    for title, names in wanted.items():
        chosen = {
            n.split("/")[1].replace("_", " "): _thinned(*curves[n]) for n in names if n in curves
        }
        if chosen:
            plots[title] = svg.line_plot(chosen, x="step", y="", log=title == "Losses")
    return [Plots(plots)] if plots else []


def _thinned(steps: list, values: list) -> tuple[list, list]:
    """Every n-th point, the last among them."""
    stride = -(-len(steps) // POINTS)
    return steps[::-1][::stride][::-1], values[::-1][::stride][::-1]
