"""Endless batches of training examples: mixed, shuffled, made ahead, exactly resumable.

Reading and cutting happen in grain's threads (decoding and warping release the interpreter lock),
or in its processes, each with threads of its own, where so much is to be made that the rest, which
holds the lock, would be the limit.
The record and the random numbers at a position of a stream are pure functions of the seed and the
position; host h of n makes the positions h, h + n, h + 2 n, ... An example is a NamedTuple of a
batch type without the batch axis.
"""

import contextlib
import functools
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import grain
import numpy as np
from absl import flags
from jaxtyping import Int, Int64, Shaped

from data_pipeline.images import ImageError
from data_pipeline.schema import DataError
from g_rmi.types import Share

_log = logging.getLogger(__name__)

Example = tuple[np.int64, Any]  # the record's id, and a NamedTuple

# Seconds without a batch after which the records are named that are being read.
_PATIENCE = 60.0

# Groups are so much larger between processes, where each array costs.
_LARGER = 8

# The share of broken records is judged as if at least this many had been seen.
_MIN_SEEN = 100


class Reading(NamedTuple):
    """How the records are read and made into examples.

    Attributes:
      threads: Threads that make examples, of each process.
      processes: Processes beside this one that have the threads; 0 for this one.
    """

    threads: int
    processes: int = 0

    def options(self, batch: int) -> grain.ReadOptions:
        """Two batches of `batch` elements ahead, and work for every thread."""
        ahead = 2 * max(batch, self.threads)
        return grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=ahead)


IN_THREADS = Reading(threads=8)


class Part(NamedTuple):
    """The records of one data set in a stream.

    Attributes:
      rows: What stands for the records.
      ids: Those of the records, by row.
      weight: Share in the stream, relative to the other parts.
      make: Makes the example of a row. Raises ImageError, with a message that names the file, for
        an image that cannot be used.
      name: Names the file of a row.
    """

    rows: Int[np.ndarray, " R"]
    ids: Int64[np.ndarray, " N"]
    weight: float
    make: Callable[[int, np.random.Generator], Any]
    name: Callable[[int], str]


class _Broken(NamedTuple):
    """Takes the place of an example whose image cannot be used."""

    reason: str


class _Passes:
    """The rows of one part over and over, each time in a new order.

    grain's own shuffle takes 60 us per record for sets of a few hundred.
    """

    def __init__(self, part: int, rows: np.ndarray, seed: int):
        self._part = part
        self._rows = rows
        self._seed = seed

    def __len__(self) -> int:
        return 2**60

    def __getitem__(self, position: int) -> tuple[int, int]:
        number, row = divmod(position, len(self._rows))
        order = _order(self._seed, self._part, number, len(self._rows))
        return self._part, int(self._rows[order[row]])


@functools.lru_cache(maxsize=64)  # Of each part two: threads ahead are in the next pass already.
def _order(seed: int, part: int, number: int, rows: int) -> Int64[np.ndarray, " R"]:
    """The order of pass `number` through the rows of a part."""
    return np.random.default_rng((seed, part, number)).permutation(rows)


class _Groups:
    """The records of this host's share of a stream, made into examples a few at a time."""

    def __init__(self, parts: Sequence[Part], group: int, number: int, seed: int, share: Share):
        passes: Any = [_Passes(i, part.rows, seed) for i, part in enumerate(parts)]
        self._records = grain.MapDataset.mix(
            [grain.MapDataset.source(rows) for rows in passes], [part.weight for part in parts]
        )
        self._parts = parts
        self._group = group
        self._number = number
        self._seed = seed
        self._share = share
        self.under_way: dict[int, tuple[float, str]] = {}

    def __len__(self) -> int:
        return 2**48

    def __getitem__(self, group: int) -> list[Example | _Broken]:
        """The examples of a group, in order, and what stands for broken ones."""
        first = group * self._group
        positions = range(self._share.host, 2**62, self._share.hosts)
        return [self._example(p) for p in positions[first : first + self._group]]

    def _example(self, position: int) -> Example | _Broken:
        number, row = self._records[position]  # type: ignore[not-iterable]  # repeats: never None
        part = self._parts[number]
        counter = [0, 0, self._number, position]
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
        self.under_way[position] = time.monotonic(), part.name(row)
        try:
            return part.ids[row], part.make(row, rng)
        except ImageError as error:
            return _Broken(str(error))
        finally:
            del self.under_way[position]


