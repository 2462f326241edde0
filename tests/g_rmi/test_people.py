"""People in the forms that others want: COCO's results, columns, a drawing, supervision's."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from g_rmi.people import upright
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import People

PAIR = Skeleton.create(("head", "tail"), limbs=[("head", "tail")], sigmas=(0.1, 0.2))
FOUND = People(
    keypoints=np.array([[[10.126, 20], [30, 40]], [[1, 2], [3.5, 4]]], np.float32),
    keypoint_scores=np.array([[0.9, 0.30001], [0.29, 0.5]], np.float32),
    scores=np.array([0.7, 0.1], np.float32),
    boxes=np.array([[5, 6, 35, 46], [0, 1, 4, 5]], np.float32),
    skeleton=PAIR,
)


def test_names_are_those_of_the_skeleton():
    assert FOUND.names == ("head", "tail")
    points = np.zeros((2, 17, 2), np.float32)
    assert People(points, points[..., 0], FOUND.scores, FOUND.boxes).names == COCO.names
    assert dataclasses.replace(FOUND, scores=FOUND.scores[::-1]).names == FOUND.names


def test_they_are_counted_and_chosen_as_people():
    """Not as columns of arrays."""
    assert len(FOUND) == 2
    nobody = FOUND[FOUND.scores > 1]
    assert not nobody
    assert nobody.keypoints.shape == (0, 2, 2)
    assert list(nobody) == []
    np.testing.assert_array_equal(FOUND[::-1].boxes, FOUND.boxes[::-1])
    assert FOUND[:1].skeleton == PAIR
    for i, person in enumerate(FOUND):
        np.testing.assert_array_equal(person.keypoints, FOUND.keypoints[i])
        np.testing.assert_array_equal(person.box, FOUND.boxes[i])
        assert person.score == FOUND.scores[i]
    assert FOUND[-1].score == FOUND[1].score
    with pytest.raises(IndexError):
        FOUND[2]


def test_sixteen_bits_are_seen_as_eight():
    grey = np.arange(0, 65536, 257, dtype=np.uint16)[None].repeat(4, 0)
    seen = upright(Image.fromarray(grey))
    assert seen.shape == (4, 256, 3)
    np.testing.assert_array_equal(seen[0, :, 1], np.arange(255 + 1))


def test_cocos_results():
    assert FOUND.to_coco(image_id=7) == [
        {"image_id": 7, "category_id": 1, "keypoints": [10.13, 20, 0.9, 30, 40, 0.3]}
        | {"score": 0.7, "bbox": [5, 6, 30, 40]},
        {"image_id": 7, "category_id": 1, "keypoints": [1, 2, 0.29, 3.5, 4, 0.5]}
        | {"score": 0.1, "bbox": [0, 1, 4, 4]},
    ]
    json.dumps(FOUND.to_coco())


def test_columns_are_empty_where_a_joint_is_not_sure():
    assert FOUND.columns(min_score=0.3) == {
        "score": [0.7, 0.1],
        "bbox_x": [5, 0],
        "bbox_y": [6, 1],
        "bbox_width": [30, 4],
        "bbox_height": [40, 4],
        "head_x": [10.13, None],
        "head_y": [20, None],
        "head_score": [0.9, 0.29],
        "tail_x": [30, 3.5],
        "tail_y": [40, 4],
        "tail_score": [0.3, 0.5],
    }


def test_visibility_comes_along_where_it_is_known():
    told = np.array([[0.91234, 0.2], [0.6, 0.1]], np.float32)
    people = dataclasses.replace(FOUND, visibility=told)
    for plain, full, values in zip(FOUND.to_coco(), people.to_coco(), told, strict=True):
        assert full == plain | {"visibility": values.round(4).astype(float).round(4).tolist()}
    json.dumps(people.to_coco())
    more = people.columns(min_score=0.3)
    assert more.pop("head_visibility") == [0.9123, None]
    assert more.pop("tail_visibility") == [0.2, 0.1]
    assert more == FOUND.columns(min_score=0.3)
    np.testing.assert_array_equal(people[1:].visibility, told[1:])
    np.testing.assert_array_equal(people[1].visibility, told[1])
    assert FOUND[0].visibility is FOUND[:1].visibility is None


def test_joints_that_are_rather_hidden_are_hollow():
    image = np.zeros((60, 50, 3), np.uint8)
    told = np.array([[0.5, 0.49], [0.5, 0.5]], np.float32)
    one = dataclasses.replace(FOUND, boxes=FOUND.boxes + 100)[:1]
    plain = one.draw(image)
    drawn = dataclasses.replace(one, visibility=told[:1]).draw(image)
    assert (drawn[20, 10] == plain[20, 10]).all()
    assert drawn[40, 30].max() < plain[40, 30].max() / 2
    seen = dataclasses.replace(one, visibility=told[1:]).draw(image)
    np.testing.assert_array_equal(seen, plain)


def test_nobody_is_no_error():
    nobody = FOUND[:0]
    assert nobody.to_coco() == []
    assert set(map(len, nobody.columns().values())) == {0}
    image = np.zeros((50, 40, 3), np.uint8)
    np.testing.assert_array_equal(nobody.draw(image), image)
    turned = Image.fromarray(np.rot90(image))
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    np.testing.assert_array_equal(nobody.draw(turned), image)


@pytest.mark.parametrize("image", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_picture_is_not_drawn_on(image):
    with pytest.raises(ValueError, match="a picture must be uint8 RGB"):
        FOUND.draw(image)


def test_a_drawing_shows_the_joints_that_are_sure():
    image = np.zeros((60, 50, 3), np.uint8)
    one = dataclasses.replace(
        FOUND, scores=np.array([0.7, 0.1]), boxes=FOUND.boxes + 100
    )  # boxes outside
    drawn = one.draw(image, min_score=0.8)
    assert not image.any()
    assert drawn[20, 10].any()
    assert not drawn[40, 30].any()
    assert one.draw(image, min_score=0.2)[40, 30].any()


@pytest.mark.slow
def test_supervision_takes_them():
    supervision = pytest.importorskip("supervision")
    points = FOUND.to_supervision()
    assert isinstance(points, supervision.KeyPoints)
    np.testing.assert_array_equal(points.xy, FOUND.keypoints)
    np.testing.assert_array_equal(points.visible, [[True, True], [False, True]])
    np.testing.assert_array_equal(points[:1].data["xyxy"], FOUND.boxes[:1])
    image = np.zeros((60, 50, 3), np.uint8)
    assert supervision.VertexAnnotator(radius=2).annotate(image.copy(), points).any()


def test_several_classes_have_their_own_joints_in_every_form():
    ring = Skeleton.create(("edge",), limbs=[], sigmas=(0.1,))
    skeleton = Skeleton.join({"bird": PAIR, "ring": ring}, [16, 5])
    found = People(
        keypoints=np.array([[[0, 0], [0, 0], [7, 8]], [[1, 2], [3, 4], [0, 0]]], np.float32),
        keypoint_scores=np.array([[0, 0, 0.5], [0.75, 0.25, 0]], np.float32),
        scores=np.array([0.5, 0.25], np.float32),
        boxes=np.array([[5, 6, 9, 9], [0, 1, 4, 5]], np.float32),
        skeleton=skeleton,
        classes=np.array(["ring", "bird"]),
    )
    assert [person.class_name for person in found] == ["ring", "bird"]
    assert FOUND[0].class_name is None
    bird = found.of_class("bird")
    assert bird.skeleton == PAIR
    assert bird.keypoints.tolist() == [[[1, 2], [3, 4]]]
    assert bird.keypoint_scores.tolist() == [[0.75, 0.25]]
    assert found[1:].classes.tolist() == ["bird"]
    with pytest.raises(ValueError, match="no class 'fish'; there are: bird, ring"):
        found.of_class("fish")
    with pytest.raises(ValueError, match="no class 'bird'; there are: none"):
        FOUND.of_class("bird")
    first, second = found.to_coco(image_id=2)
    assert first == {
        "image_id": 2,
        "category_id": 5,
        "category_name": "ring",
        "keypoints": [7, 8, 0.5],
        "score": 0.5,
        "bbox": [5, 6, 4, 3],
    }
    assert (second["category_id"], second["keypoints"]) == (16, [1, 2, 0.75, 3, 4, 0.25])
    columns = found.columns(min_score=0.3)
    assert columns["category_name"] == ["ring", "bird"]
    assert columns["head_x"] == [*columns["head_score"][:1], 1] == [None, 1]
    assert columns["tail_score"] == [None, 0.25]
    assert columns["tail_x"] == [None, None]
    assert columns["edge_y"] == [8, None]
    seen = dataclasses.replace(found, visibility=np.float32([[0, 0, 0.5], [1, 0.25, 0]]))
    assert [entry["visibility"] for entry in seen.to_coco()] == [[0.5], [1, 0.25]]
    columns = seen.columns(min_score=0.3)
    assert columns["edge_visibility"] == [0.5, None]
    assert columns["head_visibility"] == [None, 1]


def test_only_the_own_joints_of_a_class_are_drawn():
    skeleton = Skeleton.join({"a": PAIR, "b": PAIR})
    points = np.full((1, 4, 2), 60.0)
    points[0, 2:] = 90.0
    row = np.zeros((1, 4)), np.array([0.9]), np.array([[0, 0, 1, 1.0]])
    drawn = {
        name: People(points, *row, skeleton=skeleton, classes=np.array([name])).draw(
            np.zeros((120, 120, 3), np.uint8), min_score=0.0
        )
        for name in "ab"
    }
    assert (drawn["a"][60, 60].any(), drawn["a"][90, 90].any()) == (True, False)
    assert (drawn["b"][60, 60].any(), drawn["b"][90, 90].any()) == (False, True)
