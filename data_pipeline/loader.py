"""Batches of person crops: for training, endless, shuffled and resumable; for evaluation, once.

Reading and cropping happen in grain's threads (decoding and warping release the interpreter
lock). The record and the augmentation at a position of the training stream are pure functions of
the seed and the position; host h of n reads the positions h, h + n, h + 2 n, ...
"""

import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import grain
import numpy as np
from jaxtyping import Int64, Shaped

from data_pipeline.boxes import PersonBoxes
from data_pipeline.images import ImageError, cut
from data_pipeline.schema import DataError, Dataset
from data_pipeline.transforms import PoseExample, PoseExamples
from g_rmi.config import PoseDataConfig
from g_rmi.geometry import box_to_crop, pose_box

_log = logging.getLogger(__name__)

Arrays = dict[str, Shaped[np.ndarray, "B ..."]]

# The share of broken records is judged as if at least this many had been seen.
_MIN_SEEN = 100

_GROUP = 4  # Examples that a thread makes in one go.


class _Broken(NamedTuple):
    """Takes the place of an example whose picture cannot be used."""

    reason: str


class _Passes:
    """The people of one data set over and over, each time in a new order.

    grain's own shuffle takes 60 us per record for sets of a few hundred.
    """

    def __init__(self, dataset: int, people: np.ndarray, seed: int):
        self._dataset = dataset
        self._people = people

        @functools.lru_cache(maxsize=2)  # Threads that read ahead are in the next pass already.
        def order(number: int) -> np.ndarray:
            return np.random.default_rng((seed, dataset, number)).permutation(people)

        self._order = order

    def __len__(self) -> int:
        return 2**60

    def __getitem__(self, position: int) -> tuple[int, int]:
        number, row = divmod(position, len(self._people))
        return self._dataset, int(self._order(number)[row])


class _Groups:
    """The records of this host's share of a stream, made into examples a few at a time.

    Handing over single examples between threads would cost several percent of the rate.
    """

    def __init__(
        self,
        stream: grain.MapDataset,
        makers: Sequence[PoseExamples],
        *,
        seed: int,
        host: int,
        hosts: int,
    ):
        self._stream = stream
        self._makers = makers
        self._seed = seed
        self._host = host
        self._hosts = hosts

    def __len__(self) -> int:
        return 2**48

    def __getitem__(self, group: int) -> list[PoseExample | _Broken]:
        first = group * _GROUP
        return [self._make(i * self._hosts + self._host) for i in range(first, first + _GROUP)]

    def _make(self, position: int) -> PoseExample | _Broken:
        number, person = self._stream[position]  # type: ignore[not-iterable]  # repeats: never None
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 0, position]))
        try:
            return self._makers[number](person, rng)
        except (ImageError, OSError) as error:
            dataset = self._makers[number].dataset
            return _Broken(_reason(dataset, int(dataset.people.image[person]), error))


