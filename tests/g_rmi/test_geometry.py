"""Boxes, the crop's and the canvas's affine maps, against hand-computed numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g_rmi.geometry import (
    apply_affine,
    box_to_crop,
    compose_affine,
    fit_canvas,
    from_xywh,
    invert_affine,
    pose_box,
    resize_affine,
    to_xywh,
)

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


def test_a_composed_map_does_one_after_the_other():
    first, second = np.random.default_rng(0).normal(size=(2, 2, 3))
    points = np.array([[0.0, 0.0], [3.0, -2.0]])
    both = apply_affine(compose_affine(second, first), points)
    np.testing.assert_allclose(both, apply_affine(second, apply_affine(first, points)))


@pytest.mark.parametrize(
    ("height", "width", "canvas", "size"),
    [
        (480, 640, (600, 900), (600, 800)),
        (640, 480, (900, 600), (800, 600)),
        (300, 640, (600, 900), (422, 900)),
        (640, 300, (900, 600), (900, 422)),
        (1200, 1800, (600, 900), (600, 900)),
        (500, 500, (600, 900), (600, 600)),
        (1, 1, (600, 900), (600, 600)),
        (50, 10_000, (600, 900), (4, 900)),  # 4.5 rows: half to even
        (10_000, 50, (900, 600), (900, 4)),
        (1, 10_000, (600, 900), (1, 900)),
        (10_000, 1, (900, 600), (900, 1)),
    ],
)
def test_a_picture_fits_its_canvas(height, width, canvas, size):
    fit = fit_canvas(height, width, canvas=(600, 900))
    assert (fit.canvas, fit.size) == (canvas, size)
    np.testing.assert_allclose(apply_affine(fit.affine, np.zeros(2)), 0)
    last = apply_affine(fit.affine, np.array([width - 1, height - 1]))
    wanted = [new - 1 if old > 1 else 0 for old, new in zip((width, height), size[::-1])]
    np.testing.assert_allclose(last, wanted)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 900), st.integers(0, 600))
def test_a_picture_on_its_canvas_is_large_whole_and_not_squashed(height, width, short, more):
    canvas, size, affine = fit_canvas(height, width, canvas=(short, short + more))
    assert canvas == ((short, short + more) if width >= height else (short + more, short))
    assert 1 <= size[0] <= canvas[0]
    assert 1 <= size[1] <= canvas[1]
    assert any(have == room for have, room in zip(size, canvas))
    scale = min(canvas[0] / height, canvas[1] / width)
    assert max(abs(size[0] - scale * height), abs(size[1] - scale * width)) <= 1
    assert np.isfinite(invert_affine(affine)).all()


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (1, 9), (7, 7)])
def test_a_squashed_picture_fills_its_canvas(height, width):
    fit = fit_canvas(height, width, canvas=(300, 400), squash=True)
    assert fit.size == fit.canvas == ((300, 400) if width >= height else (400, 300))
    corner = apply_affine(fit.affine, np.array([width - 1.0, height - 1.0]))
    wanted = [new - 1 if old > 1 else 0 for old, new in zip((width, height), fit.size[::-1])]
    np.testing.assert_allclose(corner, wanted)


def test_resizing_to_or_from_one_pixel():
    np.testing.assert_allclose(resize_affine(1, 9, rows=5, columns=1), [[1 / 9, 0, 0], [0, 5, 0]])
    np.testing.assert_allclose(resize_affine(5, 9, rows=3, columns=17), [[2, 0, 0], [0, 0.5, 0]])


def test_xywh_round_trip():
    boxes = np.array([[10.0, 20.0, 35.5, 80.25], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(to_xywh(boxes)[0], [10, 20, 25.5, 60.25])
    np.testing.assert_array_equal(from_xywh(to_xywh(boxes)), boxes)
    assert to_xywh(np.zeros((0, 4))).shape == (0, 4)
