"""Branch and bound against the whole vote maps: the same maxima on maps of every kind."""

from functools import lru_cache, partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from g_rmi.pose.heads import peaks
from g_rmi.pose.heads.finders import HoughVotes
from g_rmi.pose.heads.peaks import bounded_peaks, has_cells
from g_rmi.types import Grid
from tests.g_rmi.pose.heads.maps import kinds

JOINTS = 5
# Coarse sizes, strides and radius; 45 x 33 at stride 8 is the paper's crop, scaled down here.
GRIDS = {
    "stride 8": {"h": 12, "w": 9, "stride": 8, "radius": 12.0},
    "stride 4": {"h": 17, "w": 13, "stride": 4, "radius": 7.0},
    "stride 2": {"h": 9, "w": 20, "stride": 2, "radius": 3.0},
}


@pytest.fixture(scope="module", params=GRIDS, ids=lambda name: name.replace(" ", "-"))
def case(request):
    grid = GRIDS[request.param]
    size = Grid(*((grid[axis] - 1) * grid["stride"] + 1 for axis in "hw"))
    plain = jax.jit(partial(HoughVotes(grid["radius"]).whole, grid=size))
    fast = jax.jit(partial(bounded_peaks, grid=size, radius=grid["radius"]))
    maps = [kinds(np.random.default_rng(s), **grid, joints=JOINTS) for s in range(3)]
    return maps, plain, fast


@pytest.mark.parametrize(
    "kind", list(kinds(np.random.default_rng(0), **GRIDS["stride 8"], joints=1))
)
def test_the_same_maxima_as_from_every_vote(case, kind):
    maps, plain, fast = case
    for logits, offset in (m[kind] for m in maps):
        votes = np.asarray(plain(logits, offset))
        best = votes.max((0, 1))
        points, values = map(np.asarray, fast(logits, offset))
        x, y = points.T
        for k in range(JOINTS):
            if np.sum(votes[..., k] > best[k] * (1 - 1e-5)) <= 1 or not best[k]:
                index = votes[..., k].argmax()
                assert (y[k], x[k]) == np.unravel_index(index, votes.shape[:2])
            else:  # a tie up to rounding: any of the equals
                assert votes[y[k], x[k], k] >= best[k] * (1 - 1e-5)
            np.testing.assert_allclose(values[k], best[k], rtol=2e-4, atol=1e-4 * best[k])


def test_exact_ties_go_to_the_lowest_row_then_column(case):
    maps, _, fast = case
    for kind, point in (("flat", (0, 0)), ("flat, shifted", (2, 2)), ("all outside", (0, 0))):
        points = fast(*maps[0][kind]).points
        np.testing.assert_array_equal(points, np.broadcast_to(point, (JOINTS, 2)), err_msg=kind)


def test_trained_maps_leave_most_cells_out(monkeypatch):
    voted = []
    vote = peaks._vote

    def counted(votes, maps, mask, cells):
        voted.append(mask.astype(jnp.float32).sum() / float(np.sum(cells.samples > 0)))
        return vote(votes, maps, mask, cells)

    monkeypatch.setattr(peaks, "_vote", counted)
    maps = kinds(np.random.default_rng(0), **GRIDS["stride 8"], joints=JOINTS)["one person, noisy"]

    @jax.jit
    def shares(logits, offset):
        bounded_peaks(logits, offset, Grid(89, 65), radius=12.0)
        return voted

    first, rest = shares(*maps)
    assert 0 < first < 0.4
    assert 0 < rest < 0.4


density, cells_of = jax.jit(peaks._density, static_argnums=2), lru_cache(peaks._Cells)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 8]), st.sampled_from([4, 8]))
def test_no_pixel_receives_more_than_the_bound(seed, down, across):
    rng = np.random.default_rng(seed)
    # Corner targets of a cell that is shrunk, stretched, turned, sheared, mirrored or folded.
    square = np.array([[0, 0], [across, 0], [0, down], [across, down]])
    linear = rng.normal(size=(2, 2)) * 10 ** rng.uniform(-2, 0.5)
    folds = rng.normal(size=(4, 2)) * 10 ** rng.uniform(-2, 1)
    corners = square @ (linear + rng.integers(0, 2) * np.eye(2)).T + rng.integers(0, 2) * folds
    cells = cells_of((2, 2, 1), Grid(down + 1, across + 1))
    x, y = (tuple(jnp.float32([value]) for value in corners[:, axis]) for axis in (0, 1))
    bound = float(density(x, y, cells)[0])
    u, v = np.meshgrid(np.arange(across) / across, np.arange(down) / down)
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], axis=-1)
    targets = (weights @ corners).reshape(-1, 2)
    centres = np.concatenate([targets, targets + rng.uniform(-1, 1, targets.shape)])
    shares = np.maximum(1 - np.abs(targets[None] - centres[:, None]), 0).prod(axis=-1)
    assert shares.sum(axis=1).max() <= bound * (1 + 1e-4)
    assert bound <= down * across


def test_which_maps_have_cells():
    assert has_cells((45, 33, 17), Grid(353, 257))
    assert has_cells((33, 25, 17), Grid(129, 97))
    assert has_cells((5, 4, 1), Grid(9, 13))  # a different stride along each axis
    assert not has_cells((45, 33, 17), Grid(352, 257))
    assert not has_cells((45, 33, 17), Grid(45, 33))
    assert not has_cells((1, 33, 17), Grid(9, 257))
    assert not has_cells((45, 33, 0), Grid(353, 257))
