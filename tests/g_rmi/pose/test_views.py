"""The turn test against OpenCV's rotations, scipy's interpolation and maps known everywhere."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cv2 import getRotationMatrix2D
from scipy.ndimage import map_coordinates

from g_rmi.geometry import apply_affine, compose_affine, invert_affine
from g_rmi.pose.fields import Field
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.task import PoseTask
from g_rmi.pose.views import STRAIGHT, merge, mirrored, turns
from g_rmi.types import Grid
from tests.networks import FACE, POSE

HEIGHT, WIDTH, STRIDE = 49, 33, 4
ROWS, COLUMNS = 13, 9
GRID = Grid(HEIGHT, WIDTH)
TASK = PoseTask(
    dataclasses.replace(
        POSE.model,
        output_stride=16,
        norm="group",
        crop_height=HEIGHT,
        crop_width=WIDTH,
        head=Disks(radius=6.0),
    ),
    FACE,
)


def opencvs():
    """OpenCV turns the other way round for positive angles."""
    middle = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return [getRotationMatrix2D(middle, angle, 1.0) for angle in (-30, 30)]


def cells():
    return np.stack(np.meshgrid(np.arange(0, WIDTH, STRIDE), np.arange(0, HEIGHT, STRIDE)), -1)


def test_the_views_are_turned_around_the_middle_of_the_crop():
    for ours, theirs in zip(turns(GRID), opencvs(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_views_that_agree_merge_into_what_they_say():
    """Logits that are linear and offsets to one point, which bilinear samples do not change."""
    joint = np.array([17.0, 9.0])

    def seen(turn):
        here = apply_affine(invert_affine(turn), cells())  # in the straight crop
        return here @ [0.3, -0.1] + 2, (joint - here) @ turn[:, :2].T

    identity = np.eye(2, 3)
    each = [seen(turn) for turn in (identity, *opencvs())]
    logits, offsets = (np.array(maps, np.float32)[..., None] for maps in zip(*each, strict=True))
    maps = {"heatmap": jnp.asarray(logits), "offset": jnp.asarray(np.moveaxis(offsets, -1, -2))}
    fields = Disks().fields
    each = [STRAIGHT, *turns(GRID)]
    merged = jax.jit(lambda m: merge(m, each, fields, flip=np.array([0]), grid=GRID))(maps)
    assert merged["heatmap"].shape == (1, ROWS, COLUMNS, 1)
    inside = np.full((ROWS, COLUMNS), True)
    for turn in opencvs():
        there = apply_affine(turn, cells()) / STRIDE
        # At the edge of a view samples fade out. There it counts less, and need not be linear.
        beyond = ((there <= -1) | (there >= (COLUMNS, ROWS))).any(-1)
        within = ((there >= 0) & (there <= (COLUMNS - 1, ROWS - 1))).all(-1)
        inside &= beyond | within
    assert inside.sum() > 30
    heatmap = np.asarray(merged["heatmap"][0, ..., 0])
    np.testing.assert_allclose(heatmap[inside], logits[0, ..., 0][inside], atol=1e-4)
    straight = (joint - cells())[inside]
    np.testing.assert_allclose(merged["offset"][0, ..., 0, :][inside], straight, atol=1e-5)
    assert np.isfinite(merged["heatmap"]).all()


@pytest.fixture(scope="module")
def variables():
    return jax.jit(TASK.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def predict():
    """Compiled once for each combination."""

    @partial(jax.jit, static_argnames=("flip_test", "turn_test"))
    def predict(variables, crops, flip_test=False, turn_test=False):
        views = turns(GRID) if turn_test else ()
        return TASK.predict(variables, crops, flip_test=flip_test, turns=views)

    return predict


def views(rows, seed=0):
    """Any crops will do: nothing says that views are of one picture."""
    shape = (rows, 3, HEIGHT, WIDTH, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_the_mean_of_maps_that_scipy_turns_back(variables, predict):
    crops = views(2)
    alone = [predict(variables, crops[:, view]) for view in range(3)]
    total, offset, count = np.array(alone[0]["heatmap"]), np.array(alone[0]["offset"]), 1.0
    for maps, turn in zip(alone[1:], opencvs(), strict=True):
        points = np.moveaxis(apply_affine(turn, cells())[..., ::-1] / STRIDE, -1, 0)
        back = partial(map_coordinates, coordinates=points, order=1, mode="grid-constant")

        count = count + back(np.ones((ROWS, COLUMNS)))[:, :, None]
        vectors = np.asarray(maps["offset"]) @ turn[:, :2]  # v @ R is the transpose of R, times v
        for row in range(2):
            for k in range(3):
                total[row, ..., k] += back(np.asarray(maps["heatmap"])[row, ..., k])
                for axis in range(2):
                    offset[row, ..., k, axis] += back(vectors[row, ..., k, axis])
    merged = predict(variables, crops, turn_test=True)
    np.testing.assert_allclose(merged["heatmap"], total / count, atol=2e-4)
    np.testing.assert_allclose(merged["offset"], offset / count[..., None], atol=2e-4)


def test_both_tests_together_are_exact(variables, predict):
    """A mirrored crop, whose views are turned the other way, gives the mirrored prediction."""
    crops = views(1)
    straight = predict(variables, crops, flip_test=True, turn_test=True)
    mirrored = predict(variables, crops[:, [0, 2, 1], :, ::-1], flip_test=True, turn_test=True)
    swap = FACE.flip_index
    np.testing.assert_allclose(
        straight["heatmap"], np.asarray(mirrored["heatmap"])[:, :, ::-1, swap], atol=1e-4
    )
    np.testing.assert_allclose(
        straight["offset"], np.asarray(mirrored["offset"])[:, :, ::-1, swap] * [-1, 1], atol=1e-4
    )
    assert (
        np.abs(straight["heatmap"] - predict(variables, crops, turn_test=True)["heatmap"]).max()
        > 1e-3
    )


def test_crops_come_with_their_views(variables):
    crops = jnp.asarray(views(1))
    with pytest.raises(ValueError, match=r"\(1, 49, 33, 3\): 2 turned views take \[B, 3, H, W"):
        TASK.predict(variables, crops[:, 0], turns=turns(GRID))
    with pytest.raises(ValueError, match=r"\(1, 2, 49, 33, 3\): 2 turned views take"):
        TASK.predict(variables, crops[:, :2], turns=turns(GRID))
    with pytest.raises(ValueError, match=r"0 turned views take \[B, H, W, 3\]"):
        TASK.predict(variables, crops)


def test_any_view_is_brought_back_by_its_affine_map():
    """A pair field of vectors, seen in a mirrored view that is larger and turned.

    Each joint says where each other one is; the maps of a view say what is true in the view.
    """
    joints = np.array([[17.0, 9.0], [8.0, 30.0], [24.0, 40.0]])
    turn = turns(GRID)[0]
    zoom = np.array([[1.25, 0.0, -0.25 * 16], [0.0, 1.25, -0.25 * 24]])
    view = mirrored(compose_affine(turn, zoom), width=WIDTH)
    assert np.linalg.det(view[:, :2]) < 0
    flip = FACE.flip_index
    # In a mirrored picture the left joint is where the right one was.
    seen = apply_affine(view, joints)[flip]
    vectors = seen[None, :] - seen[:, None]  # from joint a to joint b
    maps = np.broadcast_to(vectors, (1, ROWS, COLUMNS, 3, 3, 2)).astype(np.float32)
    field = Field("pairs", joints=2, vector=True)
    merged = merge({"pairs": jnp.asarray(maps)}, [view], [field], flip=flip, grid=GRID)["pairs"]
    middle = np.asarray(merged)[0, ROWS // 2, COLUMNS // 2]
    np.testing.assert_allclose(middle, joints[None, :] - joints[:, None], atol=1e-4)


def test_a_mirrored_view_is_exact():
    maps = np.random.default_rng(3).normal(size=(2, ROWS, COLUMNS, 3)).astype(np.float32)
    field = Field("heatmap")
    views = [STRAIGHT, mirrored(STRAIGHT, width=WIDTH)]
    flip = FACE.flip_index
    merged = merge({"heatmap": jnp.asarray(maps)}, views, [field], flip=flip, grid=GRID)["heatmap"]
    np.testing.assert_array_equal(merged[0], (maps[0] + maps[1][:, ::-1][..., flip]) / 2)
