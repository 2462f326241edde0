"""Reads what `data_pipeline.prepare` wrote: an ArrayRecord data set of TFDS, as a `Dataset`.

The images stay in the records. The tables of images and people lie beside them as
`tables_{split}.npz`, so that opening a data set does not read the images.
"""

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from data_pipeline.readers.reader import Report, refuse
from data_pipeline.schema import (
    SPLITS,
    DataError,
    Dataset,
    Images,
    MissingDataError,
    Outline,
    People,
)
from g_rmi.skeleton import COCO, Skeleton

NAME = "coco_person"
# Of people; sets of several classes are not packed.
_COLUMNS = [field.name for field in dataclasses.fields(People) if field.name != "classes"]


def find_prepared(directory: str | Path) -> Path | None:
    """The directory of the records: `directory` itself, or the newest version below it."""
    directory = Path(directory)
    candidates = [directory, *sorted(directory.glob(f"{NAME}/*"), key=_version, reverse=True)]
    return next((path for path in candidates if (path / "dataset_info.json").is_file()), None)


def _version(path: Path) -> tuple[int, ...]:
    parts = path.name.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def write_tables(directory: Path, dataset: Dataset) -> None:
    """Writes the tables of a split beside its records."""
    columns = {"images": [f.name for f in dataclasses.fields(Images)], "people": _COLUMNS}
    tables = {
        f"{table}.{name}": np.asarray(getattr(getattr(dataset, table), name))
        for table, names in columns.items()
        for name in names
    }
    tables["skeleton"] = np.array(json.dumps(dataset.skeleton.to_dict()))
    with open(_tables(directory, dataset.split), "wb") as file:
        np.savez(file, allow_pickle=False, **tables, **_polygons(dataset.outlines))


def splits(directory: Path) -> tuple[str, ...]:
    """The splits that a prepared directory has."""
    found = find_prepared(directory)
    return tuple(split for split in SPLITS if found and _tables(found, split).is_file())


def read(directory: Path, split: str, report: Report = refuse) -> Dataset:
    """Opens a split; see `Reader.read`. What was prepared has no problems to report."""
    del report
    found = find_prepared(directory)
    if found is None or not _tables(found, split).is_file():
        there = ", ".join(splits(directory)) or "none"
        raise MissingDataError(f"{found or directory}: no split {split!r}; found {there}")
    path = _tables(found, split)
    with (
        _undamaged(path),
        open(path, "rb") as file,
        np.load(file, allow_pickle=False) as tables,
    ):
        skeleton = COCO  # which tables do not say that are older than other keypoint sets
        if "skeleton" in tables:
            skeleton = Skeleton.from_dict(json.loads(str(tables["skeleton"])))
        columns = {f.name: tables[f"images.{f.name}"] for f in dataclasses.fields(Images)}
        columns["file_name"] = names = tuple(map(str, columns["file_name"]))
        people = People(**{name: tables[f"people.{name}"] for name in _COLUMNS})
        outlines = _outlines(tables)
    source = Records(found, split, names)
    return Dataset(directory, split, skeleton, Images(**columns), people, source, outlines)


def _polygons(outlines: Mapping[int, Outline]) -> dict[str, np.ndarray]:
    """All polygons end to end: whose each is, how many points it has, and the points."""
    polygons = [(person, polygon) for person, outline in outlines.items() for polygon in outline]
    points = [np.zeros((0, 2), np.float32), *(polygon for _, polygon in polygons)]
    return {
        "outlines.person": np.array([person for person, _ in polygons], np.int64),
        "outlines.length": np.array([len(polygon) for _, polygon in polygons], np.int64),
        "outlines.point": np.concatenate(points),
    }


def _outlines(tables: Mapping[str, np.ndarray]) -> dict[int, Outline]:
    """Undoes `_polygons`; tables written before there were outlines have none."""
    if "outlines.person" not in tables:
        return {}
    ends = np.cumsum(tables["outlines.length"])
    polygons = np.split(tables["outlines.point"], ends[:-1]) if len(ends) else []
    outlines: dict[int, Outline] = {}
    for person, polygon in zip(tables["outlines.person"].tolist(), polygons):
        outlines[person] = (*outlines.get(person, ()), polygon)
    return outlines


class Records:
    """Encoded images in the ArrayRecord files of a TFDS data set."""

    def __init__(self, directory: Path, split: str, file_names: tuple[str, ...]):
        # TFDS takes a second to import, and only prepared data needs it.
        import tensorflow_datasets as tfds

        _check_features(directory / "features.json")
        self._directory = directory
        self._file_names = file_names
        with _undamaged(directory):
            builder = tfds.builder_from_directory(directory)
            self._records = builder.as_data_source(
                split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
            len(self._records)  # opens the files
        # Parsing the image alone is 2.5 times as fast as parsing the people, too.
        self._features = tfds.features.FeaturesDict({"image": builder.info.features["image"]})
        self._decoders = {"image": tfds.decode.SkipDecoding()}
        if len(self._records) != len(file_names):
            raise DataError(
                f"{directory}: {len(self._records)} records of split {split!r}, but "
                f"{len(file_names)} images in its tables"
            )

    def read(self, index: int) -> bytes:
        """The encoded image of a record."""
        try:
            record = cast(Any, self._records)[index]
            features: Any = self._features
            return features.deserialize_example_np(record, decoders=self._decoders)["image"]
        except Exception as error:  # of the library's own types
            reason = f"the record is damaged or cut off ({error!s:.100}); copy or prepare it again"
            raise OSError(errno.EIO, reason.replace("\n", " ")) from None

    def name(self, index: int) -> str:
        """The record, by the original file name."""
        return f"{self._directory}: record {index} ({self._file_names[index]})"


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """A DataError that names the file in place of what damage shows up as, any of a dozen types."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        text = f"{path}: missing, damaged or cut off ({reason:.200}); copy or prepare it again"
        raise DataError(text) from error


def _check_features(path: Path) -> None:
    """TFDS imports whatever modules this file names: only its own may be named."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable: {error}") from None
    for name in _class_names(content):
        if not name.startswith("tensorflow_datasets.core.features."):
            raise DataError(f"{path}: {name!r} is no feature of TensorFlow Datasets: not imported")


def _class_names(node: Any) -> Iterator[str]:
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in ("pythonClassName", "python_class_name", "type"):
            yield str(value)
        yield from _class_names(value)


def _tables(directory: Path, split: str) -> Path:
    return directory / f"tables_{split}.npz"
