"""Pictures: drawn where it should be, untouched elsewhere, and no input breaks it."""

import numpy as np
import pytest

from g_rmi.skeleton import COCO, Skeleton
from g_rmi.viz import draw
from tests.g_rmi.evaluation.people import POSE

GREY = 120


def scene(height=240, width=160):
    """A flat picture and one person who fills its middle half."""
    image = np.full((height, width, 3), GREY, np.uint8)
    points = POSE[None] * (width / 2, height / 2) + (width / 4, height / 4)
    return image, points, np.ones((1, 17))


def changed(image, picture):
    return (picture != image).any(-1)


def hue(pixel):
    red, green, blue = pixel.astype(int)
    return {red: "right", green: "middle", blue: "left"}[max(red, green, blue)]


def at(picture, point):
    x, y = np.round(point).astype(int)
    return picture[y, x]


def test_joints_are_drawn_on_their_side_and_the_rest_is_untouched():
    image, points, scores = scene()
    before = image.copy(), points.copy(), scores.copy()
    picture = draw.draw_people(image, points, scores)
    for array, copy in zip((image, points, scores), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert (picture.dtype, picture.shape) == (image.dtype, image.shape)
    for name in ("left_wrist", "right_ankle", "left_knee", "right_elbow"):
        assert hue(at(picture, points[0, COCO.names.index(name)])) == name.split("_")[0]
    hips = points[0, [COCO.names.index(f"{side}_hip") for side in ("left", "right")]]
    assert hue(at(picture, hips.mean(axis=0))) == "middle"
    touched = changed(image, picture)
    assert 0.02 < touched.mean() < 0.3
    rows, columns = np.nonzero(touched)
    low, high = points[0].min(axis=0), points[0].max(axis=0)
    assert (np.array([columns.min(), rows.min()]) > low - 6).all()
    assert (np.array([columns.max(), rows.max()]) < high + 6).all()


def test_a_joint_is_centred_on_its_point():
    image, points, _ = scene()
    only = np.zeros((1, 17))
    only[0, 9] = 1
    for point in ((40.0, 80.0), (40.5, 80.5), (41.0, 79.75)):
        points[0, 9] = point
        weight = np.abs(draw.draw_people(image, points, only).astype(float) - GREY).sum(-1)
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        centre = [(weight * columns).sum(), (weight * rows).sum()] / weight.sum()
        np.testing.assert_allclose(centre, point, atol=0.1)


def test_scores_decide_what_is_drawn():
    image, points, scores = scene()
    scores[0, 9] = 0.1
    wrist, elbow = points[0, 9], points[0, 7]
    picture = draw.draw_people(image, points, scores, min_score=0.3)
    assert (at(picture, wrist) == GREY).all()
    assert (at(picture, (wrist + elbow) / 2) == GREY).all()
    assert (at(picture, elbow) != GREY).any()
    picture = draw.draw_people(image, points, scores, min_score=0.05)
    assert (at(picture, wrist) != GREY).any()


def test_visibility_hides_and_hollows():
    image, points, scores = scene()
    visibility = np.full((1, 17), 2)
    visibility[0, 9], visibility[0, 10] = 0, 1
    picture = draw.draw_people(image, points, scores, visibility=visibility)
    assert (at(picture, points[0, 9]) == GREY).all()
    assert at(picture, points[0, 10]).max() < 60  # the dark hole of a ring
    seen = draw.draw_people(image, points, scores)
    assert at(seen, points[0, 10]).max() > 150


def test_people_have_different_shades_and_the_best_lies_on_top():
    image, points, _ = scene()
    far = points + np.array([0, 4_000, 8_000])[:, None, None]
    shades = set()
    for n in range(3):
        wide = np.roll(far, n, axis=0)
        picture = draw.draw_people(image, wide, np.ones((3, 17)))
        shades.add(tuple(at(picture, points[0, 9]).tolist()))
    assert len(shades) == 3
    both, ones = np.concatenate([points, points]), np.ones((2, 17))
    wrist = points[0, 9]
    alone = [draw.draw_people(image, both, ones * [[n == 0], [n == 1]]) for n in (0, 1)]
    first = draw.draw_people(image, both, ones, np.array([0.9, 0.1]))
    second = draw.draw_people(image, both, ones, np.array([0.1, 0.9]))
    np.testing.assert_array_equal(at(first, wrist), at(alone[0], wrist))
    np.testing.assert_array_equal(at(second, wrist), at(alone[1], wrist))


def test_ids_give_the_colours_and_are_written():
    image, points, scores = scene(width=320)
    both = points + np.array([[[-80, 0]], [[80, 0]]])
    ids = np.array([7, 2])
    picture = draw.draw_people(image, both, np.ones((2, 17)), ids=ids)
    other = draw.draw_people(image, both[::-1], np.ones((2, 17)), ids=ids[::-1])
    np.testing.assert_array_equal(picture, other)
    shaded = draw.draw_people(image, points, scores, ids=np.array([2]))
    assert (shaded != draw.draw_people(image, points, scores)).any()
    nobodys = draw.draw_people(image, points, scores, ids=np.array([-1]))
    assert changed(image, nobodys).sum() < changed(image, shaded).sum()  # no number beside it


def test_boxes_and_scores():
    image, points, scores = scene()
    box = np.array([[20.0, 40.0, 140.0, 220.0]])
    picture = draw.draw_people(image, points, 0 * scores, boxes=box)
    touched = changed(image, picture)
    assert touched[40, 80]
    assert touched[130, 20]
    assert touched[130, 140]
    assert not touched[60:200, 40:120].any()
    labelled = draw.draw_people(image, points, 0 * scores, np.array([0.83], np.float32), box)
    plate = changed(picture, labelled)
    assert 10 < np.ptp(np.nonzero(plate)[1]) < 80
    assert labelled[plate].max() > 200  # light text
    assert (labelled[plate].max(-1) < 60).mean() > 0.25  # on a dark plate


def test_boxes_alone():
    image, *_ = scene()
    boxes = np.array([[20.0, 40.0, 140.0, 220.0], [20.0, 40.0, 100.0, 100.0], [np.nan, 0, 1, 2]])
    before = boxes.copy()
    picture = draw.draw_boxes(image, boxes)
    touched = changed(image, picture)
    for row, column in ((40, 120), (130, 20), (130, 140), (220, 80), (100, 60), (70, 100)):
        assert touched[row, column]
    assert not touched[110:210, 30:130].any()
    labelled = draw.draw_boxes(image, boxes, np.array([0.83, 0.25, 0.9], np.float32))
    plates = changed(picture, labelled)
    assert labelled[plates].max() > 200
    np.testing.assert_array_equal(boxes, before)
    # Where they share a corner, the better one lies on top.
    ends = [draw.draw_boxes(image, boxes[:2], np.array(s)) for s in ((0.9, 0.1), (0.1, 0.9))]
    alone = draw.draw_boxes(image, boxes[:1])
    np.testing.assert_array_equal(ends[0][43:90, 20], alone[43:90, 20])
    assert (ends[1][43:90, 20] != alone[43:90, 20]).any()
    np.testing.assert_array_equal(draw.draw_boxes(image, boxes[:0], np.zeros(0)), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (129, 97), (700, 40), (1500, 2500)])
