"""Endless batches of training examples: mixed, shuffled, made ahead, exactly resumable.

Reading and cutting happen in grain's threads (decoding and warping release the interpreter lock),
or in its processes, each with threads, where the rest, which holds the lock, would be the limit.
The record and the random numbers at a position of a stream are pure functions of the seed and the
position; host h of n makes the positions h, h + n, h + 2 n, ... An example is a NamedTuple of a
batch type without the batch axis.
"""

import contextlib
import dataclasses
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
Made = Example | ImageError  # which takes the place of an example whose image cannot be used

_PATIENCE = 60.0  # Seconds without a batch after which it is said which records are being read.
_LARGER = 8  # Groups are so much larger between processes, where each array costs.
_MIN_SEEN = 100  # The share of broken records is judged as if at least so many had been seen.


def read_options(threads: int, batch: int) -> grain.ReadOptions:
    """Two batches of `batch` elements are read ahead, and work for every thread."""
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * max(batch, threads))


class Part(NamedTuple):
    """The records of one data set in a stream; `make` raises ImageError for one to leave out."""

    rows: Int[np.ndarray, " R"]  # what stands for the records
    ids: Int64[np.ndarray, " N"]  # of the records, by row
    weight: float  # share in the stream, relative to the other parts
    make: Callable[[int, np.random.Generator], Any]  # the example of a row
    name: Callable[[int], str]  # the file of a row


@dataclasses.dataclass(eq=False, repr=False)
class _Passes:
    """The rows of one part over and over, each time in a new order.

    grain's own shuffle takes 60 us per record for sets of a few hundred.
    """

    part: int
    rows: np.ndarray
    seed: int

    def __len__(self) -> int:
        return 2**60

    def __getitem__(self, position: int) -> tuple[int, int]:
        number, row = divmod(position, len(self.rows))
        order = _order(self.seed, self.part, number, len(self.rows))
        return self.part, int(self.rows[order[row]])


@functools.lru_cache(maxsize=64)  # Of each part two: threads ahead are in the next pass already.
def _order(seed: int, part: int, number: int, rows: int) -> Int64[np.ndarray, " R"]:
    """The order of pass `number` through the rows of a part."""
    return np.random.default_rng((seed, part, number)).permutation(rows)


@dataclasses.dataclass(eq=False, repr=False)
class _Groups:
    """The records of this host's share of a stream, made into examples a few at a time."""

    parts: Sequence[Part]
    group: int
    number: int
    seed: int
    share: Share
    under_way: dict[int, tuple[float, str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        passes: Any = [_Passes(i, part.rows, self.seed) for i, part in enumerate(self.parts)]
        self._records = grain.MapDataset.mix(
            [grain.MapDataset.source(rows) for rows in passes], [part.weight for part in self.parts]
        )

    def __len__(self) -> int:
        return 2**48

    def __getitem__(self, group: int) -> list[Made]:
        """The examples of a group, in order, and what stands for broken ones."""
        first = group * self.group
        positions = range(self.share.host, 2**62, self.share.hosts)
        return [self._example(p) for p in positions[first : first + self.group]]

    def _example(self, position: int) -> Made:
        number, row = self._records[position]  # type: ignore[not-iterable]  # repeats: never None
        part = self.parts[number]
        counter = [0, 0, self.number, position]
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=counter))
        self.under_way[position] = time.monotonic(), part.name(row)
        try:
            return part.ids[row], part.make(row, rng)
        except ImageError as error:
            return error.with_traceback(None)  # which would keep the image
        finally:
            del self.under_way[position]


class _Packed(NamedTuple):
    """The examples of a group on their way between processes: few arrays, which are what costs."""

    kind: type | None  # of the examples that are not broken; None if all are
    columns: list[np.ndarray]  # their ids and fields, each stacked
    broken: dict[int, ImageError]  # by place in the group


def _pack(group: list[Made]) -> _Packed:
    broken = {i: example for i, example in enumerate(group) if isinstance(example, ImageError)}
    whole = [example for example in group if not isinstance(example, ImageError)]
    kind = type(whole[0][1]) if whole else None
    return _Packed(kind, stack([(number, *fields) for number, fields in whole]), broken)


def _unpack(packed: _Packed) -> list[Made]:
    kind: Any = packed.kind
    group: list[Any] = [(number, kind(*fields)) for number, *fields in zip(*packed.columns)]
    for place, broken in sorted(packed.broken.items()):
        group.insert(place, broken)
    return group


def _begin(*_: int) -> None:
    """What a reader process does first."""
    cv2.setNumThreads(1)  # It has threads of its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first one ends them.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)  # It was killed, and nobody takes what is made here.


