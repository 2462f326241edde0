"""Boxes and the crop's affine map, against hand-computed numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g_rmi.geometry import apply_affine, box_to_crop, invert_affine, pose_box

ASPECT = 353 / 257
coordinates = st.floats(-500, 500)
sides = st.floats(1, 800)


def test_a_wide_box_grows_in_height():
    np.testing.assert_allclose(pose_box(np.array([0, 0, 100, 20]), aspect=1.5), [0, -65, 100, 85])


def test_a_tall_box_grows_in_width():
    np.testing.assert_allclose(pose_box(np.array([0, 0, 10, 120]), aspect=1.5), [-35, 0, 45, 120])


def test_enlargement_keeps_the_centre():
    np.testing.assert_allclose(
        pose_box(np.array([0, 0, 40, 60]), aspect=1.5, scale=1.5), [-10, -15, 50, 75]
    )


@given(coordinates, coordinates, sides, sides, st.floats(1, 2))
def test_pose_box_contains_the_box_and_has_the_aspect(x, y, w, h, scale):
    x0, y0, x1, y1 = pose_box(np.array([x, y, x + w, y + h]), aspect=ASPECT, scale=scale)
    assert (y1 - y0) / (x1 - x0) == pytest.approx(ASPECT)
    tolerance = 1e-6 * (w + h + 500)
    assert x0 <= x + tolerance
    assert y0 <= y + tolerance
    assert x1 >= x + w - tolerance
    assert y1 >= y + h - tolerance


def test_a_box_without_area_still_makes_a_crop():
    x0, y0, x1, y1 = pose_box(np.array([5, 5, 5, 5]), aspect=2.0)
    assert (x1 - x0, y1 - y0) == (0.5, 1.0)


def test_boxes_in_any_number():
    boxes = np.array([[[0, 0, 100, 20], [0, 0, 10, 120]]])
    assert pose_box(boxes, aspect=1.5).shape == (1, 2, 4)


def test_corner_pixels_lie_on_the_box_corners():
    affine = box_to_crop(np.array([10.0, 20.0, 42.0, 52.0]), height=353, width=257)
    corners = np.array([[10, 20], [42, 20], [10, 52], [42, 52]])
    expected = [[0, 0], [256, 0], [0, 352], [256, 352]]
    np.testing.assert_allclose(apply_affine(affine, corners), expected, atol=1e-9)


def test_flip_mirrors_the_crop():
    affine = box_to_crop(np.array([0.0, 0.0, 100.0, 100.0]), height=11, width=11, flip=True)
    np.testing.assert_allclose(
        apply_affine(affine, np.array([[0, 0], [30, 70]])), [[10, 0], [7, 7]]
    )


def test_a_quarter_turn_is_clockwise_on_the_screen():
    affine = box_to_crop(np.array([0.0, 0.0, 10.0, 10.0]), height=11, width=11, angle=np.pi / 2)
    # The middle of the top edge goes to the middle of the right edge.
    np.testing.assert_allclose(apply_affine(affine, np.array([5, 0])), [10, 5], atol=1e-9)


@given(coordinates, coordinates, sides, sides, st.floats(-3, 3), st.booleans())
def test_the_inverse_brings_points_back(x, y, w, h, angle, flip):
    box = np.array([x, y, x + w, y + h])
    affine = box_to_crop(box, height=353, width=257, angle=angle, flip=flip)
    points = np.array([[x, y], [x + w, y + h], [0.0, 0.0]])
    back = apply_affine(invert_affine(affine), apply_affine(affine, points))
    np.testing.assert_allclose(back, points, atol=1e-6)
