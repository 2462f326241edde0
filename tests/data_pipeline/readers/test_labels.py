"""Labels as tools write them: read where certain, else named in a line; the linter agrees."""

import json

import pytest

from data_pipeline.check import check_split
from data_pipeline.readers import read
from data_pipeline.schema import DataError
from g_rmi.skeleton import COCO

K = len(COCO)
NAN, INF = float("nan"), float("inf")
PERSON = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
DOG, HAND = (
    {"id": 1, "name": "dog"},
    {"name": "hand", "keypoints": ["a", "b"], "sigmas": [0.1, 0.1]},
)


def content(*, categories=(PERSON,), category=1, joints=K, **changes):
    """Two people in two pictures; the first one is changed."""
    people = [
        {
            "id": i,
            "image_id": i,
            "category_id": category,
            "bbox": [5, 5, 40, 60],
            "area": 1200.0,
            "iscrowd": 0,
            "keypoints": [20, 30, 2] * joints,
        }
        for i in (1, 2)
    ]
    people[0] |= changes
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 72} for i in (1, 2)]
    return {"images": images, "annotations": people, "categories": categories}


@pytest.fixture
def put(tmp_path):
    def put(content):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        return tmp_path

    return put


SAME = {
    "as it should be": content(),
    "crowd as text": content(iscrowd="0"),
    "crowd as a truth value": content(iscrowd=False),
    "crowd null": content(iscrowd=None),
    "category as text": content(category_id="1"),
    "category by name": content(category_id="Person"),
    "category in a list": content(category_id=[1]),
    "area in a list": content(area=[1200.0]),
    "area as text": content(area="1200"),
    "ids as text and float": content(id="1", image_id=1.0),
    "box as texts": content(bbox=["5", "5", "40", "60"]),
    "joints as triples": content(keypoints=[[20, 30, 2]] * K),
    "no id": content(id=None),
    "no categories": content(categories=[]),
    "no categories, people are 0": content(categories=[], category=0),
    "people are 0": content(categories=[PERSON | {"id": 0}], category=0),
    "people beside dogs": content(categories=[DOG, PERSON | {"id": 2}], category=2),
    "people in capitals": content(
        categories=[DOG, PERSON | {"id": 7, "name": "Human"}], category=7
    ),
    "a root of the name": content(categories=[{"id": 0, "name": "person"}, PERSON]),
    "the name twice": content(categories=[PERSON, {"id": 5, "name": "person"}], category_id=5),
    "category as text id": content(categories=[PERSON | {"id": "1"}]),
    "category without id": content(categories=[{k: PERSON[k] for k in ("name", "keypoints")}]),
    "categories as an object": content(categories={"1": PERSON}),
    "sigmas null": content(categories=[PERSON | {"sigmas": None}]),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_certain_is_read(put, name):
    dataset = read(put(SAME[name]), "train")
    people = dataset.people
    assert people.box.tolist() == [[5, 5, 45, 65]] * 2
    assert people.area.tolist() == [1200, 1200]
    assert not people.is_crowd.any()
    assert people.num_keypoints.tolist() == [K, K]
    assert len(set(people.id.tolist())) == 2
    assert dataset.skeleton == COCO
    report = check_split(dataset.directory, "train", decoding=False)
    assert report.count == {"missing image": 2}


REFUSED = {
    "crowd": (content(iscrowd="maybe"), "annotation 1: field 'iscrowd' = 'maybe'"),
    "crowd 2": (content(iscrowd=2), "annotation 1: field 'iscrowd' = 2"),
    "id past 63 bits": (content(id=2**63), "annotation 9223372036854775808: field 'id'"),
    "id": (content(id="x"), "annotation x: field 'id' = 'x' is not an integer"),
    "category": (content(category_id=[1, 2]), r"annotation 1: category_id \[1, 2\]"),
    "areas": (content(area=[1, 2]), r"annotation 1: field 'area' .*\[1, 2\]"),
    "area nan": (content(area=NAN), "annotation 1: field 'area' .*nan"),
    "box": (content(bbox=[0, 0, 1e300, 1]), r"annotation 1: field 'bbox' holds 1e\+300"),
    "box infinite": (content(bbox=[0, 0, INF, 1]), "annotation 1: field 'bbox' holds inf"),
    "integer": (content(bbox=[0, 0, 10**400, 1]), "annotation 1: field 'bbox' holds 1000"),
    "joints": (content(keypoints=[1e300, 0, 1] * K), "annotation 1: field 'keypoints' holds 1e"),
    "outline": (content(segmentation=[[1, 2, 3]]), "annotation 1: field 'segmentation'"),
    "only other categories": (
        content(categories=[DOG, DOG | {"id": 2, "name": "cat"}]),
        "'dog', 'cat'",
    ),
    "categories": (content(categories="person"), "'categories' is no list"),
    "category ids": (content(categories=[DOG, {"name": "cat"}]), "entry 1: field 'id' = None"),
    "two sets": (
        content(categories=[PERSON, HAND | {"id": 2, "name": "person"}]),
        "different joints",
    ),
    "names": (content(categories=[HAND | {"id": 1, "keypoints": [0, 1]}]), "'keypoints' .* names"),
    **{
        f"sigmas {value}": (
            content(categories=[HAND | {"id": 1, "sigmas": value}], joints=2),
            "sigmas",
        )
        for value in (None, [None, None], 0.1, [0.1], [NAN, 0.1], [0.1, INF], [0.1, -1])
    },
    "COCO's with three sigmas": (
        content(categories=[PERSON | {"sigmas": [0.1] * 3}]),
        "17 positive",
    ),
    "COCO's with limbs": (content(categories=[PERSON | {"skeleton": [[98, 99]]}]), "'skeleton'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_named(put, name):
    wrong, words = REFUSED[name]
    with pytest.raises(DataError, match=f"annotations.json: .*{words}") as error:
        read(put(wrong), "train")
    assert "\n" not in str(error.value)
    assert check_split(error_directory(error), "train", decoding=False).errors > 2


def error_directory(error):
    return str(error.value).partition("/annotations.json")[0]


def test_a_misspelt_field_is_named(put):
    wrong = content()
    wrong["annotations"][0]["boxx"] = wrong["annotations"][0].pop("bbox")
    with pytest.raises(DataError, match="field 'bbox' is missing; did you mean 'boxx'"):
        read(put(wrong), "train")


def test_declared_sigmas_of_cocos_joints_count(put):
    own = [0.05] * K
    skeleton = read(put(content(categories=[PERSON | {"sigmas": own}])), "train").skeleton
    assert skeleton.sigmas == tuple(own)
    assert skeleton.flip == COCO.flip
    assert "the sigmas 0.05" in skeleton.difference(COCO)


def share(person):
    x = [v / s for v, s in zip([20, 30, 2], (96, 72, 1))]
    person.update(bbox=[0.05, 0.07, 0.42, 0.8], area=0.17, keypoints=x * K)


SAID = {
    "normalised": share,
    "joints outside box": lambda p: p.update(keypoints=[80, 10, 2] * K),
    "joints in the corner": lambda p: p.update(
        bbox=[0, 0, 40, 60], keypoints=[20, 9, 2] * (K - 1) + [0, 0, 2]
    ),
    "no area": lambda p: p.update(area=0),
    "keypoint outside": lambda p: p.update(keypoints=[20, 30, 2] * (K - 1) + [200, 9, 2]),
}


@pytest.mark.parametrize("kind", SAID)
def test_the_linter_says_what_is_odd(put, kind):
    odd = content()
    SAID[kind](odd["annotations"][0])
    assert check_split(put(odd), "train", decoding=False).count == {kind: 1, "missing image": 2}


@pytest.mark.parametrize(
    "changes", [{"iscrowd": 1}, {"keypoints": [0] * 3 * K}, {"category_id": 9}], ids=str
)
def test_a_set_without_anybody_to_train_on_is_an_error(put, changes):
    nobody = content()
    for person in nobody["annotations"]:
        person |= changes
    count = check_split(put(nobody), "train", decoding=False).count
    assert count["no keypoints" if "keypoints" in changes else "no people"] == 1


def test_joints_without_another_side_are_named(put):
    names = ["left_tip", "right_tip", "left_edge"]
    hand = HAND | {"id": 1, "keypoints": names, "sigmas": [0.1] * 3}
    report = check_split(put(content(categories=[hand], joints=3)), "train", decoding=False)
    assert report.examples["not mirrored"] == [
        "no other side of left_edge; write left_x and right_x"
    ]
