"""Tables of person boxes to evaluate on: annotated ones, or detections in COCO's results format."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.coco import load_json
from data_pipeline.schema import DataError, Dataset, MissingDataError

_PERSON = 1  # COCO's category id, which the results format is bound to.


@dataclasses.dataclass(frozen=True)
class PersonBoxes:
    """One row per box.

    Attributes:
      image: Row of the picture in the data set's `images`.
      box: `(x0, y0, x1, y1)` in image pixels.
      score: Of the detection; 1 for annotated boxes.
      person: Row in the data set's `people` for annotated boxes, else -1.
      ignored: Boxes of the file that were left out because they are of another category.
    """

    image: Int[np.ndarray, " M"]
    box: Float[np.ndarray, "M 4"]
    score: Float[np.ndarray, " M"]
    person: Int[np.ndarray, " M"]
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.image)


def ground_truth_boxes(dataset: Dataset) -> PersonBoxes:
    """The annotated boxes of people with at least one annotated joint, no crowds."""
    people = dataset.people
    rows = np.flatnonzero(people.has_joints)
    return PersonBoxes(
        image=people.image[rows], box=people.box[rows], score=np.ones(len(rows)), person=rows
    )


def read_boxes(
    path: str | Path,
    dataset: Dataset,
    *,
    min_score: float = 0.0,
    max_per_image: int | None = None,
) -> PersonBoxes:
    """Reads detections in COCO's results format, sorted by picture, then best first.

    Args:
      path: A JSON list of `{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`.
      dataset: Whose pictures they are of.
      min_score: Boxes below are left out.
      max_per_image: So many best boxes of each picture are kept; None for all.

    Raises:
      MissingDataError: No such file.
      DataError: Not the format, or a picture that is not in the data set.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no file of boxes {path}")
    records = load_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: not a list of detections in COCO's results format")
    rows = {int(image_id): row for row, image_id in enumerate(dataset.images.id)}
    table, ignored = [], 0
    for i, record in enumerate(records):
        try:
            if record["category_id"] != _PERSON:
                ignored += 1
                continue
            x, y, w, h = map(float, record["bbox"])
            score, image_id = float(record["score"]), record["image_id"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: detection {i}: {error!r} in {record}") from None
        if image_id not in rows:
            raise DataError(f"{path}: detection {i}: image_id {image_id} is not in {dataset}")
        if not np.isfinite((x, y, w, h, score)).all():
            raise DataError(f"{path}: detection {i}: not finite: {record}")
        table.append((rows[image_id], score, (x, y, x + w, y + h)))
    columns = [np.array(column) for column in zip(*table)] if table else np.zeros((3, 0))
    image, score, box = columns
    found = best_boxes(
        image.astype(np.int64),
        box.reshape(-1, 4),
        score,
        min_score=min_score,
        max_per_image=max_per_image,
    )
    return dataclasses.replace(found, ignored=ignored)


def best_boxes(
    image: Int[np.ndarray, " N"],
    box: Float[np.ndarray, "N 4"],
    score: Float[np.ndarray, " N"],
    *,
    min_score: float = 0.0,
    max_per_image: int | None = None,
) -> PersonBoxes:
    """A table of detections, sorted by picture, then best first.

    Args:
      image: Row of each box's picture.
      box: `(x0, y0, x1, y1)` in image pixels.
      score: Of the detections.
      min_score: Boxes below are left out.
      max_per_image: So many best boxes of each picture are kept; None for all.
    """
    order = np.lexsort((-score, image))
    order = order[score[order] >= min_score]
    first = np.searchsorted(image[order], image[order])  # where the picture's boxes begin
    if max_per_image is not None:
        order = order[np.arange(len(order)) - first < max_per_image]
    return PersonBoxes(
        image=image[order].astype(np.int32),
        box=box[order].astype(np.float64),
        score=score[order].astype(np.float64),
        person=np.full(len(order), -1, np.int64),
    )
