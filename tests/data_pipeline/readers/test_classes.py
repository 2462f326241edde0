"""Several categories of one annotation file as classes with joints of their own."""

import json

import numpy as np
import pytest

from data_pipeline.config import PoseAugmentation, PoseDataConfig
from data_pipeline.pose_examples import PoseExamples, nearest_others
from data_pipeline.readers import WRITERS, read
from data_pipeline.schema import DataError
from tests.two_classes import BALL, KITE, TRIANGLE, write_set

BOTH = ("kite", "triangle")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("classes"))


def test_each_has_a_block_of_joints(directory):
    dataset = read(directory, "train", categories=BOTH)
    skeleton = dataset.skeleton
    assert skeleton.names[3:6] == ("kite_tail", "triangle_top", "triangle_left_foot")
    assert skeleton.flip == (0, 2, 1, 3, 4, 6, 5)
    assert skeleton.blocks == {"kite": slice(0, 4), "triangle": slice(4, 7)}
    assert [each.id for each in skeleton.classes] == [7, 3]
    people = dataset.people
    assert people.image.tolist() == [0, 0, 1, 1, 2, 2]
    assert sorted(people.classes.tolist()) == [0, 0, 0, 1, 1, 1]
    for row, number in enumerate(people.classes):
        assert people.visibility[row].tolist() == [[2] * 4 + [0] * 3, [0] * 4 + [2] * 3][number]


@pytest.mark.parametrize("name", BOTH)
def test_one_of_them_is_as_if_there_were_no_other(directory, tmp_path, name):
    category = {"kite": KITE, "triangle": TRIANGLE}[name]
    alone = json.loads((directory / "annotations/person_keypoints_train2017.json").read_text())
    alone["categories"] = [category]
    alone["annotations"] = [a for a in alone["annotations"] if a["category_id"] == category["id"]]
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "person_keypoints_train2017.json"
    file.write_text(json.dumps(alone))
    (tmp_path / "train2017").symlink_to(directory / "train2017")
    mine, theirs = read(directory, "train", categories=BOTH).of_class(name), read(tmp_path, "train")
    assert mine.skeleton == theirs.skeleton
    assert mine.fingerprint == theirs.fingerprint
    assert mine.categories == {category["id"], name}


def test_all_are_those_with_joints_and_the_order_is_the_users(directory):
    assert read(directory, "train", categories=["all"]).skeleton.blocks.keys() == {*BOTH}
    swapped = read(directory, "train", categories=BOTH[::-1]).skeleton
    assert list(swapped.blocks) == ["triangle", "kite"]
    only = read(directory, "train", categories=["Kite"])
    assert only.skeleton.classes == (("kite", 7, 4),)
    assert len(only.people) == 3


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("unlabelled", ["negative", "ignore"])
def test_the_joints_of_other_classes_teach_nothing(directory, flip, unlabelled):
    dataset = read(directory, "train", categories=BOTH)
    config = PoseDataConfig(PoseAugmentation(flip=flip), unlabelled=unlabelled, max_others=2)
    make = PoseExamples(dataset, 33, 33, config)
    for person, number in enumerate(dataset.people.classes.tolist()):
        example = make(person, np.random.default_rng(0))
        expected = np.arange(7) < 4 if number == 0 else np.arange(7) >= 4
        np.testing.assert_array_equal(example.labelled, expected)
        np.testing.assert_array_equal(example.visible, expected)
        assert not example.other_visible.any()  # of whom there is one, of the other class
        assert len(nearest_others(dataset, person, 2)) == 0


@pytest.mark.parametrize(
    ("categories", "chosen", "message"),
    [
        ((KITE, TRIANGLE), ["kite", "triangel"], "no category 'triangel'; did you mean 'triangle'"),
        ((KITE, TRIANGLE), ["horse"], "no category 'horse'; choices: kite, triangle"),
        ((KITE, TRIANGLE, BALL), ["ball"], "'ball' declares no 'keypoints'; .* kite, triangle"),
        ((KITE, TRIANGLE | {"name": "kite"}), ["kite"], "categories 7 and 3 have one name, 'kite'"),
        ((KITE, TRIANGLE | {"id": 7}), ["kite"], "two categories have the id of 'kite', 7"),
        ((KITE, TRIANGLE), ["kite", "Kite"], "category 'Kite' is named twice"),
        ((KITE | {"sigmas": [1]}, TRIANGLE), ["kite"], "category 'kite': 'sigmas' must be 4"),
        ((KITE | {"name": "../kite"},), ["all"], "'../kite': cannot be the name of a folder"),
        ((BALL,), ["all"], "no category declares 'keypoints'"),
    ],
)
def test_what_cannot_be_chosen_is_refused(tmp_path, categories, chosen, message):
    directory = write_set(tmp_path / "data", count=1, categories=categories)
    with pytest.raises(DataError, match=message):
        read(directory, "train", categories=chosen)


def test_one_annotation_id_in_two_classes_is_refused(tmp_path):
    directory = write_set(tmp_path / "data", count=1)
    file = directory / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["id"] = content["annotations"][0]["id"]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation id 1 appears more than once"):
        read(directory, "train", categories=BOTH)


def test_other_formats_say_that_they_have_no_classes(directory, tmp_path):
    dataset = read(directory, "train", categories=BOTH).of_class("kite")
    WRITERS["labelme"].write(tmp_path, dataset)
    with pytest.raises(DataError, match="category 'kite' of a set in labelme"):
        read(tmp_path, "train", categories=["kite"])
