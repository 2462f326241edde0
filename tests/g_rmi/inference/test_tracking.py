"""Ids against ByteTrack's on the same people, and by hand; the filter against its formula."""

import inspect
import math

import jax
import numpy as np
import pytest

from g_rmi.inference.settings import Settings
from g_rmi.inference.tracking import Steady, Tracker, Tracking, one_euro
from g_rmi.skeleton import Skeleton
from g_rmi.types import People
from tests.oracles import tracking as oracle

RATE = 25.0


def person(x, y=300.0, tall=200.0, score=0.6):
    """Somebody who stands there, as the pipeline finds them."""
    pose = oracle.STANDING * tall + (x, y)
    box = np.array([*pose.min(0), *pose.max(0)])
    return pose, np.full(17, score), score, box


def frame(*found):
    columns = zip(*found) if found else (np.zeros((0, 17, 2)), np.zeros((0, 17)), [], [])
    pose, joint, score, box = (np.array(column, np.float32) for column in columns)
    return People(pose, joint, score, box.reshape(-1, 4))


def run(frames, settings=Tracking(), rate=RATE):
    tracker = Tracker(settings)
    return [tracker(people, i / rate)[1].tolist() for i, people in enumerate(frames)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"people": 12},
        {"people": 6, "rate": 8.0},
        {"people": 6, "missed": 0.3},
        {"people": 3, "rate": 4.0},
    ],
    ids=str,
)
def test_ids_switch_no_more_often_than_bytetracks(options):
    ours, theirs = [], []
    for seed in range(3):
        tracker, byte_track = Tracker(), oracle.ByteTrack(high=0.2)
        seen, time = ([], []), 0.0
        for people, who in oracle.crowd(np.random.default_rng(seed), frames=100, **options):
            time += 1 / options.get("rate", RATE)
            seen[0].append((who, tracker(people, time)[1].tolist()))
            seen[1].append((who, byte_track(people.boxes, people.scores).tolist()))
        ours.append(oracle.switches(seen[0]))
        theirs.append(oracle.switches(seen[1]))
    (switches, followed), (most, least) = np.sum(ours, axis=0), np.sum(theirs, axis=0)
    assert switches <= most
    assert followed >= least


def test_people_who_cross_keep_their_ids():
    frames = [frame(person(100 + 5 * i), person(300 - 5 * i, y=320)) for i in range(41)]
    assert run(frames) == [[1, 2]] * 41
    # Also when nobody sees the one behind for as long as they overlap, and the order is another.
    for i in range(17, 23):
        frames[i] = frame(person(300 - 5 * i, y=320))
    for i in range(23, 41):
        frames[i] = frames[i][::-1]
    assert run(frames) == [[1, 2]] * 17 + [[2]] * 6 + [[2, 1]] * 18


@pytest.mark.parametrize(("gap", "then"), [(1, 1), (5, 1), (6, 2), (20, 2)])
def test_who_is_missed_for_longer_than_patience_is_somebody_new(gap, then):
    frames = [frame(person(100))] * 3 + [frame()] * gap + [frame(person(103))] * 2
    ids = run(frames, Tracking(patience=5))
    assert ids == [[1]] * 3 + [[]] * gap + [[then]] * 2


def test_a_low_score_goes_on_but_begins_nothing():
    frames = [frame(person(100, score=score), person(600, score=0.25)) for score in (0.5, 0.25)]
    assert run(frames, Tracking(new_track_score=0.3)) == [[1, -1], [1, -1]]
    assert run(frames, Tracking(new_track_score=0.25)) == [[1, 2], [1, 2]]
    # The one with a high score comes first, though the other is nearer.
    frames = [frame(person(100)), frame(person(100, score=0.25), person(115))]
    assert run(frames, Tracking(new_track_score=0.3)) == [[1], [-1, 1]]


def test_people_are_told_apart_by_poses_in_the_same_box():
    pose, *rest = person(100)
    mirrored = pose.copy()
    mirrored[:, 1] = 2 * rest[-1][[1, 3]].mean() - pose[:, 1]  # upside down
    both = (pose, *rest), (mirrored, *rest)
    assert run([frame(*both), frame(*both[::-1])]) == [[1, 2], [2, 1]]


def test_any_number_of_people():
    crowd = [person(40 * i, y=100 + 400 * (i % 3), tall=90) for i in range(70)]
    counts = (0, 1, 30, 32, 33, 70, 2, 0, 70)
    everybody = list(range(1, 71))
    assert run([frame(*crowd[:n]) for n in counts]) == [everybody[:n] for n in counts]


def test_a_new_person_takes_the_row_of_who_is_missed_longest():
    """Of 64 rows, 32 are filled by each of two crowds; then the first crowd is forgotten."""
    crowds = [
        frame(*[person(40 * i, y=100 + 1000 * k, tall=30) for i in range(32)]) for k in range(3)
    ]
    ids = run([crowds[k] for k in (0, 1, 2, 1, 0)], Tracking(patience=100))
    first = np.arange(1, 33)
    assert ids == [(first + 32 * k).tolist() for k in (0, 1, 2, 1, 3)]