class PoseBatches(Iterator):
    """Endless batches of training examples; see `pose_batches`.

    Attributes:
      seen: Records read so far, over all restarts.
      skipped: Those of them that were broken and left out.
    """

    def __init__(
        self, groups: grain.IterDataset, *, batch_size: int, max_bad_share: float, hosts: int
    ):
        self._groups = iter(groups)
        self._group: list[PoseExample | _Broken] = []
        self._position = 0
        self._batch_size = batch_size
        self._max_bad_share = max_bad_share
        self._hosts = hosts
        self.seen = 0
        self.skipped = 0
        self._reasons: list[str] = []

    def __next__(self) -> tuple[Int64[np.ndarray, " B"], Arrays]:
        """The next batch: annotation ids, and arrays under `PoseBatch`'s field names.

        Raises:
          DataError: More than the configured share of the records is broken.
        """
        try:
            examples = [self._next_example() for _ in range(self._batch_size)]
        except BaseException:
            self.close()  # Else Ctrl-C would wait until all that is read ahead is made.
            raise
        arrays = _stack(PoseExample._fields, examples)
        return arrays.pop("record_id"), arrays

    def _next_example(self) -> PoseExample:
        while True:
            if not self._group:
                self._group = next(self._groups)[self._position % _GROUP :]
            example = self._group.pop(0)
            self._position += 1
            self.seen += 1
            if not isinstance(example, _Broken):
                return example
            self.skipped += 1
            _log.warning("skipped %s", example.reason)
            self._reasons = [*self._reasons[-2:], example.reason]
            if self.skipped > self._max_bad_share * max(self.seen, _MIN_SEEN):
                raise DataError(
                    f"{self.skipped} of {self.seen} records are broken, more than "
                    f"max_bad_share = {self._max_bad_share}; the last: {'; '.join(self._reasons)}"
                )

    def get_state(self) -> dict[str, int]:
        """The position after the last batch, as JSON values."""
        return {
            "position": self._position,
            "hosts": self._hosts,
            "seen": self.seen,
            "skipped": self.skipped,
        }

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes on where `get_state` was called, also on another number of hosts."""
        self._position = -(-state["position"] * state["hosts"] // self._hosts)
        self._groups.set_state({"next_index": self._position // _GROUP})
        self._group = []
        self.seen, self.skipped = state["seen"], state["skipped"]

    def close(self) -> None:
        """Stops the reader threads."""
        self._groups.close()


def pose_batches(
    datasets: Sequence[Dataset],
    *,
    height: int,
    width: int,
    config: PoseDataConfig,
    batch_size: int,
    seed: int,
    host: int = 0,
    hosts: int = 1,
) -> PoseBatches:
    """Mixes, shuffles, crops and batches the people of some data sets.

    Every data set is repeated in a new order each time it is through; `config.weights` are the
    shares of the data sets in the stream.

    Args:
      datasets: Training splits.
      height: Crop rows.
      width: Crop columns.
      config: Mixture, augmentation, threads.
      batch_size: Examples per batch on this host.
      seed: Of order and augmentation.
      host: Index of this host.
      hosts: Number of hosts.

    Raises:
      DataError: A data set without a person to train on, or weights that do not fit.
    """
    _check_mixture(datasets, config)
    cv2.setNumThreads(1)  # The pictures are read in parallel already.
    streams = []
    for i, dataset in enumerate(datasets):
        people = trainable(dataset, config.min_keypoints)
        if not len(people):
            raise DataError(
                f"{dataset}: no person with at least {config.min_keypoints} annotated joints"
            )
        passes: Any = _Passes(i, people, seed)  # grain's Protocol wants what it does not use
        streams.append(grain.MapDataset.source(passes))
    makers = [
        PoseExamples(
            dataset, height, width, config.augmentation, config.max_others, config.unlabelled
        )
        for dataset in datasets
    ]

    stream = grain.MapDataset.mix(streams, config.weights or [1.0] * len(streams))
    groups: Any = _Groups(stream, makers, seed=seed, host=host, hosts=hosts)
    return PoseBatches(
        grain.MapDataset.source(groups).to_iter_dataset(
            _read_options(config.threads, -(-batch_size // _GROUP))
        ),
        batch_size=batch_size,
        max_bad_share=config.max_bad_share,
        hosts=hosts,
    )


def trainable(dataset: Dataset, min_keypoints: int) -> Int64[np.ndarray, " R"]:
    """Rows of the people to train on: no crowds, enough joints, a box with an inside."""
    people = dataset.people
    inside = (people.box[:, 2:] > people.box[:, :2]).all(axis=1)
    return np.flatnonzero(~people.is_crowd & inside & (people.num_keypoints >= min_keypoints))


def box_crops(
    dataset: Dataset,
    boxes: PersonBoxes,
    *,
    height: int,
    width: int,
    box_scale: float,
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
    threads: int = 8,
) -> Iterator[Arrays]:
    """Cuts the crops of a table of boxes for evaluation, every row once over all hosts.

    Args:
      dataset: Where the pictures are.
      boxes: The table.
      height: Crop rows.
      width: Crop columns.
      box_scale: Enlargement of the boxes after extending them to the crop's aspect.
      batch_size: Crops per batch on this host.
      host: Index of this host.
      hosts: Number of hosts; all get the same number of batches.
      threads: Reader threads.

    Yields:
      `image` uint8 [B, H, W, 3]; `box` float32 [B, 4], the enlarged box in image pixels;
      `index` int64 [B], the row in the table; `weight` float32 [B]. The last batch is filled with
      rows of weight 0 and index -1.

    Raises:
      DataError: A picture is broken; names the file.
    """
    cv2.setNumThreads(1)
    windows = pose_box(boxes.box, aspect=height / width, scale=box_scale)

    def crop(row: int) -> tuple[np.ndarray, np.ndarray, np.int64, np.float32]:
        image_row = int(boxes.image[row])
        size = (int(dataset.images.width[image_row]), int(dataset.images.height[image_row]))
        affine = box_to_crop(windows[row], height=height, width=width)
        try:
            data = dataset.source.read(image_row)
            image = cut(data, affine, height=height, width=width, size=size)
        except (ImageError, OSError) as error:
            raise DataError(_reason(dataset, image_row, error)) from None
        return image, windows[row].astype(np.float32), np.int64(row), np.float32(1)

    empty = (
        np.zeros((height, width, 3), np.uint8),
        np.zeros(4, np.float32),
        np.int64(-1),
        np.float32(0),
    )
    names = ("image", "box", "index", "weight")
    share = -(-len(boxes) // hosts)
    rows = list(range(host, len(boxes), hosts))
    stream = grain.MapDataset.source(rows).map(crop)
    crops = iter(stream.to_iter_dataset(_read_options(threads, batch_size)))
    try:
        for _ in range(-(-share // batch_size)):
            batch = list(itertools.islice(crops, batch_size))
            batch += [empty] * (batch_size - len(batch))
            yield _stack(names, batch)
    finally:
        crops.close()


def _stack(names: Sequence[str], rows: Sequence[tuple]) -> Arrays:
    """Rows of fields to one array per field; three times as fast as `np.stack` for pictures."""
    arrays = {}
    for name, column in zip(names, zip(*rows)):
        arrays[name] = np.empty((len(rows), *np.shape(column[0])), column[0].dtype)
        for i, value in enumerate(column):
            arrays[name][i] = value
    return arrays


def _reason(dataset: Dataset, image: int, error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{dataset.source.name(image)}: {text}"


def _read_options(threads: int, batch: int) -> grain.ReadOptions:
    """Two batches of `batch` elements ahead, and work for every thread."""
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * max(batch, threads))


def _check_mixture(datasets: Sequence[Dataset], config: PoseDataConfig) -> None:
    if not datasets:
        raise DataError("no data set to train on")
    weights: Any = config.weights
    if weights and len(weights) != len(datasets):
        raise DataError(
            f"weights = {weights}: {len(weights)} weights for {len(datasets)} data directories"
        )
    if any(weight <= 0 for weight in weights):
        raise DataError(f"weights = {weights}: must be positive")
    names = {dataset.skeleton.names for dataset in datasets}
    if len(names) > 1:
        raise DataError(f"data sets with different joints cannot be mixed: {sorted(names)}")
