"""Maps of drawn people to the same people again, by every solver; maps that say nothing."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from g_rmi.ops.pair_costs import DISTANCES, FEATURES, ONE_WAY, PairModel
from g_rmi.parts.decode import Decoding, PartMaps, decode, hulls, problem, regions, solve
from g_rmi.parts.exact import energy
from g_rmi.skeleton import COCO, Skeleton

BODY = Skeleton.create(
    ("neck", "left_wrist", "right_wrist", "left_ankle", "right_ankle"),
    limbs=[("neck", f"{side}_{part}") for part in ("wrist", "ankle") for side in ("left", "right")],
    sigmas=[0.1] * 5,
)
SHAPE = np.array([[0, -40], [-25, 0], [25, 0], [-12, 50], [12, 50]], np.float32)
STRIDE, GRID, RADIUS = 8.0, (24, 40), 14.0
DECODING = Decoding(candidates=6, max_people=5, reach=20.0)
# Who lies where he is expected is one person's: certain at 0 pixels, undecided at 15.
WEIGHTS = np.zeros((5, 5, FEATURES), np.float32)
WEIGHTS[..., [0, 2]] = -0.4
MODEL = PairModel(WEIGHTS, np.full((5, 5), 12, np.float32), np.ones((5, 5), bool))


def draw(keypoints, visible):
    """What a perfect network says: disks, and vectors to the nearest person's joints."""
    height, width = GRID
    x, y = np.meshgrid(np.arange(width) * STRIDE, np.arange(height) * STRIDE)
    here = np.stack([x, y], axis=-1).astype(np.float32)
    k = keypoints.shape[1]
    score = np.full((*GRID, k), -6, np.float32)
    offset, pairwise = np.zeros((*GRID, k, 2)), np.zeros((*GRID, k, k, 2))
    for a in range(k):
        away = keypoints[:, a][:, None, None] - here
        distance = np.where(visible[:, a, None, None], np.linalg.norm(away, axis=-1), np.inf)
        nearest = distance.argmin(axis=0)
        inside = distance.min(axis=0) <= RADIUS
        score[..., a] = np.where(inside, 3 - distance.min(axis=0) / RADIUS, -6)
        offset[..., a, :] = np.take_along_axis(away, nearest[None, ..., None], 0)[0]
        pairwise[..., a, :, :] = keypoints[nearest] - here[:, :, None]
    return PartMaps(score, offset.astype(np.float32), pairwise.astype(np.float32))


def crowd(count, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[60, 80], [112, 92], [200, 90], [255, 84]])[:count]
    return (centres[:, None] + SHAPE * rng.uniform(0.8, 1.0, (count, 1, 1))).astype(np.float32)


def by(solver, maps, usable=None, **changes):
    decoding = dataclasses.replace(DECODING, solver=solver, **changes)
    usable = np.ones(GRID, bool) if usable is None else usable
    return compiled(maps, usable, decoding)


@partial(jax.jit, static_argnums=2)
def compiled(maps, usable, decoding):
    return decode(maps, usable, MODEL, BODY, stride=STRIDE, decoding=decoding)


def check_found(result, keypoints):
    poses, found = result
    count = len(keypoints)
    np.testing.assert_array_equal(found.any(axis=1), np.arange(len(found)) < count)
    order = np.argsort(poses.keypoints[:count, 0, 0])
    np.testing.assert_allclose(np.asarray(poses.keypoints)[order], keypoints, atol=0.1)
    assert found[:count].all()


@pytest.mark.parametrize("solver", ["stages", "whole", "tree"])
@pytest.mark.parametrize("count", [1, 4])
def test_finds_the_people_who_were_drawn(solver, count):
    keypoints = crowd(count)
    check_found(by(solver, draw(keypoints, np.ones((count, 5), bool))), keypoints)


@pytest.mark.parametrize("solver", ["stages", "whole", "tree"])
def test_nobody_one_candidate_and_equal_scores(solver):
    nothing = draw(crowd(1), np.zeros((1, 5), bool))
    poses, found = by(solver, nothing)
    assert not found.any()
    assert all((np.asarray(column) == 0).all() for column in jax.tree.leaves(poses))
    visible = np.zeros((1, 5), bool)
    visible[0, 2] = True
    poses, found = by(solver, draw(crowd(1), visible))
    assert np.argwhere(found).tolist() == [[0, 2]]
    # The others are where this one expects them, with score 0.
    np.testing.assert_allclose(poses.keypoints[0], crowd(1)[0], atol=0.1)
    assert np.count_nonzero(poses.keypoint_scores) == 1
    # A map of equal scores has as many candidates as there is room for, and finite people.
    poses, _ = by(solver, nothing._replace(score=np.full((*GRID, 5), 1, np.float32)))
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(poses))
    # p = 1 and p = 0.
    keypoints = crowd(2)
    maps = draw(keypoints, np.ones((2, 5), bool))
    certain = np.where(maps.score > 2.3, np.inf, -np.inf).astype(np.float32)
    check_found(by(solver, maps._replace(score=certain)), keypoints)


@pytest.mark.parametrize("solver", ["stages", "whole", "tree"])
def test_nan_maps_and_more_people_than_room(solver):
    keypoints = crowd(4)
    maps = draw(keypoints, np.ones((4, 5), bool))
    broken = maps.score.copy()
    broken[..., 1] = np.nan
    poses, found = by(solver, maps._replace(score=broken))
    assert found.any(axis=1).sum() == 4
    assert not found[:, 1].any()
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(poses))
    silent = maps._replace(pairwise=np.full_like(maps.pairwise, np.nan))
    poses, found = by(solver, silent)
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(poses))
    poses, found = by(solver, maps, max_people=2)
    assert found.shape == (2, 5)
    assert found.all()
    # As few candidates as people leave somebody out, not somebody wrong.
    poses, found = by(solver, maps, candidates=2)
    assert found.any(axis=1).sum() <= 4
    left_half = np.zeros(GRID, bool)
    left_half[:, :20] = True
    check_found(by(solver, maps, usable=left_half), keypoints[:2])