def test_time_goes_on():
    tracker = Tracker()
    tracker(frame(), 1.0)
    for time in (1.0, 0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"time = .*: must be later than 1\.0"):
            tracker(frame(), time)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_similarity": 1.5}, "min_similarity = 1.5: must be between 0 and 1"),
        ({"new_track_score": math.nan}, "new_track_score = nan: must be between 0 and 1"),
        ({"patience": -1}, "patience = -1: must be 0 or more"),
        ({"min_cutoff": 0.0}, "min_cutoff = 0.0: must be positive"),
        ({"speed_cutoff": math.inf}, "speed_cutoff = inf: must be 0 or more"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Tracking(**options)


step = jax.jit(one_euro, static_argnames=("min_cutoff", "speed_cutoff"))


def steadied(times, points, weights, size=100.0, **options):
    """The filter's points [T, N, 2], one after the other."""
    count = points.shape[1]
    state = Steady(*(np.zeros((count, *s), np.float32) for s in ((2,), (2,), ())))
    elapsed, found = np.diff(times, prepend=times[0] - 1), []
    for dt, point, weight in zip(elapsed.astype(np.float32), points, weights):
        state = step(state, point, weight, dt, np.float32(size), **options)
        found.append(state.points)
    return np.array(found)


def test_the_filter_is_its_authors_where_weights_are_equal():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.2, 60))  # uneven
    points = np.cumsum(rng.normal(0, 5, (60, 3, 2)), axis=0).astype(np.float32)
    options = {"min_cutoff": 0.7, "speed_cutoff": 2.0}
    ours = steadied(times, points, np.full((60, 3), 0.4, np.float32), **options)
    for n in range(3):
        theirs = oracle.one_euro(times, points[:, n], size=100.0, **options)
        np.testing.assert_allclose(ours[:, n], theirs, rtol=1e-4, atol=1e-3)


def test_the_filter_believes_high_scores():
    options = {"min_cutoff": 1.0, "speed_cutoff": 0.0}
    times, points = np.arange(20) / RATE, np.zeros((20, 3, 2), np.float32)
    points[10], weights = 100.0, np.ones((20, 3), np.float32)
    weights[10] = 1.0, 0.1, 0.0
    moved = steadied(times, points, weights, **options)[10, :, 0]
    a = 1 / (1 + RATE / (2 * math.pi))
    np.testing.assert_allclose(moved, [100 * a, 100 * a * 0.1 / (1 - 0.9 * a), 0], rtol=1e-4)
    # The first point is taken as it is, and so is one after nothing but zeros.
    weights = np.zeros((20, 3), np.float32)
    weights[5:] = 1.0
    points = np.arange(120, dtype=np.float32).reshape(20, 3, 2)
    np.testing.assert_array_equal(steadied(times, points, weights, **options)[5], points[5])


def test_joints_at_rest_tremble_less_and_moving_ones_lag_little():
    rng = np.random.default_rng(0)
    frames = []
    for i in range(150):
        still, walking = person(100), person(400 + 12 * i)  # 1.5 heights a second
        noise = rng.normal(0, 3, (17, 2))
        frames.append(frame((still[0] + noise, *still[1:]), walking))
    tracker = Tracker(Tracking(smooth=True))
    found = [tracker(people, i / RATE) for i, people in enumerate(frames)]
    assert [ids.tolist() for _, ids in found] == [[1, 2]] * 150
    steady = np.array([people.keypoints for people, _ in found])[50:]
    given = np.array([people.keypoints for people in frames])[50:]
    assert steady[:, 0].std(axis=0).mean() < 0.5 * given[:, 0].std(axis=0).mean()
    lag = (given[:, 1] - steady[:, 1])[..., 0] / 12  # in frames
    assert np.abs(lag).max() < 1.5
    plain, _ = Tracker()(frames[0], 0.0)
    np.testing.assert_array_equal(plain.keypoints, frames[0].keypoints)


def take(people, time, **options):
    """A tracker's call without the tests' own check of types."""
    inspect.unwrap(Tracker.__call__)(Tracker(**options), people, time)


TWO = Skeleton.create(("a", "b"), limbs=[], sigmas=(0.1, 0.1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: take(frame(), "1.5"), "time = '1.5': must be a number"),
        (lambda: take(frame(), None), "time = None: must be a number"),
        (lambda: take(frame(), True), "time = True: must be a number"),
        (lambda: take(None, 0.0), "people must be the People of one picture.*got None"),
        (lambda: take([frame()], 0.0), "people must be the People of one picture"),
        (lambda: take(frame(), 0.0, skeleton=TWO), "with 2 joints each"),
        (lambda: inspect.unwrap(Tracker.__init__)(object(), 5), "settings = 5: must be a Tracking"),
        (lambda: Tracking(smooth="no"), "smooth = 'no': must be bool"),
        (lambda: Tracking(patience="5"), "patience = '5': must be int"),
        (lambda: Tracking(patience=2.5), "patience = 2.5: must be int"),
        (lambda: Tracking(min_cutoff="1"), "min_cutoff = '1': must be float"),
        (lambda: Tracking(patience=-1), "patience = -1: must be 0 or more"),
    ],
)
def test_what_is_given_wrongly_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("config", "given", "nearest"),
    [(Tracking, "smoth", "smooth"), (Settings, "min_scor", "min_score")],
)
def test_a_misspelt_field_is_named(config, given, nearest):
    with pytest.raises(TypeError, match=f"{config.__name__} .*{given}.*did you mean '{nearest}'"):
        config(**{given: 1})
