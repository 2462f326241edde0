"""Pseudo-labels joints, or pre-labels people: `g-rmi label --data DIR --out DIR [--to cvat]`."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Bool
from rich.console import Console
from rich.progress import track

from data_pipeline.boxes import PersonBoxes, annotated_boxes
from data_pipeline.images import ImageError, decode
from data_pipeline.readers import READERS, WRITERS, read
from data_pipeline.readers.reader import ImageFolder
from data_pipeline.readers.records import find_prepared
from data_pipeline.readers.shapes import AREA
from data_pipeline.schema import DataError, Dataset, Images
from data_pipeline.schema import People as Labels
from experiments.parts import cli, measure
from experiments.parts.inputs import Source, find
from experiments.parts.run import Arguments as RunArguments
from experiments.parts.run import Job, people_of
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import nearest, require_numbers
from g_rmi.files import check_directory
from g_rmi.inference.load import SHIPPED, load_settings, load_task
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.parts.task import PartsTask
from g_rmi.pose.heads.head import decodings, tells_visibility
from g_rmi.pose.task import PoseTask
from g_rmi.types import People
from g_rmi.viz.draw import likelier

# A joint may lie outside its person's box by this share of the box's sides; not of the picture.
_MARGIN = 0.1

Format = Literal["coco", "yolo", "cvat", "label-studio", "labelme"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Pseudo-labels the joints that a training split lacks, for a later training or to correct.

    For sets with boxes only, and for mixtures of sets that label different joints. With --to, the
    labels can be opened in a labelling tool; --data may then be a folder of images, in which a
    detector finds the people. Existing labels are kept. Writes a data directory: the annotations
    and a link to the images. Joints of networks that say so are labelled as hidden.
    """

    data: Path  # Data directory, its training split; or a folder of images without labels.
    out: Path  # The new data directory.
    # The pose network's work directory, or a weights file. Default: the packaged weights.
    workdir: Path | None = None
    detector: Path | None = None  # The same for the detector, for images without labels.
    to: Format = "coco"  # The format to write.
    checkpoint: str = "latest"  # "latest", "best" or a step; see evaluate.
    # Only these joints, such as nose left_eye. Default: all.
    joints: tuple[str, ...] = ()
    min_keypoint_score: float = 0.5  # Joints with a lower expected OKS stay unlabelled.
    batch_size: int = measure.CROPS  # Crops per batch and device.
    # How joints and, in images without labels, people are found. Default: as stored in the pose
    # network's weights, with the flip test.
    settings: Settings = Settings(flip_test=True)

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
    seen = likelier(found.visibility)
    visibility = people.visibility.copy()
    visibility[new] = 2 if seen is None else seen[new[boxes.person]]
    people = dataclasses.replace(people, keypoints=keypoints, visibility=visibility)
    return dataclasses.replace(dataset, people=people), new


