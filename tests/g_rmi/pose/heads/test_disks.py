"""Disks against plain loops and numbers worked out by hand: targets and losses."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.nn.losses import huber
from g_rmi.pose.heads.disks import Disks, DiskTargets, heatmap_loss, offset_loss, values_at
from g_rmi.pose.heads.head import Reading
from g_rmi.types import Grid, PoseBatch
from tests.networks import FACE

HEIGHT, WIDTH, RADIUS = 17, 25, 5.0
HEAD = Disks(radius=RADIUS, loss_stride=1, visibility_weight=1.0)
NOSE, EYE = (6.0, 8.0), (20.0, 3.0)


def make(**changes):
    inputs = {
        "keypoints": [NOSE, EYE],
        "visible": [True, True],
        "occluded": [False, False],
        "visibility_known": [True, True],
        "labelled": [True, True],
        "other_keypoints": [[(11.0, 8.0), (20.0, 3.0)], [(2.0, 2.0), (3.0, 15.0)]],
        "other_visible": [[True, True], [False, True]],
    } | changes
    head = dataclasses.replace(HEAD, loss_stride=inputs.pop("stride", 1))
    arrays = {k: jnp.asarray(v, jnp.float32 if "points" in k else bool) for k, v in inputs.items()}
    crop = PoseBatch(image=jnp.zeros((HEIGHT, WIDTH, 3), jnp.uint8), weight=jnp.ones(()), **arrays)
    return head.targets(crop, Grid(HEIGHT, WIDTH), FACE)


def near(row, column, point, radius=RADIUS):
    return (column - point[0]) ** 2 + (row - point[1]) ** 2 <= radius**2


def test_only_the_centred_person_is_positive():
    targets = DiskTargets(*map(np.asarray, make()))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            assert targets.heatmap[row, column, 0] == near(row, column, NOSE)
            assert targets.heatmap[row, column, 1] == near(row, column, EYE)
            if near(row, column, NOSE):
                expected = [NOSE[0] - column, NOSE[1] - row]
                np.testing.assert_allclose(targets.offset[row, column, 0], expected, atol=1e-5)


def test_others_disks_are_left_out_unless_they_are_the_persons_own():
    elsewhere = np.asarray(make().elsewhere)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            own, other = near(row, column, NOSE), near(row, column, (11.0, 8.0))
            assert elsewhere[row, column, 0] == (other and not own)
            # Joint 1: one neighbour has it at the same place, the other one elsewhere.
            assert elsewhere[row, column, 1] == near(row, column, (3.0, 15.0))


def test_an_unannotated_joint_has_no_disk():
    targets = make(visible=[False, True])
    assert not targets.heatmap[..., 0].any()
    assert not targets.inside[..., 0].any()
    assert targets.labelled.all()


def test_an_unlabelled_joint_teaches_nothing():
    targets = make(labelled=[False, True])
    assert not targets.labelled[0]
    assert not targets.inside[..., 0].any()


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_coarse_grid_samples_the_fine_one(stride):
    fine, coarse = make(), make(stride=stride)
    np.testing.assert_array_equal(coarse.heatmap, fine.heatmap[::stride, ::stride])
    np.testing.assert_array_equal(coarse.elsewhere, fine.elsewhere[::stride, ::stride])
    offset = np.where(coarse.inside[..., None], coarse.offset, 0)
    expected = np.where(fine.inside[..., None], fine.offset, 0)[::stride, ::stride]
    np.testing.assert_allclose(offset, expected, atol=1e-5)


def test_no_other_people():
    targets = make(other_keypoints=np.zeros((0, 2, 2)), other_visible=np.zeros((0, 2)))
    assert not targets.elsewhere.any()


def test_heatmap_loss_by_hand():
    # -log sigmoid(2), -log(1 - sigmoid(-1)), and a position left out.
    logits = jnp.array([[[2.0], [-1.0], [50.0]]])
    target = jnp.array([[[1.0], [0.0], [0.0]]])
    include = jnp.array([[[True], [True], [False]]])
    expected = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(heatmap_loss(logits, target, include), expected, rtol=1e-6)


def test_heatmap_loss_of_extreme_logits_is_finite():
    logits = jnp.array([[[1e4], [-1e4]]])
    wrong = jnp.array([[[0.0], [1.0]]])
    include = jnp.ones((1, 2, 1), bool)
    assert heatmap_loss(logits, wrong, include) == 2e4
    gradient = jax.grad(lambda z: heatmap_loss(z, wrong, include))(logits)
    np.testing.assert_array_equal(gradient, [[[1.0], [-1.0]]])


def test_huber_by_hand():
    np.testing.assert_allclose(huber(jnp.array([0.0, 0.5, 2.0, 10.0]), 2.0), [0, 0.125, 2, 18])


def test_offset_loss_is_the_huber_of_the_distance():
    target = jnp.zeros((1, 2, 1, 2))
    offset = jnp.array([[[[3.0, 4.0]], [[0.3, 0.4]]]])
    everywhere = jnp.ones((1, 2, 1), bool)
    np.testing.assert_allclose(
        offset_loss(offset, target, everywhere, delta=1.0), 4.5 + 0.125, rtol=1e-6
    )
    first = jnp.array([[[True], [False]]])
    np.testing.assert_allclose(offset_loss(offset, target, first, delta=1.0), 4.5, rtol=1e-6)


def test_offset_gradient_is_bounded_and_zero_at_the_target():
    everywhere = jnp.ones((1, 1, 1), bool)

    def loss(offset):
        return offset_loss(offset, jnp.zeros((1, 1, 1, 2)), everywhere, delta=1.0)

    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros((1, 1, 1, 2))), np.zeros((1, 1, 1, 2)))
    far = jax.grad(loss)(jnp.array([[[[300.0, 400.0]]]]))
    np.testing.assert_allclose(far, [[[[0.6, 0.8]]]], rtol=1e-6)


VISIBILITY = [
    ({}, (1, 1)),
    ({"occluded": [False, True]}, (1, 0)),
    ({"occluded": [True, True], "visibility_known": [False, True]}, (None, 0)),
    ({"visible": [True, False]}, (1, None)),
    ({"labelled": [False, True], "occluded": [True, False]}, (None, 1)),
    ({"visibility_known": [False, False]}, (None, None)),
]


@pytest.mark.parametrize(("changes", "wanted"), VISIBILITY)
@pytest.mark.parametrize("stride", [1, 4])
def test_visibility_is_taught_inside_the_disks_where_it_is_known(changes, wanted, stride):
    """`wanted` is what each joint teaches, None for nothing."""
    targets = make(**changes, stride=stride)
    random = np.random.default_rng(0)
    rows, columns = (HEIGHT - 1) // stride + 1, (WIDTH - 1) // stride + 1
    shapes = {"heatmap": (), "offset": (2,), "visibility": ()}
    maps = {
        name: jnp.asarray(random.normal(size=(rows, columns, 2, *more)), jnp.float32)
        for name, more in shapes.items()
    }
    head = dataclasses.replace(HEAD, loss_stride=stride)
    losses = head.losses(maps, targets, Grid(HEIGHT, WIDTH))
    total = 0.0
    for k, point in enumerate((NOSE, EYE)):
        for row in range(rows):
            for column in range(columns):
                if wanted[k] is not None and near(row * stride, column * stride, point):
                    z = float(maps["visibility"][row, column, k])
                    total += math.log1p(math.exp(-z if wanted[k] else z))
    area = math.pi * (RADIUS / stride) ** 2
    np.testing.assert_allclose(losses["visibility"], total / (2 * area), rtol=1e-5)
    del maps["visibility"]
    assert {**losses, **head.losses(maps, targets, Grid(HEIGHT, WIDTH))} == losses


def test_visibility_is_read_where_the_joint_was_found():
    coarse = jnp.arange(5.0 * 7 * 2).reshape(5, 7, 2)  # linear, so that interpolation is exact
    points = jnp.array([NOSE, (100.0, -3.0)])  # the second lies outside: the upper right corner
    values = values_at(coarse, points, Grid(HEIGHT, WIDTH))
    np.testing.assert_allclose(values, [14 * 8 / 4 + 2 * 6 / 4, 13.0], rtol=1e-6)
    targets = make()
    maps = {"heatmap": 20 * targets.heatmap - 10, "offset": targets.offset}
    # Left of column 13 one sees what is there.
    logits = jnp.where(jnp.arange(WIDTH) < 13, 2.0, -1.0)
    maps["visibility"] = jnp.broadcast_to(logits[None, :, None], targets.heatmap.shape)
    how = Reading(Grid(HEIGHT, WIDTH), FACE.sigmas[:2], 1.0, "hough")
    poses = HEAD.decode(maps, how)
    np.testing.assert_allclose(poses.keypoints, [NOSE, EYE], atol=1)
    expected = 1 / (1 + np.exp([-2.0, 1.0]))
    np.testing.assert_allclose(poses.visibility, expected, rtol=1e-6)
    assert Disks().decode(maps, how).visibility is None


def test_without_the_weight_nothing_is_there_and_bad_weights_are_refused():
    assert [field.name for field in Disks().fields] == ["heatmap", "offset"]
    assert [field.name for field in HEAD.fields] == ["heatmap", "offset", "visibility"]
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="visibility_weight"):
            Disks(visibility_weight=weight)