def test_any_size(shape):
    image, points, scores = scene(*shape)
    box = np.array([[0.0, 0.0, shape[1], shape[0]]])
    picture = draw.draw_people(image, points, scores, np.array([0.5]), box)
    assert picture.shape == image.shape
    assert changed(image, picture).any()


def test_stray_joints_do_not_break_it():
    image, points, scores = scene()
    points[0, :6] = [
        (np.nan, 3),
        (np.inf, -np.inf),
        (-500, 20),
        (1e30, 1e30),
        (19_000, 19_000),
        (-3, -2),
    ]
    boxes = np.array([[np.nan, 0.0, 1.0, 2.0]])
    picture = draw.draw_people(image, points, scores, np.array([np.nan]), boxes)
    assert changed(image, picture).any()
    lost = draw.draw_people(image, np.full((2, 17, 2), np.nan), np.ones((2, 17)), np.ones(2))
    np.testing.assert_array_equal(lost, image)


def test_nobody_leaves_the_picture_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    picture = draw.draw_people(
        image, np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0), np.zeros((0, 4))
    )
    np.testing.assert_array_equal(picture, image)
    assert not np.shares_memory(picture, image)


def test_untouched_pixels_keep_their_values():
    image = np.random.default_rng(0).integers(0, 256, (240, 160, 3), np.uint8)
    flat, points, scores = scene()
    touched = changed(flat, draw.draw_people(flat, points, scores))
    near = np.zeros_like(touched)
    for row, column in np.argwhere(touched):
        near[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    picture = draw.draw_people(image, points, scores)
    np.testing.assert_array_equal(picture[~near], image[~near])


def test_own_skeleton():
    image = np.full((60, 60, 3), GREY, np.uint8)
    tool = Skeleton.create(("top", "end"), limbs=[("top", "end")], sigmas=[0.1, 0.1])
    picture = draw.draw_people(
        image, np.array([[[30.0, 10], [30, 50]]]), np.ones((1, 2)), skeleton=tool
    )
    assert hue(picture[30, 30]) == "middle"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 9), np.uint8), r"got uint8 \[8, 9\]; a greyscale picture becomes one with"),
        (np.zeros((8, 9, 1), np.uint8), "a greyscale picture becomes one with"),
        (np.zeros((8, 9, 4), np.uint8), "drop the alpha channel"),
        (np.zeros((8, 9, 3), np.float32), "scale to 0..255"),
        (np.zeros((0, 9, 3), np.uint8), r"got uint8 \[0, 9, 3\]$"),
    ],
)
def test_other_pictures_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        draw.draw_people(image, np.zeros((0, 17, 2)), np.zeros((0, 17)))
    with pytest.raises(ValueError, match="uint8 RGB"):
        draw.draw_boxes(image, np.zeros((0, 4)))
    with pytest.raises(ValueError, match="uint8 RGB"):
        draw.draw_heatmap(image, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="uint8 RGB"):
        draw.contact_sheet([image])


