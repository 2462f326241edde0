r"""The TFDS builder of a data directory: images, people, keypoints.

    python -m data_pipeline.prepare --data DIR --out OUT

is the command; it needs no TensorFlow. Where TensorFlow is installed, TFDS's own command line,
which imports it, does the same:

    tfds build data_pipeline/readers/tfds_builder.py --file_format=array_record \
        --manual_dir=DIR --data_dir=OUT

With options for Apache Beam, of either command, Beam's workers read and pack the images.
"""

from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import track

from data_pipeline.images import ImageError, check_size
from data_pipeline.readers import read, splits_of
from data_pipeline.readers.records import write_tables
from data_pipeline.schema import DataError, Dataset
from g_rmi.skeleton import COCO, Skeleton


class CocoPerson(tfds.core.GeneratorBasedBuilder):
    """People with keypoints, crowds and original ids included.

    Records keep the order of the annotation file. Beside them lie the tables of all images and
    people (`data_pipeline.readers.records`), so that people can be indexed without reading images.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    manual_dir is a directory in COCO's layout: annotations/person_keypoints_{train,val}2017.json,
    train2017/ and val2017/ (or in another that data_pipeline.readers reads).
    """

    def __init__(self, *, skeleton: Skeleton = COCO, **options: Any):
        """A builder of sets with one keypoint set; see `tfds.core.DatasetBuilder`."""
        self._skeleton = skeleton
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        joints = len(self._skeleton)
        return tfds.core.DatasetInfo(
            builder=self,
            description="People with keypoints, from a data directory.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image/id": np.int64,
                    "image/filename": tfds.features.Text(),
                    "image/width": np.int32,
                    "image/height": np.int32,
                    "image/boxes_complete": np.bool_,
                    "persons": tfds.features.Sequence(
                        {
                            "id": np.int64,
                            # (x0, y0, x1, y1) in pixels, the frame of g_rmi.types.
                            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                            "area": np.float32,
                            "is_crowd": np.bool_,
                            "keypoints": tfds.features.Tensor(shape=(joints, 2), dtype=np.float32),
                            "visibility": tfds.features.Tensor(shape=(joints,), dtype=np.uint8),
                        }
                    ),
                }
            ),
            homepage="https://cocodataset.org",
            disable_shuffling=True,
        )

    _beam = False

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        self._beam = bool(download_config.beam_options or download_config.beam_runner)
        super()._download_and_prepare(dl_manager, download_config)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        directory = Path(dl_manager.manual_dir)
        return {
            split: self._generate_examples(read(directory, split)) for split in splits_of(directory)
        }

    def _generate_examples(self, dataset: Dataset) -> Any:
        """The numbered examples of a split: an iterator, or what yields them on Beam's workers."""
        if difference := dataset.skeleton.difference(self._skeleton):
            raise DataError(
                f"{dataset.directory}: split {dataset.split!r} has {difference}; a set with joints "
                "of its own is prepared by `python -m data_pipeline.prepare`"
            )
        if not (count := len(dataset.images)):
            raise DataError(f"{dataset.directory}: split {dataset.split!r} has no picture to pack")
        write_tables(Path(self.data_path), dataset)
        if not self._beam:
            return (_example(dataset, i) for i in _tracked(count, dataset.split))
        import apache_beam as beam

        # The tables are too large to be sent with each example: every worker reads its own.
        example = partial(_read_example, dataset.directory, dataset.split)
        return beam.Create(range(count)) | beam.Reshuffle() | "Read" >> beam.Map(example)


def _tracked(count: int, split: str) -> Iterable[int]:
    """Numbers of pictures, with a bar if somebody sees it."""
    console = Console(stderr=True)
    options: Any = {"console": console, "transient": True, "disable": not console.is_terminal}
    return track(range(count), description=f"packing {split}", **options)


_read = lru_cache(read)


def _read_example(directory: Path, split: str, i: int) -> tuple[int, dict[str, Any]]:
    return _example(_read(directory, split), i)


def _example(dataset: Dataset, i: int) -> tuple[int, dict[str, Any]]:
    """Image i with its people."""
    images, people = dataset.images, dataset.people
    try:
        image = dataset.source.read(i)
        check_size(image, (int(images.width[i]), int(images.height[i])))
    except (OSError, ImageError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{dataset.source.name(i)}: {text}") from None
    return i, {
        "image": image,
        "image/id": images.id[i],
        "image/filename": images.file_name[i],
        "image/width": images.width[i],
        "image/height": images.height[i],
        "image/boxes_complete": images.boxes_complete[i],
        "persons": [
            {
                "id": people.id[j],
                "bbox": people.box[j].astype(np.float32),
                "area": np.float32(people.area[j]),
                "is_crowd": people.is_crowd[j],
                "keypoints": people.keypoints[j],
                "visibility": people.visibility[j],
            }
            for j in range(len(people))[dataset.people_of(i)]
        ],
    }
