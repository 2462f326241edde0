"""The data sets a program works on: the directories it was given, or the embedded set."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from data_pipeline import synthetic
from data_pipeline.readers import read
from data_pipeline.readers.coco import existing
from data_pipeline.schema import Dataset, MissingDataError


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


def read_split(directories: Sequence[Path], split: str, *, required: bool = True) -> list[Dataset]:
    """That split of every directory that has it; a MissingDataError if one that must has not."""
    found, missing = [], None
    for directory in directories:
        try:
            found.append(read(directory, split))
        except MissingDataError as error:
            if split == "train" or not Path(directory).is_dir():
                raise
            missing = error
    if not found and missing and required:
        raise missing
    return found