def test_two_people_in_one_place_are_one():
    keypoints = np.concatenate([crowd(1), crowd(1)])
    maps = draw(keypoints, np.ones((2, 5), bool))
    for solver in ("stages", "whole", "tree"):
        check_found(by(solver, maps), keypoints[:1])


def test_a_pair_never_seen_together_is_connected_by_others():
    known = MODEL.known.copy()
    known[1, 3] = False
    keypoints = crowd(3)
    maps = draw(keypoints, np.ones((3, 5), bool))
    result = decode(
        maps,
        np.ones(GRID, bool),
        MODEL._replace(known=known),
        BODY,
        stride=STRIDE,
        decoding=DECODING,
    )
    check_found(result, keypoints)


def test_the_exact_solver():
    keypoints = crowd(4)
    maps = draw(keypoints, np.ones((4, 5), bool))
    check_found(by("exact", maps), keypoints)
    # Where candidates disagree, it is never worse than the kernel.
    noise = np.random.default_rng(0).normal(scale=25, size=maps.pairwise.shape)
    noisy = maps._replace(pairwise=(maps.pairwise + noise).astype(np.float32))
    options = {"stride": STRIDE, "decoding": DECODING}
    found = problem(noisy, np.ones(GRID, bool), MODEL, **options)
    costs = np.asarray(found.unary), np.asarray(found.pairwise)
    energies = [
        energy(np.asarray(solve(found, BODY, decoding=how)), *costs)
        for how in (dataclasses.replace(DECODING, solver=s) for s in ("exact", "whole"))
    ]
    assert energies[0] <= energies[1] + 1e-6 < 0


def test_what_the_regressions_know():
    """Geometry alone reads no offset; the others see part of what all see."""
    keypoints = crowd(2)
    maps = draw(keypoints, np.ones((2, 5), bool))
    usable, typical = np.ones(GRID, bool), SHAPE[None] - SHAPE[:, None]

    def features(kind, maps=maps):
        decoding = dataclasses.replace(DECODING, features=kind)
        how = {"stride": STRIDE, "decoding": decoding, "typical": typical}
        return problem(maps, usable, MODEL, **how)

    every = np.asarray(features("all").features)
    for kind, seen in {"distances": DISTANCES, "one_way": ONE_WAY}.items():
        wanted = np.where(np.isin(np.arange(FEATURES), seen), every, 0)
        np.testing.assert_array_equal(features(kind).features, wanted)
    silent = maps._replace(pairwise=np.full_like(maps.pairwise, np.nan))
    found = features("geometry", silent)
    points, joints = np.asarray(found.candidates.points).reshape(-1, 2), np.asarray(found.joints)
    cells = STRIDE * np.asarray(found.candidates.cells).reshape(-1, 2)
    off = points[None] - cells[:, None] - typical[joints][:, joints]
    np.testing.assert_allclose(
        found.features[..., 0], np.linalg.norm(off, axis=-1), rtol=1e-5, atol=1e-4
    )
    with pytest.raises(ValueError, match="mean offsets"):
        problem(
            maps,
            usable,
            MODEL,
            stride=STRIDE,
            decoding=dataclasses.replace(DECODING, features="geometry"),
        )


def test_hulls():
    points = np.array([[[1, 2], [5, 3], [9, 9]], [[1, 2], [5, 3], [9, 9]]], np.float32)
    found = np.array([[True, True, False], [False] * 3])
    np.testing.assert_array_equal(hulls(points, found), [[1, 2, 5, 3], [0] * 4])
    assert hulls(points[:, :0], found[:, :0]).tolist() == [[0] * 4] * 2


def test_regions():
    assert regions(BODY.names) == (0, 1, 1, 2, 2)
    assert regions(COCO.names) == (*[0] * 7, *[1] * 4, *[2] * 6)
    assert regions(("left_eye", "tail")) == (0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("candidates", 0), ("min_score", 1.0), ("min_score", 0.0), ("reach", 0.0), ("max_people", 0)],
)
def test_settings_that_cannot_be(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(DECODING, **{field: value})


def test_one_program_for_a_batch_and_for_other_machines():
    keypoints = crowd(3)
    maps = draw(keypoints, np.ones((3, 5), bool))
    run = partial(decode, model=MODEL, skeleton=BODY, stride=STRIDE, decoding=DECODING)
    batch = jax.tree.map(lambda x: np.stack([x, x]), (maps, np.ones(GRID, bool)))
    poses, found = jax.jit(jax.vmap(run))(*batch)
    for i in range(2):
        check_found(jax.tree.map(lambda x, i=i: x[i], (poses, found)), keypoints)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    exported = jax.export.export(jax.jit(jax.vmap(run)), platforms=["tpu", "cuda"])(*shapes)
    assert exported.platforms == ("tpu", "cuda")


def test_the_script_of_the_page(capsys):
    page = (Path(__file__).parents[3] / "docs" / "bottom_up.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = {}
    exec(script, names)
    assert capsys.readouterr().out.count("[[") == 2
    poses, seen = names["poses"], np.asarray(names["seen"])
    assert seen.all(axis=1).sum() == seen.any(axis=1).sum() == 2
    order = np.argsort(np.asarray(poses.keypoints)[:2, 0, 0])
    np.testing.assert_allclose(np.asarray(poses.keypoints)[order], names["people"], atol=1e-3)