def test_heatmap_is_aligned_with_the_corners():
    image = np.full((41, 81, 3), GREY, np.uint8)
    heatmap = np.zeros((6, 11))
    heatmap[2, 7] = 1.0  # image point (7 * 80 / 10, 2 * 40 / 5)
    picture = draw.draw_heatmap(image, heatmap)
    difference = np.abs(picture.astype(int) - GREY).sum(-1)
    touched = np.argwhere(difference > 0)
    np.testing.assert_array_equal(touched.mean(axis=0), [16, 56])
    np.testing.assert_array_equal(touched.max(axis=0) - touched.min(axis=0), [14, 14])
    assert difference[16, 56] == difference.max()
    np.testing.assert_array_equal(draw.draw_heatmap(image, 0 * heatmap), image)
    weak = draw.draw_heatmap(image, heatmap, maximum=10.0).astype(int)
    assert np.abs(weak - GREY).sum() < np.abs(picture.astype(int) - GREY).sum()
    heatmap[0, 0] = np.nan
    np.testing.assert_array_equal(draw.draw_heatmap(image, heatmap), picture)
    assert draw.draw_heatmap(image[:1, :1], np.ones((1, 1))).shape == (1, 1, 3)


def test_contact_sheet():
    red = np.full((30, 60, 3), (250, 0, 0), np.uint8)
    tall = np.full((100, 10, 3), (0, 0, 250), np.uint8)
    sheet = draw.contact_sheet([red, tall, red], columns=2, cell=(64, 64))
    assert sheet.shape == (2 * 64 + 3 * 2, 2 * 64 + 3 * 2, 3)
    assert (sheet == (250, 0, 0)).all(-1).sum() == 2 * 32 * 64
    assert (sheet == (0, 0, 250)).all(-1).sum() == 64 * 6
    titled = draw.contact_sheet([red, tall], columns=2, cell=(64, 64), titles=["red", "blue"])
    assert titled.shape[0] > 64 + 4
    assert (titled[70:] < 100).any()
    assert draw.contact_sheet([]).ndim == 3
    with pytest.raises(ValueError, match="1 titles for 2 pictures"):
        draw.contact_sheet([red, tall], titles=["red"])


def test_compare_puts_truth_left_and_found_right():
    image, points, scores = scene()
    visibility = np.full((1, 17), 2)
    sheet = draw.compare(image, points, visibility, points[:0], scores[:0])
    left, right = np.array_split(sheet[:240], 2, axis=1)
    assert (left == draw.draw_people(image, points, scores)[100, 50]).all(-1).any()
    inner = right[10:230, 10:-10]
    assert (inner == GREY).all()


def test_compare_boxes_puts_truth_left_and_found_right():
    image, *_ = scene()
    boxes = np.array([[20.0, 40.0, 140.0, 220.0]])
    sheet = draw.compare_boxes(image, boxes, boxes[:0], np.zeros(0))
    left, right = sheet[2:242, 2:162], sheet[2:242, 164:324]
    np.testing.assert_array_equal(left, draw.draw_boxes(image, boxes))
    np.testing.assert_array_equal(right, image)
    sheet = draw.compare_boxes(image, boxes[:0], boxes, np.array([0.5]))
    np.testing.assert_array_equal(sheet[2:242, 2:162], image)
    found = draw.draw_boxes(image, boxes, np.array([0.5]))
    np.testing.assert_array_equal(sheet[2:242, 164:324], found)
