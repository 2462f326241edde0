"""Which people of an evaluation are worth a look, labels beside predictions."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.boxes import PersonBoxes
from data_pipeline.images import cut_image
from data_pipeline.schema import Dataset
from experiments.parts.measure import PoseEvaluation
from experiments.parts.outputs import drawing_names, write_jpeg
from g_rmi.evaluation.diagnosis import KINDS, Diagnosis
from g_rmi.evaluation.results import Result, keypoints_of, visibility_of
from g_rmi.evaluation.truth import Evaluation, Truth, matches
from g_rmi.geometry import apply_affine, box_to_crop, from_xywh, pose_box
from g_rmi.inference.dataset import FoundBoxes
from g_rmi.viz.draw import compare, compare_boxes, contact_sheet, likelier
from g_rmi.viz.report import Gallery, Picture

_SHEET = "contact_sheet.jpg"  # Of all drawings.
CELL = (420, 336)  # Height and width of each half of a picture.


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What was evaluated on what, and what came out."""

    workdir: Path  # Or a weights file.
    dataset: Dataset
    truth: Truth
    results: list[Result]
    metrics: dict[str, float]
    config: dict  # Of the training.
    options: dict  # Of the evaluation.
    summary: str
    pictures: int  # So many of each kind.
    min_box_score: float  # Boxes that score lower are not drawn where nobody was found.

    def found_in(self, row: int) -> list[Result]:
        """The results of an image."""
        image = self.dataset.images.id[row]
        return [entry for entry in self.results if entry["image_id"] == image]


def draw_pairs(
    dataset: Dataset, rows: Iterable[int], draw: Callable[[np.ndarray, int], np.ndarray], out: Path
) -> None:
    """Writes truth beside found for the pictures of some rows, and one sheet of all of them."""
    out.mkdir(parents=True, exist_ok=True)
    images = dataset.images
    names = {int(row): images.file_name[row].replace("\\", "/") for row in rows}
    files = drawing_names(dict.fromkeys(names.values(), ".jpg"), taken=[_SHEET])
    sheet = []
    for row, name in names.items():
        size = {"height": int(images.height[row]), "width": int(images.width[row])}
        sheet.append(draw(cut_image(dataset, row, np.eye(2, 3), **size), row))
        try:
            write_jpeg(out / files[name], sheet[-1])
        except OSError as error:  # one odd name is no reason to lose the others
            print(f"note: {name} is drawn on {_SHEET} only: {error.strerror}", file=sys.stderr)
    if sheet:
        write_jpeg(out / _SHEET, contact_sheet(sheet, columns=2, cell=(360, 960)))


def draw_poses(
    dataset: Dataset,
    boxes: PersonBoxes,
    evaluation: PoseEvaluation,
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
            found_visibility=likelier(evaluation.people[shown].visibility),
            skeleton=dataset.skeleton,
            min_score=min_keypoint_score,
        )

    draw_pairs(dataset, np.unique(boxes.image)[:count], compare_row, out)


def draw_boxes(
    dataset: Dataset, found: FoundBoxes, out: Path, *, count: int, min_score: float
) -> None:
    """Draws annotated beside found boxes for the first pictures that have people, and a sheet."""
    people = dataset.people

    def compare_row(image: np.ndarray, row: int) -> np.ndarray:
        truth = people.box[(people.image == row) & ~people.is_crowd]
        shown = (found.image == row) & (found.scores >= min_score)
        return compare_boxes(image, truth, found.boxes[shown], found.scores[shown])

    draw_pairs(dataset, np.unique(people.image[~people.is_crowd])[:count], compare_row, out)


class Shown(NamedTuple):
    """A person by their row, a detection by its place among the results, or both."""

    person: int | None
    result: int | None
    caption: str


def pose_galleries(evaluated: Evaluated, found: Diagnosis) -> list[Gallery]:
    """The best, the worst, the most confident errors, and who was not found."""
    results, count = evaluated.results, evaluated.pictures
    owner = {i: n for n, i in enumerate(found.found.tolist()) if i >= 0}

    def shown(n: int) -> Shown:
        i = int(found.found[n])
        if i < 0:
            return Shown(int(found.person[n]), None, "nobody found")
        counts = np.bincount(found.kinds[n][found.kinds[n] >= 0], minlength=5)[1:]
        errors = [f"{c} {kind}" for c, kind in zip(counts, KINDS[1:], strict=True) if c]
        told = f"OKS {found.oks[n]:.2f}, score {results[i]['score']:.2f}"
        return Shown(int(found.person[n]), i, "; ".join([told, *errors]))

    def mistaken(i: int) -> Shown:
        if i in owner:
            return shown(owner[i])
        return Shown(None, i, f"nobody there, score {results[i]['score']:.2f}")

    is_found = found.found >= 0
    order = np.flatnonzero(is_found)[np.argsort(found.oks[is_found], kind="stable")]
    well_labelled = found.labelled > len(evaluated.dataset.skeleton) / 2
    best = [n for n in order[::-1] if well_labelled[n]][:count]
    wrong = [i for i, n in owner.items() if found.oks[n] < 0.5] + found.false_positives.tolist()
    wrong.sort(key=lambda i: -results[i]["score"])
    unfound = np.flatnonzero(~is_found)
    unfound = unfound[np.argsort(-found.area[unfound], kind="stable")]
    kinds = {
        "Best, of people with more than half of the joints labelled": map(shown, best),
        "Worst of those found": map(shown, order[:count]),
        "Most confident errors, by OKS .5": map(mistaken, wrong[:count]),
        "Largest people nobody found": map(shown, unfound[:count]),
    }
    return _galleries(kinds, _draw_pose, evaluated)


