"""People followed through the frames of a video: an id for each, and joints that do not tremble.

    people of a frame -> OKS and IoU with expected tracks -> assignment -> ids -> one-euro filter

Pure functions of fixed shapes, and `Tracker`, which keeps their state.
"""

import dataclasses
import math
from functools import lru_cache, partial
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g_rmi.config import named_fields, require, require_numbers, require_positive, require_types
from g_rmi.inference.people import PeopleTable
from g_rmi.ops.assignment import assign
from g_rmi.ops.boxes import iou
from g_rmi.ops.oks import oks
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import People

_MEMORY = 0.3  # Seconds over which a person's velocity is averaged, and for which it lasts.
_SPEED_CUTOFF = 1.0  # Hertz; of the speed inside a one-euro filter, as its authors have it.


@named_fields
@dataclasses.dataclass(frozen=True)
class Tracking:
    """How people are followed.

    Attributes:
      min_similarity: A person goes on with a track only if the mean of OKS and IoU with where it is
        expected is more than this, 0 to 1.
      patience: A person who is not found in so many frames, and then is, keeps the id.
      new_track_score: People who score lower, 0 to 1, go on with tracks that the others leave, and
        begin none.
      smooth: Steady the joints by a one-euro filter.
      min_cutoff: Of the filter, in hertz, for joints at rest: lower is steadier.
      speed_cutoff: Added to it for each side of the person's box that a joint moves in a second, in
        hertz: higher lags less.
    """

    min_similarity: float = 0.1
    patience: int = 30
    new_track_score: float = 0.2
    smooth: bool = False
    min_cutoff: float = 1.0
    speed_cutoff: float = 5.0

    def __post_init__(self):
        require_types(self)
        require_numbers(self, 0, 1, "min_similarity", "new_track_score")
        require_numbers(self, 0, None, "patience", "speed_cutoff")
        require_positive(self, "min_cutoff")


class Steady(NamedTuple):
    """One-euro filters of points."""

    points: Float[Array, "... 2"]
    speed: Float[Array, "... 2"]  # pixels a second
    weight: Float[Array, "..."]  # of all that was seen, as it counts now; 0 before anything was


class Track(NamedTuple):
    """People who are followed, one row each."""

    ids: Int[Array, " T"]  # from 1; -1 for a free row
    missed: Int[Array, " T"]  # frames since the person was seen
    since: Float[Array, " T"]  # the same in seconds
    boxes: Float[Array, "T 4"]  # where they were seen last
    keypoints: Float[Array, "T K 2"]
    keypoint_scores: Float[Array, "T K"]
    velocity: Float[Array, "T 2"]  # pixels a second
    steady: Steady


class Tracks(NamedTuple):
    """All that is known after a frame."""

    table: Track
    count: Int[Array, ""]  # ids given away


def no_tracks(rows: int, joints: int) -> Tracks:
    """What is known before the first frame."""
    zeros: Any = partial(np.zeros, dtype=np.float32)
    points, scores = zeros((rows, joints, 2)), zeros((rows, joints))
    ids: Any = np.full(rows, -1, np.int32)
    places = zeros((rows, 4)), points, scores, zeros((rows, 2))
    table = Track(ids, 0 * ids, zeros(rows), *places, Steady(points, points, scores))
    count: Any = np.int32(0)
    return Tracks(table, count)


def follow(
    tracks: Tracks,
    people: PeopleTable,
    elapsed: Float[Array, ""],
    *,
    sigmas: tuple[float, ...],
    settings: Tracking,
) -> tuple[Tracks, Int[Array, " P"], Float[Array, "P K 2"]]:
    """Goes one frame further; pure.

    Args:
      tracks: What is known so far; at least as many rows as there are of people.
      people: Those of the frame, without the axis of pictures.
      elapsed: Seconds since the frame before; positive.
      sigmas: Fall-off per joint, `Skeleton.sigmas`.
      settings: See there.

    Returns:
      What is known now; each person's id, -1 without a track; and their joints, steady ones if the
      settings say so. Where no row is free, a new person takes that of who is missed longest.
    """
    table, count = tracks
    there = (table.ids >= 0) & (table.missed <= settings.patience)
    table = table._replace(missed=table.missed + 1, since=table.since + elapsed)
    strong = people.valid & (people.scores >= settings.new_track_score)
    similarity = _similarity(table, people, sigmas=sigmas)
    row = _match(similarity, there, people.valid, strong, limit=settings.min_similarity)

    new = strong & (row < 0)
    place = jnp.cumsum(new, dtype=jnp.int32)
    idle = jnp.where(there, table.missed, jnp.iinfo(jnp.int32).max)
    idle = idle.at[_or_none(row, len(idle))].set(0, mode="drop")
    free = jnp.argsort(-idle, stable=True).astype(jnp.int32)
    known = row >= 0
    row = jnp.where(new, free[jnp.maximum(place, 1) - 1], row)

    before = jax.tree.map(lambda column: column[jnp.maximum(row, 0)], table)
    ids = jnp.where(new, count + place, jnp.where(known, before.ids, -1))
    now = _advance(before, known, ids, people, settings)
    back = _or_none(row, len(idle))
    table = jax.tree.map(lambda old, new: old.at[back].set(new, mode="drop"), table, now)
    steady = settings.smooth & (ids >= 0)
    keypoints = jnp.where(steady[:, None, None], now.steady.points, people.keypoints)
    return Tracks(table, count + jnp.sum(new, dtype=jnp.int32)), ids, keypoints