class _Packed(NamedTuple):
    """The examples of a group on their way between processes: few arrays, which are what costs.

    Attributes:
      kind: Of the examples that are not broken; None if all are.
      columns: Their ids and fields, each stacked.
      broken: By place in the group.
    """

    kind: type | None
    columns: list[np.ndarray]
    broken: dict[int, _Broken]


def _pack(group: list[Example | _Broken]) -> _Packed:
    broken = {i: example for i, example in enumerate(group) if isinstance(example, _Broken)}
    whole = [example for example in group if not isinstance(example, _Broken)]
    kind = type(whole[0][1]) if whole else None
    return _Packed(kind, stack([(number, *fields) for number, fields in whole]), broken)


def _unpack(packed: _Packed) -> list[Example | _Broken]:
    kind: Any = packed.kind
    group: list[Any] = [(number, kind(*fields)) for number, *fields in zip(*packed.columns)]
    for place, broken in sorted(packed.broken.items()):
        group.insert(place, broken)
    return group


def _begin(process: int, processes: int) -> None:
    """What a reader process does first."""
    del process, processes
    cv2.setNumThreads(1)  # It has threads of its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first one ends them.
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # It was killed, and nobody takes what is made here.

    threading.Thread(target=follow, daemon=True).start()


class Stream(Iterator):
    """One host's share of an endless mixture, its examples made ahead in threads or processes.

    Attributes:
      position: Examples taken so far, broken ones included.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        number: int = 0,
        seed: int,
        share: Share,
        reading: Reading,
        batch_size: int,
        group: int = 1,
    ):
        """Opens a stream.

        Args:
          parts: What is mixed; each repeats in a new order each time it is through.
          number: Streams of different numbers draw different random numbers.
          seed: Of order and random numbers.
          share: Of this host.
          reading: In how many threads or processes.
          batch_size: Two batches are made ahead.
          group: Examples that a thread makes in one go; it pays where they take little time.
        """
        group *= _LARGER if reading.processes else 1
        groups: Any = _Groups(parts, group, number, seed, share)
        self._under_way = None if reading.processes else groups.under_way
        self._reading = reading
        self._ahead = -(-batch_size // (group * max(1, reading.processes)))
        self._source = grain.MapDataset.source(groups)
        self._size = group
        self._group: list[Any] = []
        self._open(0)
        self.position = 0

    def _open(self, first: int) -> None:
        """Starts making the groups from the first on."""
        source, options = self._source[first:], self._reading.options(self._ahead)
        if self._reading.processes:
            if not flags.FLAGS.is_parsed():  # grain's processes ask for options it has as flags
                flags.FLAGS.mark_as_parsed()
            workers = grain.MultiprocessingOptions(
                num_workers=self._reading.processes, per_worker_buffer_size=1
            )
            made = source.map(_pack).to_iter_dataset(options).mp_prefetch(workers, _begin)
            self._groups = iter(made.map(_unpack))
        else:
            self._groups = iter(source.to_iter_dataset(options))

    def __next__(self) -> Example | _Broken:
        """The next example, or what stands for a broken one."""
        if not self._group:
            self._group = next(self._groups)[self.position % self._size :]
        self.position += 1
        return self._group.pop(0)

    def seek(self, position: int) -> None:
        """Goes to a position and drops what was made ahead."""
        self.close()
        self.position = position
        self._open(position // self._size)
        self._group = []

    def under_way(self) -> list[tuple[float, str]] | None:
        """The records that threads are reading: since when, and the file's name; oldest first.

        None where other processes read.
        """
        return None if self._under_way is None else sorted(self._under_way.copy().values())

    def close(self) -> None:
        """Stops the threads or processes."""
        self._group = []  # It may lie in their memory.
        self._groups.close()


class Batches(Iterator):
    """Endless batches, each of one stream's examples, as the loop takes them.

    Attributes:
      seen: Records read so far, over all restarts.
      skipped: Those of them that were broken and left out.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        schedule: Callable[[int], int] = lambda step: 0,
        *,
        batch_size: int,
        max_bad_share: float,
        hosts: int,
    ):
        """Makes batches of streams.

        Args:
          streams: Each gives examples of its own shape.
          schedule: The stream of batch n, on all hosts.
          batch_size: Examples per batch on this host.
          max_bad_share: Share of broken records past which an error is raised.
          hosts: Number of hosts.
        """
        self._streams = streams
        self._schedule = schedule
        self._step = 0
        self._batch_size = batch_size
        self._max_bad_share = max_bad_share
        self._hosts = hosts
        self.seen = 0
        self.skipped = 0
        self._reasons: list[str] = []

    def __next__(self) -> tuple[Int64[np.ndarray, " B"], Any]:
        """The next batch: record ids, and the NamedTuple that the examples are, of arrays.

        Raises:
          DataError: More than the configured share of the records is broken.
        """
        stream = self._streams[self._schedule(self._step)]
        try:
            with _watched(stream):
                examples = [self._next_example(stream) for _ in range(self._batch_size)]
        except BaseException:
            self.close()  # Else Ctrl-C would wait until all that is read ahead is made.
            raise
        self._step += 1
        ids, *fields = stack([(number, *fields) for number, fields in examples])
        return ids, type(examples[0][1])(*fields)

    def _next_example(self, stream: Stream) -> Example:
        while True:
            example = next(stream)
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

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch, as JSON values."""
        return {
            "step": self._step,
            "positions": [stream.position for stream in self._streams],
            "hosts": self._hosts,
            "seen": self.seen,
            "skipped": self.skipped,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where `get_state` was called, also on another number of hosts.

        Raises:
          DataError: The position is of another version of this project, or of other orientations.
        """
        if len(state.get("positions", ())) != len(self._streams):
            raise DataError(
                "the checkpoint's position in the data is of another version: start anew in "
                "another --workdir, from these weights with --init"
            )
        self._step = state["step"]
        for stream, position in zip(self._streams, state["positions"], strict=True):
            stream.seek(-(-position * state["hosts"] // self._hosts))
        self.seen, self.skipped = state["seen"], state["skipped"]

    def close(self) -> None:
        """Stops the reader threads."""
        for stream in self._streams:
            stream.close()


@contextlib.contextmanager
def _watched(stream: Stream) -> Iterator[None]:
    """Says what is being read as long as a batch does not come, such as from a dead file server."""
    begin, done = time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(_PATIENCE):
            now = time.monotonic()
            reading = stream.under_way()
            if reading is None:
                names = "unknown, --processes 0 would tell"
            else:
                names = ", ".join(f"{n} for {now - since:.0f} s" for since, n in reading[:3])
            _log.warning("no batch for %.0f s; being read: %s", now - begin, names or "nothing")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def alternate(share: float) -> Callable[[int], int]:
    """A schedule of two streams, evenly spread: `share` of the batches come from the first."""

    def stream(step: int) -> int:
        return int(math.floor((step + 1) * share + 0.5) == math.floor(step * share + 0.5))

    return stream


def mixing_weights(weights: Sequence[float], count: int) -> list[float]:
    """The configured weights of `count` data sets, or equal ones.

    Raises:
      DataError: There is no data set, or the weights do not fit.
    """
    if not count:
        raise DataError("no data set to train on")
    if weights and len(weights) != count:
        raise DataError(f"weights = {weights}: {len(weights)} weights for {count} data directories")
    if any(weight <= 0 for weight in weights):
        raise DataError(f"weights = {weights}: must be positive")
    return list(weights) or [1.0] * count


def stack(rows: Sequence[tuple]) -> list[Shaped[np.ndarray, "B ..."]]:
    """Rows of fields to one array per field; three times as fast as `np.stack` for images."""
    arrays = []
    for column in zip(*rows):
        array = np.empty((len(rows), *np.shape(column[0])), column[0].dtype)
        for i, value in enumerate(column):
            array[i] = value
        arrays.append(array)
    return arrays