class Stream(Iterator):
    """One host's share of an endless mixture, its examples made two batches ahead.

    Each part repeats in a new order each time it is through; streams of different numbers draw
    different random numbers. Threads, of this process or of each of some others, make `group`
    examples in one go, which pays where they take little time. `position` counts the examples that
    were taken, broken ones included.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        number: int = 0,
        seed: int,
        share: Share,
        threads: int,
        processes: int,
        batch_size: int,
        group: int,
    ):
        group *= _LARGER if processes else 1
        groups: Any = _Groups(parts, group, number, seed, share)
        self._under_way = None if processes else groups.under_way
        self._processes = processes
        self._options = read_options(threads, -(-batch_size // (group * max(1, processes))))
        self._source = grain.MapDataset.source(groups)
        self._size = group
        self._start(0)

    def _start(self, position: int) -> None:
        self.position = position
        self._group: list[Any] = []
        source, options = self._source[position // self._size :], self._options
        if self._processes:
            if not flags.FLAGS.is_parsed():  # grain's processes ask for options it has as flags
                flags.FLAGS.mark_as_parsed()
            workers = grain.MultiprocessingOptions(self._processes, per_worker_buffer_size=1)
            made = source.map(_pack).to_iter_dataset(options).mp_prefetch(workers, _begin)
            self._groups = iter(made.map(_unpack))
        else:
            self._groups = iter(source.to_iter_dataset(options))

    def __next__(self) -> Made:
        """The next example, or what stands for a broken one."""
        if not self._group:
            self._group = next(self._groups)[self.position % self._size :]
        self.position += 1
        return self._group.pop(0)

    def seek(self, position: int) -> None:
        """Goes to a position and drops what was made ahead."""
        self.close()
        self._start(position)

    def under_way(self) -> list[tuple[float, str]] | None:
        """Since when which files are being read, oldest first; None where processes read."""
        return None if self._under_way is None else sorted(self._under_way.copy().values())

    def close(self) -> None:
        """Stops the threads or processes."""
        self._group = []  # It may lie in their memory.
        self._groups.close()


@dataclasses.dataclass(eq=False)
class Batches(Iterator):
    """Endless batches, each of one stream's examples, as the loop takes them."""

    streams: Sequence[Stream]  # each gives examples of its own shape
    schedule: Callable[[int], int]  # the stream of batch n, on all hosts
    _: dataclasses.KW_ONLY
    batch_size: int  # examples per batch on this host
    max_bad_share: float  # share of broken records past which an error is raised
    hosts: int  # number of hosts
    seen: int = dataclasses.field(default=0, init=False)  # records read so far, over all restarts
    # those of them that were broken and left out
    skipped: int = dataclasses.field(default=0, init=False)

    def __post_init__(self):
        self._step = 0
        self._reasons: list[str] = []

    def __next__(self) -> tuple[Int64[np.ndarray, " B"], Any]:
        """The next batch: record ids, and the NamedTuple that the examples are, of arrays.

        A DataError if more than the configured share of the records is broken.
        """
        stream = self.streams[self.schedule(self._step)]
        try:
            with _watched(stream):
                examples = [self._next_example(stream) for _ in range(self.batch_size)]
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
            if not isinstance(example, ImageError):
                return example
            self.skipped += 1
            _log.warning("skipped %s", example)
            self._reasons = [*self._reasons[-2:], str(example)]
            if self.skipped > self.max_bad_share * max(self.seen, _MIN_SEEN):
                raise DataError(
                    f"{self.skipped} of {self.seen} records are broken, more than "
                    f"max_bad_share = {self.max_bad_share}; the last: {'; '.join(self._reasons)}"
                )

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch, as JSON values."""
        return {
            "step": self._step,
            "positions": [stream.position for stream in self.streams],
            "hosts": self.hosts,
            "seen": self.seen,
            "skipped": self.skipped,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where `get_state` was called, also on another number of hosts.

        A DataError if the position is of another version of this project, or other orientations.
        """
        if len(state.get("positions", ())) != len(self.streams):
            raise DataError(
                "the checkpoint's position in the data is of another version: start anew in "
                "another --workdir, from these weights with --init"
            )
        self._step = state["step"]
        for stream, position in zip(self.streams, state["positions"], strict=True):
            stream.seek(-(-position * state["hosts"] // self.hosts))
        self.seen, self.skipped = state["seen"], state["skipped"]

    def close(self) -> None:
        """Stops the reader threads."""
        for stream in self.streams:
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
    return lambda step: int(math.floor((step + 1) * share + 0.5) == math.floor(step * share + 0.5))


def stack(rows: Sequence[tuple]) -> list[Shaped[np.ndarray, "B ..."]]:
    """Rows of fields to one array per field; three times as fast as `np.stack` for images.

    Fields that are None, the last of their rows, are left out.
    """
    arrays = []
    for column in zip(*rows):
        if column[0] is None:
            continue
        array = np.empty((len(rows), *np.shape(column[0])), column[0].dtype)
        for i, value in enumerate(column):
            array[i] = value
        arrays.append(array)
    return arrays