def _similarity(
    table: Track, people: PeopleTable, *, sigmas: tuple[float, ...]
) -> Float[Array, "P T"]:
    """Mean of OKS and IoU with each track, moved on at its velocity, which fades."""
    lasting = _MEMORY * (1 - jnp.exp(-table.since / _MEMORY))
    shift = table.velocity * lasting[:, None]
    boxes, keypoints = table.boxes + jnp.tile(shift, 2), table.keypoints + shift[:, None]
    scores = table.keypoint_scores
    visible = scores >= 0.5 * jnp.mean(scores, axis=1, keepdims=True)
    areas = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    alike = jax.vmap(partial(oks, sigmas=sigmas), in_axes=(0, 0, 0, None))
    poses = alike(keypoints, visible, areas, people.keypoints)
    return (poses.T + iou(people.boxes, boxes)) / 2


def _match(similarity, there, valid, strong, *, limit) -> Int[Array, " P"]:
    """The track of each person, or -1: first of the strong, then of the others (ByteTrack)."""

    def match(people, tracks):
        return assign(-similarity, people[:, None] & tracks[None], limit=-limit)

    first = match(strong, there)
    left = there.at[_or_none(first, len(there))].set(False, mode="drop")
    return jnp.maximum(first, match(valid & ~strong, left))


def _advance(
    before: Track, known: Bool[Array, " P"], ids: Int[Array, " P"], people: PeopleTable, settings
) -> Track:
    """The tracks of a frame's people after it, row by row."""
    boxes = people.boxes
    moved = (_centre(boxes) - _centre(before.boxes)) / before.since[:, None]
    share = 1 - jnp.exp(-before.since / _MEMORY)[:, None]
    velocity = jnp.where(known[:, None], before.velocity + share * (moved - before.velocity), 0.0)
    steady = before.steady
    steady = steady._replace(weight=jnp.where(known[:, None], steady.weight, 0.0))
    steady = one_euro(
        steady,
        people.keypoints,
        people.keypoint_scores,
        before.since[:, None],
        jnp.max(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None],
        min_cutoff=settings.min_cutoff,
        speed_cutoff=settings.speed_cutoff,
    )
    seen = jnp.zeros_like(ids), jnp.zeros_like(before.since), boxes
    return Track(ids, *seen, people.keypoints, people.keypoint_scores, velocity, steady)


def one_euro(
    filters: Steady,
    points: Float[Array, "*N 2"],
    weights: Float[Array, "*N"],
    elapsed: Float[Array, "..."],
    size: Float[Array, "..."],
    *,
    min_cutoff: float,
    speed_cutoff: float,
) -> Steady:
    """One step of the one-euro filter (Casiez et al., CHI 2012), with weights.

        x' = x' + g (x - x'),  g = a w / W,  W = (1 - a) W + a w,  a = 1 / (1 + 1 / (2 pi f dt))
        f = min_cutoff + speed_cutoff * speed / size

    With equal weights g is a, as in the paper. A filter that has seen nothing takes the point.

    Args:
      filters: So far.
      points: In pixels.
      weights: How far each is to be believed, 0 or more.
      elapsed: Seconds since the last point; times may be uneven.
      size: Pixels that are a unit of length for the speed.
      min_cutoff: Hertz, at rest.
      speed_cutoff: Hertz for each unit of length a second.

    Returns:
      The filters after these points; the speed is itself filtered, at 1 Hz.
    """
    elapsed = jnp.broadcast_to(elapsed, weights.shape)

    def gain(cutoff):
        a = 1 / (1 + 1 / (2 * math.pi * cutoff * elapsed))
        weight = (1 - a) * filters.weight + a * weights
        some = weight > 0
        return jnp.where(some, a * weights / jnp.where(some, weight, 1.0), a)[..., None], weight

    seen = (filters.weight > 0)[..., None]
    towards = jnp.where(seen, points - filters.points, 0.0)
    speed = jnp.where(seen, filters.speed, 0.0)
    speed += gain(_SPEED_CUTOFF)[0] * (towards / elapsed[..., None] - speed)
    units = jnp.linalg.norm(speed, axis=-1) / jnp.maximum(size, 1.0)
    share, weight = gain(min_cutoff + speed_cutoff * units)
    steady = jnp.where(seen, filters.points + share * towards, points)
    return Steady(steady, speed, jnp.where(seen[..., 0], weight, weights))


