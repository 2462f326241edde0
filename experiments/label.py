"""Pseudo-labels missing joints: `g-rmi label --workdir DIR --data DIR --out DIR`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from data_pipeline.boxes import PersonBoxes, annotated_boxes
from data_pipeline.readers import read
from data_pipeline.readers.coco import write
from data_pipeline.readers.records import find_prepared
from data_pipeline.schema import Dataset
from experiments.parts import cli, measure
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import nearest, require_numbers
from g_rmi.files import check_directory
from g_rmi.inference.load import load_task
from g_rmi.inference.settings import Look
from g_rmi.pose.heads.head import decodings
from g_rmi.pose.task import PoseTask
from g_rmi.types import People

# A joint may lie outside its person's box by this share of the box's sides; not of the picture.
_MARGIN = 0.1


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Pseudo-labels the joints that a training split lacks, for a later training.

    For sets with boxes only, and for mixtures of sets that label different joints. Existing labels
    are kept. Writes a data directory: the annotations and a link to the images.
    """

    workdir: Path  # The pose network's work directory, or a weights file.
    data: Path  # Data directory, in COCO's layout; its training split.
    out: Path  # The new data directory.
    checkpoint: str = "latest"  # "latest", "best" or a step; see evaluate.
    # Only these joints, such as nose left_eye. Default: all.
    joints: tuple[str, ...] = ()
    min_keypoint_score: float = 0.5  # Joints with a lower expected OKS stay unlabelled.
    flip_test: bool = True  # Average with the mirrored crop.
    # Average with the crop rotated by 30 degrees to either side; for weights trained with
    # `--rotation`.
    rotation_test: bool = False
    batch_size: int = measure.CROPS  # Crops per batch and device.

    def __post_init__(self):
        require_numbers(self, 0, None, "min_keypoint_score")
        require_numbers(self, 1, None, "batch_size")


def boxes_to_label(dataset: Dataset, joints: Bool[np.ndarray, " K"]) -> PersonBoxes:
    """The boxes of the people, no crowds, who lack a label for some of the joints."""
    people = dataset.people
    lacking = (joints & (people.visibility == 0)).any(axis=1)
    rows = np.flatnonzero(lacking & people.has_inside & ~people.is_crowd)
    return annotated_boxes(dataset, rows)


def add_labels(
    dataset: Dataset,
    boxes: PersonBoxes,
    found: People,
    joints: Bool[np.ndarray, " K"],
    *,
    min_score: float,
) -> tuple[Dataset, Bool[np.ndarray, "N K"]]:
    """The set with what was found in each box as labels of its person, and which labels are new."""
    people, images = dataset.people, dataset.images
    margin = _MARGIN * (boxes.box[:, 2:] - boxes.box[:, :2])
    last = np.stack([images.width, images.height], axis=1)[boxes.image] - 1
    low = np.maximum(boxes.box[:, :2] - margin, 0)
    high = np.minimum(boxes.box[:, 2:] + margin, last)
    inside = (found.keypoints >= low[:, None]) & (found.keypoints <= high[:, None])
    sure = inside.all(axis=-1) & (found.keypoint_scores >= min_score)
    new = np.zeros(people.visibility.shape, bool)
    new[boxes.person] = joints & sure & (people.visibility[boxes.person] == 0)
    keypoints = people.keypoints.copy()
    keypoints[new] = found.keypoints[new[boxes.person]]
    visibility = np.where(new, np.uint8(2), people.visibility)
    people = dataclasses.replace(people, keypoints=keypoints, visibility=visibility)
    return dataclasses.replace(dataset, people=people), new


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="label")
    enable_compilation_cache()
    out = arguments.out
    if out.exists():
        raise ValueError(f"--out {out}: exists already; name a new directory")
    check_directory(out.parent)
    if find_prepared(arguments.data):
        raise ValueError(f"--data {arguments.data}: label the set it was prepared from")
    task, variables = load_task(arguments.workdir, arguments.checkpoint, stage="pose")
    assert isinstance(task, PoseTask)
    dataset = read(arguments.data, "train")
    if difference := dataset.skeleton.difference(task.skeleton):
        raise ValueError(f"{arguments.data} has {difference}, as {arguments.workdir}")
    names = arguments.joints or task.skeleton.names
    for name in names:
        if name not in task.skeleton.names:
            raise ValueError(f"--joints {name}: no such joint{nearest(name, task.skeleton.names)}")
    joints = np.isin(task.skeleton.names, names)
    boxes = boxes_to_label(dataset, joints)
    # Of all decodings, this one's scores say how good a label will be.
    decoding = "hough_oks" if "hough_oks" in decodings(task.config.head) else None
    look = Look(decoding, arguments.flip_test, arguments.rotation_test)
    size, score = arguments.batch_size, arguments.min_keypoint_score
    found = measure.predict_poses(task, variables, dataset, boxes, look, batch_size=size)
    labelled, new = add_labels(dataset, boxes, found, joints, min_score=score)
    source = f"{arguments.workdir} labelled joints of {arguments.data} that had no label"
    path = write(out, labelled, description=f"{source}: {new.sum()}")
    print(f"labelled {new.sum()} joints of {new.any(axis=1).sum()} of {len(boxes)} people: {path}")


if __name__ == "__main__":
    cli.run(main)
