import numpy as np
import pytest

from data_pipeline.augment import Colour, CropScene, Mix, Occlude
from data_pipeline.windows import (
    AnyRotation,
    Enlarge,
    Fill,
    Flip,
    HalfBody,
    Mosaic,
    Person,
    Resize,
    Rotate,
    Shift,
    View,
    Window,
    turned_box,
)
from g_rmi.skeleton import COCO

K = len(COCO)
WINDOW = Window(30.0, 40.0, 24.0, 32.0, aspect=4 / 3)
PERSON = Person(
    box=np.array([20.0, 24, 40, 56]),
    keypoints=np.stack([np.linspace(22, 38, K), np.linspace(26, 54, K)], 1).astype(np.float32),
    visible=np.ones(K, bool),
    skeleton=COCO,
)


def test_a_window_shows_its_corners_in_the_crops_corners():
    affine = Window.around(np.array([20.0, 24, 40, 56]), 4 / 3).affine(height=33, width=25)
    np.testing.assert_allclose(affine @ [18, 24, 1], [0, 0], atol=1e-9)  # 20 x 32 becomes 24 x 32
    np.testing.assert_allclose(affine @ [42, 56, 1], [24, 32], atol=1e-9)
    mirrored = WINDOW._replace(flip=True).affine(height=33, width=25)
    np.testing.assert_allclose(mirrored @ [18, 24, 1], [24, 0], atol=1e-9)


def drawn(transform, window=WINDOW, count=200):
    return [transform(window, PERSON, np.random.default_rng(seed)) for seed in range(count)]


def test_each_geometry_changes_what_it_is_named_after():
    sizes = np.array([(w.width / 24, w.height / 32) for w in drawn(Enlarge((0.5, 2.0)))])
    np.testing.assert_allclose(sizes[:, 0], sizes[:, 1])
    assert 0.5 <= sizes.min() < 0.55
    assert 1.9 < sizes.max() <= 2
    moves = np.array([((w.x - 30) / 24, (w.y - 40) / 32) for w in drawn(Shift(0.1))])
    assert 0.09 < np.abs(moves).max() <= 0.1
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.2
    angles = [w.angle for w in drawn(Rotate(30.0, 0.6))]
    turned = np.degrees([angle for angle in angles if angle is not None])
    assert 0.5 < len(turned) / 200 < 0.7
    assert 28 < np.abs(turned).max() <= 30
    assert 0.2 < np.mean([w.flip for w in drawn(Flip(0.3))]) < 0.4


def test_an_angle_that_was_chosen_stays():
    (window, *_) = drawn(AnyRotation(1.0))
    assert window.angle is not None
    assert {w.angle for w in drawn(Rotate(30.0, 1.0), window)} == {window.angle}
    (half, *_) = drawn(HalfBody(1.0))
    assert drawn(AnyRotation(1.0), half, 5) == [half] * 5  # a half is not turned by any angle


@pytest.mark.parametrize("transform", [HalfBody(0.0), AnyRotation(0.0), Flip(0.0), Shift(0.0)])
def test_what_is_never_drawn_changes_nothing(transform):
    assert drawn(transform, count=5) == [WINDOW] * 5


def test_a_view_is_resized_within_its_range_and_a_tile_fills_its_room():
    view = View.fit((60, 100), (30, 60))
    assert view.size == view.shown == (30, 50)
    sizes = [
        [sized(view, np.zeros((0, 4)), np.random.default_rng(seed)).size for seed in range(200)]
        for sized in (Resize((0.5, 2.0)), Fill((0.5, 2.0)))
    ]
    rows, columns = np.moveaxis(np.array(sizes), -1, 0)
    assert (rows[0].min(), rows[0].max()) == (15, 60)
    assert np.abs(columns - rows * 100 / 60).max() <= 1
    assert (rows[1].min(), columns[1].min(), rows[1].max()) == (36, 60, 72)