def find_people(
    pipeline: PosePipeline, folder: Path, sources: Sequence[Source]
) -> tuple[Dataset, People]:
    """The people of pictures without labels, as a set of boxes; and their poses, in its order.

    Pictures that cannot be read are told of and left out.
    """
    sizes: dict[str, tuple[int, int]] = {}
    console = Console(stderr=True, soft_wrap=True)
    quiet = not console.is_terminal

    def jobs() -> Iterator[Job]:
        text = "finding people"
        for source in track(sources, text, console=console, transient=True, disable=quiet):
            try:
                image = decode(source.read())
            except (ImageError, OSError) as error:
                console.print(f"left out: {source.path}: {error}", highlight=False, markup=False)
                continue
            sizes[source.name] = image.shape[1], image.shape[0]
            yield Job(source.name, image)

    batch = 1 if jax.default_backend() == "cpu" else 4
    sides = {"batch_size": batch, "max_side": RunArguments.max_side}
    found = people_of(pipeline, jobs(), **sides, before=lambda image: None)
    people = {job.key: people for job, people in found}
    if not sizes:
        raise DataError(f"{folder}: no picture in it that could be read")
    columns = ["keypoints", "keypoint_scores", "scores", "boxes"]
    columns += ["visibility"] * tells_visibility(pipeline.pose.config.head)
    joined = People(
        **{
            column: np.concatenate([getattr(people[name], column) for name in sizes])
            for column in columns
        },
        skeleton=pipeline.pose.skeleton,
    )
    size = np.array(list(sizes.values()), np.int32)
    image = np.repeat(np.arange(len(sizes)), [len(people[name]) for name in sizes])
    # What a tool draws ends at the picture's edge.
    box = joined.boxes.astype(np.float64).clip(0, np.tile(size[image], 2))
    count, joints = joined.keypoint_scores.shape
    labels = Labels(
        id=np.arange(1, count + 1),
        image=image.astype(np.int32),
        box=box,
        area=AREA * np.prod(box[:, 2:] - box[:, :2], axis=1),
        is_crowd=np.zeros(count, bool),
        keypoints=np.zeros((count, joints, 2), np.float32),
        visibility=np.zeros((count, joints), np.uint8),
    )
    names, ids = tuple(sizes), np.arange(1, len(sizes) + 1)
    images = Images(ids, names, size[:, 0], size[:, 1], np.ones(len(sizes), bool))
    source, skeleton = ImageFolder(folder, names), pipeline.pose.skeleton
    return Dataset(folder, "train", skeleton, images, labels, source), joined


def main(argv: Sequence[str]) -> None:
    """The program."""
    settings = load_settings(cli.peek(argv, "workdir"))
    settings = dataclasses.replace(settings, flip_test=True)
    arguments = cli.arguments(Arguments, argv, name="label", settings=settings)
    enable_compilation_cache()
    out, data = arguments.out, arguments.data
    if out.exists():
        raise ValueError(f"--out {out}: exists already; name a new directory")
    check_directory(out.parent)
    if find_prepared(data):
        raise ValueError(f"--data {data}: label the set it was prepared from")
    workdir = arguments.workdir or SHIPPED["pose"]
    task, variables = load_task(workdir, arguments.checkpoint, stage="pose")
    assert isinstance(task, PoseTask)
    if blocks := task.skeleton.blocks:
        raise ValueError(
            f"{workdir} has several classes, {', '.join(blocks)}: only one is labelled"
        )
    names = task.skeleton.names
    for name in arguments.joints:
        if name not in names:
            raise ValueError(f"--joints {name}: no such joint{nearest(name, names)}")
    joints = np.isin(names, arguments.joints or names)
    # Of all decodings, this one's scores say how good a label will be.
    best = "hough_oks" if "hough_oks" in decodings(task.config.head) else None
    settings = dataclasses.replace(arguments.settings, decoding=arguments.settings.decoding or best)
    if data.is_dir() and not any(reader.splits(data) for reader in READERS):
        detector, weights = load_task(arguments.detector or SHIPPED["detector"], stage="detector")
        assert not isinstance(detector, PoseTask | PartsTask)
        both = {"detector": weights, "pose": variables}
        pipeline = PosePipeline(detector, task, both, settings)
        dataset, found = find_people(pipeline, data, find([str(data)], leave_out=out))
        boxes = annotated_boxes(dataset, np.arange(len(dataset.people)))
    else:
        if arguments.detector:
            raise ValueError(f"--detector {arguments.detector}: of no use, {data} has labels")
        dataset = read(data, "train")
        if difference := dataset.skeleton.difference(task.skeleton):
            raise ValueError(f"{data} has {difference}, as {workdir}")
        boxes = boxes_to_label(dataset, joints)
        look, size = settings.look, arguments.batch_size
        found = measure.predict_poses(task, variables, dataset, boxes, look, batch_size=size)
    score = arguments.min_keypoint_score
    labelled, new = add_labels(dataset, boxes, found, joints, min_score=score)
    path = WRITERS[arguments.to].write(out, labelled, model=str(workdir))
    print(f"labelled {new.sum()} joints of {new.any(axis=1).sum()} of {len(boxes)} people: {path}")


if __name__ == "__main__":
    cli.run(main)