def _or_none(row: Int[Array, " P"], rows: int) -> Int[Array, " P"]:
    """Rows to write to; -1 becomes one that is out of bounds."""
    return jnp.where(row < 0, rows, row)


def _centre(boxes: Float[Array, "N 4"]) -> Float[Array, "N 2"]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


@lru_cache
def _compiled(sigmas: tuple[float, ...], settings: Tracking):
    return jax.jit(partial(follow, sigmas=sigmas, settings=settings))


class Tracker:
    """Follows the people of one video, frame by frame; one tracker for each video.

        tracker = Tracker(Tracking(smooth=True))
        for time, frame in frames:
            people, ids = tracker(pipeline(frame), time)

    Its work is one compiled step, which all trackers share.
    """

    def __init__(self, settings: Tracking = Tracking(), *, skeleton: Skeleton = COCO):
        """The skeleton is that of the pose network."""
        for name, value, kind in ("settings", settings, Tracking), ("skeleton", skeleton, Skeleton):
            require(isinstance(value, kind), name, value, f"a {kind.__name__}")
        if skeleton.classes:
            raise ValueError(f"skeleton: one class is followed, not {', '.join(skeleton.blocks)}")
        self._joints = len(skeleton)
        self._follow = _compiled(skeleton.sigmas, settings)
        self._tracks = no_tracks(0, self._joints)
        self._time: float | None = None

    def __call__(self, people: People, time: float) -> tuple[People, Int[np.ndarray, " N"]]:
        """Takes the people of the next frame, at `time` seconds.

        Returns:
          The same people, with steady joints if the settings say so, and their ids, from 1; -1 for
          people who score too low to begin a track.

        Raises:
          ValueError: The time is not later than that of the frame before, or no number; or these
            are not the people of one picture, with the joints of the tracker's skeleton.
        """
        if not isinstance(people, People) or people.keypoints.shape[1:] != (self._joints, 2):
            wanted = f"the People of one picture, with {self._joints} joints each"
            raise ValueError(f"people must be {wanted}, got {people!r:.80}")
        if not isinstance(time, Real) or isinstance(time, bool):
            raise ValueError(f"time = {time!r:.80}: must be a number of seconds")
        elapsed = 1.0 if self._time is None else time - self._time
        if not 0 < elapsed < math.inf:
            raise ValueError(f"time = {time!r}: must be later than {self._time!r}")
        self._time = time
        count = len(people.scores)
        # A power of two of rows, for few compilations; twice as many tracks.
        rows = max(1 << max(count - 1, 31).bit_length(), len(self._tracks.table.ids) // 2)
        self._make_room(2 * rows)
        columns = people.keypoints, people.keypoint_scores, people.scores, people.boxes
        padded = [np.pad(x, [(0, rows - count)] + [(0, 0)] * (x.ndim - 1)) for x in columns]
        on_host: Any = [x.astype(np.float32) for x in padded] + [np.arange(rows) < count]
        found = self._follow(self._tracks, PeopleTable(*on_host), np.float32(elapsed))
        self._tracks, ids, keypoints = found
        ids, keypoints = jax.device_get((ids, keypoints))
        return dataclasses.replace(people, keypoints=keypoints[:count]), ids[:count]

    def _make_room(self, rows: int) -> None:
        table, count = self._tracks
        more = rows - len(table.ids)
        if more > 0:
            join: Any = lambda old, new: np.concatenate([old, new])  # noqa: E731
            table = jax.tree.map(join, table, no_tracks(more, self._joints).table)
            self._tracks = Tracks(table, count)