def test_the_parts_of_a_mosaic_cover_the_canvas_once():
    rng = np.random.default_rng(0)
    count = {len(Mosaic(0.5)((40, 60), rng)) for _ in range(20)}
    assert count == {1, 4}
    for _ in range(20):
        covered = np.zeros((40, 60), int)
        for part in Mosaic(1.0)((40, 60), rng):
            covered[part] += 1
            assert min(covered[part].shape) >= 10
        assert (covered == 1).all()


def test_a_half_body_crop_follows_the_joints_of_one_half():
    points = np.zeros((K, 2), np.float32)
    lower = np.array([name.split("_")[-1] in ("hip", "knee", "ankle") for name in COCO.names])
    points[lower] = np.stack([np.linspace(10, 30, lower.sum()), np.full(lower.sum(), 80)], 1)
    points[~lower] = np.stack([np.linspace(40, 50, (~lower).sum()), np.full((~lower).sum(), 20)], 1)
    box = np.array([0.0, 0, 60, 100])
    person = Person(box, points, np.ones(K, bool), COCO)
    rng = np.random.default_rng(0)
    windows = {HalfBody(1.0)(WINDOW, person, rng) for _ in range(20)}
    # 1.5 times the extent of the joints around their middle, extended to the aspect.
    shown = {(w.x, w.y, round(w.width, 9), round(w.height, 9), w.whole) for w in windows}
    assert shown == {(20, 80, 30, 40, False), (45, 20, 15, 20, False)}
    few = person._replace(visible=np.arange(K) < 7)
    around = Window.around(box, 4 / 3)._replace(whole=False)
    assert HalfBody(1.0)(WINDOW, few, rng) == around


def test_a_box_turned_by_nothing_is_the_box():
    points = np.array([[10.0, 20], [30, 70]], np.float32)
    box = np.array([4.0, 14, 36, 76])
    np.testing.assert_allclose(turned_box(box, points, 0.0), box)
    # Joints that reach past the box leave no room to add.
    np.testing.assert_allclose(
        turned_box(np.array([12.0, 22, 28, 68]), points, 0.0), [10, 20, 30, 70]
    )
    around = turned_box(box, points, np.pi / 2)
    np.testing.assert_allclose(around, [20 - 31, 45 - 16, 20 + 31, 45 + 16])


def test_colour_jitter_keeps_the_picture_recognisable():
    rng = np.random.default_rng(0)
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    changed = Colour(0.5)(image, None, rng)
    assert changed.dtype == np.uint8
    assert (changed != image).any()
    assert np.corrcoef(changed.ravel(), image.ravel())[0, 1] > 0.8
    np.testing.assert_allclose(Colour(0.0)(image, None, rng).astype(int), image, atol=1)
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert np.ptp(Colour(1.0)(grey, None, rng).astype(int)) <= 2  # hue and saturation spare grey


def test_an_occlusion_is_a_rectangle():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(20):
        image = np.full((100, 80, 3), 7, np.uint8)
        image[::2] = 200  # so that a pasted part of the picture may differ from what it covers
        before = image.copy()
        changed = (Occlude(1.0)(image, None, rng) != before).any(axis=2)
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            assert (
                changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].mean() > 0.9
            )
            shares.append(changed.mean())
    assert shares
    assert max(shares) < 0.45**2


def test_mixing_shines_through_or_covers_a_rectangle():
    rng = np.random.default_rng(0)
    image, other = (np.full((100, 80, 3), value, np.uint8) for value in (0, 200))
    scene = CropScene(np.eye(2, 3), (80, 100), (), lambda rng: other)
    veils, covers = [], []
    for _ in range(40):
        mixed = Mix(1.0)(image.copy(), scene, rng)
        (covers if {*np.unique(mixed)} == {0, 200} else veils).append(mixed)
    assert len(veils) > 10
    assert all(np.ptp(veil) == 0 and veil.max() <= 80 for veil in veils)
    assert max(veil.max() for veil in veils) > 60
    assert len(covers) > 10
    for cover in covers:
        rows, columns = (np.flatnonzero(cover[..., 0].any(axis)) for axis in (1, 0))
        inside = cover[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (inside == 200).all()
        assert 0.2 <= len(rows) / 100 <= 0.62
        assert 0.2 <= len(columns) / 80 <= 0.63
