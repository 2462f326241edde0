"""Annotation formats: a file for each, and its place in `READERS`; those written, in `WRITERS`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline.readers import coco, cvat, label_studio, labelme, mpii, records, yolo
from data_pipeline.readers.reader import Reader, Report, Writer, refuse
from data_pipeline.schema import SPLITS, DataError, Dataset

# The first that finds a split in a directory reads it.
READERS: tuple[Reader, ...] = (records, mpii, coco, yolo, cvat, label_studio, labelme)
WRITERS: Mapping[str, Writer] = {
    "coco": coco,
    "yolo": yolo,
    "cvat": cvat,
    "label-studio": label_studio,
    "labelme": labelme,
}


def reader_of(directory: str | Path) -> Reader:
    """The reader of a data directory's format; COCO's, which says what it misses, of no format."""
    return next((r for r in READERS if r.splits(Path(directory))), coco)


def splits_of(directory: str | Path) -> tuple[str, ...]:
    """The splits of a data directory in any format; a MissingDataError if it has none."""
    found = reader_of(directory).splits(Path(directory))
    return found or (read(directory, SPLITS[0]).split,)  # which is not there: raises


def read(
    directory: str | Path, split: str, report: Report = refuse, *, categories: Sequence[str] = ()
) -> Dataset:
    """Reads one split of a data directory in any format; see `Reader.read`.

    With names of `categories`, or "all" that have joints, each is a class with joints of its own;
    without, it is people who are read, or whatever else there is one category of.

    Raises:
      MissingDataError: No such directory or split; names the nearest thing that is there.
      DataError: The data cannot be used; names the file, the annotation and the field.
    """
    reader = reader_of(directory)
    if not categories:
        return reader.read(Path(directory), split, report)
    if reader is not coco:
        form = reader.__name__.rpartition(".")[2]  # type: ignore[unresolved-attribute]
        wanted = "classes are read from COCO's annotation files alone"
        raise DataError(f"{directory}: category {categories[0]!r} of a set in {form}: {wanted}")
    return coco.read(Path(directory), split, report, categories)