def box_galleries(evaluated: Evaluated, evaluation: Evaluation) -> list[Gallery]:
    """The most confident errors of a detector, and who was not found."""
    results, area = evaluated.results, evaluated.dataset.people.area
    false, unfound = [], []
    for match in matches(evaluation):  # their first row: IoU .5
        false += match.detections[~match.right[0]].tolist()
        unfound += match.people[(match.found[0] < 0) & match.counts].tolist()
    false.sort(key=lambda i: -results[i]["score"])
    unfound.sort(key=lambda n: -area[n])
    errors = [
        Shown(None, i, f"score {results[i]['score']:.2f}") for i in false[: evaluated.pictures]
    ]
    missed = [Shown(n, None, "nobody found") for n in unfound[: evaluated.pictures]]
    kinds = {"Most confident errors, by IoU .5": errors, "Largest people nobody found": missed}
    return _galleries(kinds, _draw_boxes, evaluated)


def _galleries(
    kinds: Mapping[str, Iterable[Shown]],
    draw: Callable[[Evaluated, Shown, int], np.ndarray],
    evaluated: Evaluated,
) -> list[Gallery]:
    """Pictures under their titles, where there are any; `draw` also gets the picture's row."""
    images, people = evaluated.dataset.images, evaluated.dataset.people

    def picture(shown: Shown) -> Picture:
        if shown.person is not None:
            row = int(people.image[shown.person])
        else:
            image_id = evaluated.results[shown.result or 0]["image_id"]
            row = int(np.flatnonzero(images.id == image_id)[0])
        name = Path(images.file_name[row]).name
        return Picture(draw(evaluated, shown, row), f"{shown.caption} – {name}")

    galleries = (Gallery(title, [*map(picture, shown)]) for title, shown in kinds.items())
    return [gallery for gallery in galleries if gallery.pictures]


def _draw_pose(evaluated: Evaluated, shown: Shown, row: int) -> np.ndarray:
    """The person's labels beside the detection; beside everybody found there if there is none."""
    dataset, people = evaluated.dataset, evaluated.dataset.people
    one, there = shown.result, evaluated.found_in(row)
    poses = there if one is None else [evaluated.results[one]]
    keypoints = keypoints_of(poses, len(dataset.skeleton))
    if shown.person is None:
        labels = people.take(np.arange(len(people))[dataset.people_of(row)])
        corners = keypoints[0, :, :2]
        region = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    else:
        labels, region = people.take(np.array([shown.person])), people.box[shown.person]
    image, affine = _cut(dataset, row, region)
    return compare(
        image,
        apply_affine(affine, labels.keypoints),
        labels.visibility,
        apply_affine(affine, keypoints[..., :2]),
        keypoints[..., 2],
        np.array([entry["score"] for entry in poses], np.float64),
        found_visibility=likelier(visibility_of(poses, len(dataset.skeleton))),
        skeleton=dataset.skeleton,
        min_score=0.0,  # COCO counts every joint
    )


def _draw_boxes(evaluated: Evaluated, shown: Shown, row: int) -> np.ndarray:
    """Annotated boxes beside found ones that score no less than the one to look at."""
    dataset, there = evaluated.dataset, evaluated.found_in(row)
    if shown.result is None:
        region, least = dataset.people.box[shown.person], evaluated.min_box_score
    else:
        one = evaluated.results[shown.result]
        region, least = from_xywh(np.array(one["bbox"], np.float64)), one["score"]
    there = [entry for entry in there if entry["score"] >= least]
    found = from_xywh(np.array([e["bbox"] for e in there], np.float64).reshape(-1, 4))
    scores = np.array([entry["score"] for entry in there], np.float64)
    truth = dataset.people.box[dataset.people_of(row)].astype(np.float64)
    image, affine = _cut(dataset, row, region)
    truth, found = (
        apply_affine(affine, boxes.reshape(-1, 2, 2)).reshape(-1, 4) for boxes in (truth, found)
    )
    return compare_boxes(image, truth, found, scores)


def _cut(dataset: Dataset, row: int, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A part of a picture with some room around the region, and the map into it."""
    height, width = CELL
    box = pose_box(region, aspect=height / width, scale=1.4)
    last = np.array([dataset.images.width[row], dataset.images.height[row]]) - 1.0
    # Into the picture where it fits.
    box += np.tile(np.maximum(-box[:2], 0) + np.minimum(last - box[2:], 0), 2)
    affine = box_to_crop(box, height=height, width=width)
    return cut_image(dataset, row, affine, height=height, width=width), affine
