"""The data sets a program works on: the directories it was given, or the embedded set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from data_pipeline import synthetic
from data_pipeline.readers import read
from data_pipeline.readers.coco import existing
from data_pipeline.readers.reader import ImageFolder
from data_pipeline.schema import DataError, Dataset, MissingDataError
from g_rmi.skeleton import Skeleton
from g_rmi.training.hosts import is_first


def directories(given: Sequence[Path]) -> tuple[Path, ...]:
    """The given data directories, or the embedded synthetic one, made on first use.

    Raises:
      MissingDataError: One is not there; names the option and the nearest that is.
    """
    if given:
        for path in given:
            if not path.is_dir():
                raise MissingDataError(f"--data: no data directory {path}{existing(path)}")
        return tuple(given)
    with Progress(transient=True) as bars:
        bar = bars.add_task("drawing synthetic scenes", total=None)

        def progress(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        return (synthetic.make(synthetic.default_directory(), progress=progress),)


def check_all(train: Sequence[Dataset], validation: Sequence[Dataset], *, poses: bool) -> None:
    """Says now what would end a training, or its evaluations, after hours.

    Raises:
      DataError: Nobody to train on, pictures that are not there, or see `check_validation`.
    """
    if not any(dataset.people.has_box.any() for dataset in train):
        names = "; ".join(map(str, train))
        raise DataError(f"{names}: no person to train on; which category_id do people have?")
    for number, name in enumerate(train[0].skeleton.blocks):
        if not any((d.people.has_box & (d.people.classes == number)).any() for d in train):
            raise DataError(f"{'; '.join(map(str, train))}: no {name} to train on")
    for dataset in train:
        check_pictures(dataset, 0.5)  # a few missing ones are counted by the reader
    if validation:
        check_validation(validation[0], train[0].skeleton if poses else None)


def check_validation(dataset: Dataset, skeleton: Skeleton | None) -> None:
    """Says now what would end an evaluation after hours of training.

    `skeleton` is the keypoint set of what is trained; None for a detector.

    Raises:
      DataError: Nobody to evaluate on, another keypoint set, or pictures that are not there.
    """
    where, people = f"{dataset.directory}, {dataset.split}", dataset.people
    if not len(dataset.images):
        raise DataError(f"{where}: no picture to evaluate on; remove the split to do without")
    if not (people.has_joints if skeleton else people.has_box).any():
        what = "nobody's joints are" if skeleton else "nobody is"
        raise DataError(f"{where}: {what} labelled; remove the split to train without evaluation")
    for field in ("names", "sigmas"):
        theirs, ours = getattr(dataset.skeleton, field), getattr(skeleton, field, None)
        if skeleton and theirs != ours:
            raise DataError(f"{where}: the joints' {field} are {theirs}, those trained on {ours}")
    check_counted(dataset, poses=skeleton is not None)
    check_pictures(dataset, 0.0)


def check_visibility(train: Sequence[Dataset]) -> None:
    """Says which sets teach nothing about visibility, as they mark no joint as hidden.

    Raises:
      DataError: None of them does.
    """
    silent = [f"{d.directory}, {d.split}" for d in train if not d.marks_hidden]
    what = "no joint is marked as hidden (v = 1), so that visibility is not known"
    if len(silent) == len(train):
        raise DataError(f"--visibility-weight: {'; '.join(silent)}: {what}")
    if is_first():
        for name in silent:
            print(f"note: {name}: {what} and not taught")


def check_counted(dataset: Dataset, *, poses: bool) -> None:
    """Says before a network runs what COCO's numbers cannot count.

    Raises:
      DataError: A box of negative size or, of poses, a person without area, by which OKS divides.
    """
    people = dataset.people
    inside_out = (people.box[:, 2:] < people.box[:, :2]).any(axis=1)
    no_area = people.has_joints & (people.area <= 0) & poses
    for what, wrong in (("a box of negative size", inside_out), ("no area", no_area)):
        if wrong.any():
            raise DataError(
                f"{dataset.directory}, {dataset.split}: annotation {people.id[wrong][0]} has "
                f"{what}, as {wrong.sum()} in all: COCO's numbers cannot count them"
            )


def check_pictures(dataset: Dataset, share: float) -> None:
    """A DataError if more than a share of the picture files, by a sample, is not there."""
    if not isinstance(dataset.source, ImageFolder):
        return
    rows = np.unique(np.linspace(0, len(dataset.images) - 1, 5000).astype(int)).tolist()
    rows = rows if len(dataset.images) else []
    missing = [row for row in rows if not dataset.source.is_there(row)]
    if len(missing) > share * len(rows):
        raise DataError(
            f"{dataset.directory}, {dataset.split}: {len(missing)} of {len(rows)} pictures that "
            f"were looked for are not there, such as {dataset.source.name(missing[0])}"
        )


def read_split(
    directories: Sequence[Path],
    split: str,
    *,
    required: bool = True,
    categories: Sequence[str] = (),
) -> list[Dataset]:
    """That split of every directory that has it; a MissingDataError if one that must has not.

    One that need not be there is told of. The `categories` are as those of `readers.read`.
    """
    found, missing = [], None
    for directory in directories:
        try:
            found.append(read(directory, split, categories=categories))
        except MissingDataError as error:
            if split == "train" or not Path(directory).is_dir():
                raise
            missing = error
    if not found and missing and required:
        raise missing
    if not found and missing and is_first():
        print(f"note: {missing}")
    return found
