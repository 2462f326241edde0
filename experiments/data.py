"""The data sets a program works on: the directories it was given, or the embedded set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from data_pipeline import coco, synthetic
from data_pipeline.schema import Dataset, MissingDataError


def directories(given: Sequence[Path]) -> tuple[Path, ...]:
    """The given data directories, or the embedded synthetic one, made on first use."""
    if given:
        return tuple(given)
    with Progress(*Progress.get_default_columns(), transient=True) as bars:
        bar = bars.add_task("drawing synthetic scenes", total=None)

        def progress(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        return (synthetic.make(synthetic.default_directory(), progress=progress),)


def read_split(directories: Sequence[Path], split: str) -> list[Dataset]:
    """That split of every directory that has it.

    Raises:
      MissingDataError: No directory has it, or one does not exist at all.
    """
    found, missing = [], None
    for directory in directories:
        try:
            found.append(coco.read(directory, split))
        except MissingDataError as error:
            if split == "train" or not Path(directory).is_dir():
                raise
            missing = error
    if not found and missing:
        raise missing
    return found


def fingerprint(datasets: Sequence[Dataset]) -> dict[str, Any]:
    """What identifies the training data in a checkpoint: names and digests, not paths."""
    return {f"{i} {d.directory.name} {d.split}": d.fingerprint for i, d in enumerate(datasets)}


def annotations(dataset: Dataset) -> dict[str, Any]:
    """A data set's people as COCO annotations, the ground truth of COCO's evaluation."""
    images, people = dataset.images, dataset.people
    triplets = np.concatenate([people.keypoints, people.visibility[..., None]], axis=-1)
    sides = np.concatenate([people.box[:, :2], people.box[:, 2:] - people.box[:, :2]], axis=1)
    return {
        "images": [
            {"id": int(i), "width": int(w), "height": int(h), "file_name": name}
            for i, w, h, name in zip(images.id, images.width, images.height, images.file_name)
        ],
        "annotations": [
            {
                "id": int(people.id[row]),
                "image_id": int(images.id[people.image[row]]),
                "category_id": 1,
                "bbox": sides[row].tolist(),
                "area": float(people.area[row]),
                "iscrowd": int(people.is_crowd[row]),
                "keypoints": triplets[row].reshape(-1).tolist(),
                "num_keypoints": int(people.num_keypoints[row]),
            }
            for row in range(len(people))
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(dataset.skeleton.names)}],
    }
