"""Labels as tools write them: read where certain, else named in a line; the linter agrees."""

import json
import os
import subprocess
import sys

import pytest

from data_pipeline.check import check_split
from data_pipeline.readers import read
from data_pipeline.schema import DataError
from experiments.parts.data import check_pictures
from g_rmi.skeleton import COCO

K = len(COCO)
NAN, INF = float("nan"), float("inf")
PERSON = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
DOG, HAND = (
    {"id": 1, "name": "dog"},
    {"name": "hand", "keypoints": ["a", "b"], "sigmas": [0.1, 0.1]},
)


def content(*, categories=(PERSON,), category=1, joints=K, picture=(), without=None, **changes):
    """Two people in two pictures; the first one is changed, or lacks a field."""
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
    people[0].pop(without, None)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 72} for i in (1, 2)]
    images[0] |= dict(picture)
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
    "sigmas as text": content(categories=[PERSON | {"sigmas": [*map(str, COCO.sigmas)]}]),
    "no categories, people by name": content(categories=[], category="Person"),
    "no categories, no category": content(categories=[], category=None),
    "names in words": content(
        categories=[PERSON | {"keypoints": [n.replace("_", " ").title() for n in COCO.names]}]
    ),
    "names in letters": content(
        categories=[PERSON | {"keypoints": [n.replace("left_", "L ") for n in COCO.names]}]
    ),
    "complete as text": content(picture={"person_boxes_complete": "true", "width": "96"}),
    "difficult as text": content(picture={"difficult_left_out": "0"}),
    "name of Windows": content(picture={"file_name": ".\\1.jpg"}),
    "crowd in a list": content(iscrowd=["false"]),
    "run lengths": content(segmentation={"counts": "a1", "size": [72, 96]}),
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
    assert dataset.images.boxes_complete.all()
    report = check_split(dataset.directory, "train", decoding=False)
    assert report.count == {"missing image": 2}


@pytest.mark.parametrize("wrong", [{"without": "area"}, {"area": None}], ids=str)
def test_an_area_that_nobody_gave_is_that_of_most_people_in_such_a_box(put, wrong, capsys):
    dataset = read(put(content(**wrong)), "train")
    assert dataset.people.area.tolist() == [0.53 * 40 * 60, 1200]
    assert "has no areas of 1 of 2 people (0.53 of the box)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["1.JPG", "1.jpg ", "1.Jpg"])
def test_a_name_of_other_letters_or_spaces_is_found(put, name):
    directory = put(content(picture={"file_name": name}))
    for there in ("1.jpg", "2.jpg"):
        (directory / "images" / there).write_bytes(there.encode())
    dataset = read(directory, "train")
    assert dataset.source.read(0) == b"1.jpg"
    check_pictures(dataset, 0.0)


READ = """
import sys
from data_pipeline.readers.reader import ImageFolder
assert sys.getfilesystemencoding() == "ascii"
print(ImageFolder(sys.argv[1], ("b\\xfccher.jpg",)).read(0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others know no ascii file system")
def test_names_are_utf8_on_the_disk_whatever_the_locale(tmp_path):
    (tmp_path / "bücher.jpg").write_bytes(b"pixels")
    ascii = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", READ, str(tmp_path)]
    found = subprocess.run(words, env=os.environ | ascii, capture_output=True, check=False)
    assert found.stdout == b"b'pixels'\n", found.stderr


UNLABELLED = {
    "missing": content(without="keypoints"),
    "null": content(keypoints=None),
    "none": content(keypoints=[], num_keypoints=0),
    "without places": content(keypoints=[None, NAN, 0] * K),
    "as triples": content(keypoints=[[None, "", "0"]] * K),
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_joints_that_nobody_labelled(put, name):
    dataset = read(put(UNLABELLED[name]), "train")
    assert dataset.people.num_keypoints.tolist() == [0, K]
    assert dataset.people.keypoints[0].any() == 0


@pytest.mark.parametrize("there", [False, True])
def test_names_from_the_folder_above(put, there):
    """As Label Studio writes them; unless there is such a folder."""
    written = content()
    for image in written["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    directory = put(written)
    (directory / "images/images").mkdir() if there else None
    names = read(directory, "train").images.file_name
    assert names == (("images/1.jpg", "images/2.jpg") if there else ("1.jpg", "2.jpg"))


REFUSED = {
    "crowd": (content(iscrowd="maybe"), "annotation 1: field 'iscrowd' = 'maybe'"),
    "crowd 2": (content(iscrowd=2), "annotation 1: field 'iscrowd' = 2"),
    "id past 63 bits": (content(id=2**63), "annotation 9223372036854775808: field 'id'"),
    "id": (content(id="x"), "annotation x: field 'id' = 'x' is not an integer"),
    "category": (content(category_id=[1, 2]), r"annotation 1: category_id \[1, 2\]"),
    "areas": (content(area=[1, 2]), r"annotation 1: field 'area' .*\[1, 2\]"),
    "area of less than nothing": (content(area=-5), "annotation 1: field 'area' .*-5"),
    "area misspelt": (content(without="area", areas=5), "'area' is missing; did you mean 'areas'"),
    "box missing": (content(without="bbox"), "annotation 1: field 'bbox' is missing$"),
    "box of five": (content(bbox=[5, 5, 40, 60, 0.9]), "'bbox' has 5 values, not 4"),
    **{
        f"v = {v}": (
            content(keypoints=[20, 30, 2] * 5 + [20, 30, v] * (K - 5)),
            f"keypoint 5 is {v}",
        )
        for v in (-1, 3, 0.9)
    },
    "annotation null": (
        content() | {"annotations": [None, *content()["annotations"]]},
        "annotations, entry 0: None is no object",
    ),
    "picture null": (
        content() | {"images": [*content()["images"], 7]},
        "images, entry 2: 7 is no object",
    ),
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
    **{
        f"COCO's with limbs {value}": (
            content(categories=[PERSON | {"skeleton": value}]),
            "'skeleton' must be pairs",
        )
        for value in ([[98, 99]], [[1, 2, 99]], [[0, 1]], [[1, INF]], [1, 2], 5, "1-2", [["x", 1]])
    },
    **{
        f"COCO's with sigmas {value}": (
            content(categories=[PERSON | {"sigmas": [value] * K}]),
            "17",
        )
        for value in (1e-300, 1e300, 26)
    },
    "numbers that are too large together": (content(bbox=[9e8, 9e8, 1, 1]), "'bbox' holds 9"),
    "id of 5000 digits": (content(id="9" * 5000), "annotation 9{40}: field 'id' = '9{79}"),
    "no category of several": (
        content(categories=[DOG, PERSON | {"id": 2}], category=2, without="category_id"),
        "annotation 1: category_id None; people have 2, person",
    ),
    "one id of two": (content(categories=[DOG, PERSON]), "'person' and 'dog' have one id, 1"),
    "complete": (content(picture={"person_boxes_complete": "?"}), "image 1: field 'person_boxes"),
    "joints, though counted": (
        content(without="keypoints", num_keypoints=K),
        "'keypoints' is miss",
    ),
    "joints misspelt": (content(without="keypoints", kps=[1, 1, 2] * K), "'keypoints' is missing"),
    "joints of unknown v": (content(keypoints=[20, 30, None] * K), "'keypoints' holds None"),
    **{
        f"shares in {what}": (
            content() | {"annotations": [content()["annotations"][0] | changes]},
            f"all {what} lie between 0 and 1",
        )
        for what, changes in (
            ("boxes", {"bbox": [0.5, 0.2, 0.5, 0.81]}),
            ("joints", {"keypoints": [0.2, 0.3, 2] * K}),
        )
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_named(put, name):
    wrong, words = REFUSED[name]
    with pytest.raises(DataError, match=f"annotations.json: .*{words}") as error:
        read(put(wrong), "train")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    assert check_split(error_directory(error), "train", decoding=False).errors > 2


@pytest.mark.parametrize("text", ["[" * 10**5, "1" * 5000, ""], ids=len)
def test_a_file_that_python_cannot_parse_is_named(put, text):
    directory = put({})
    (directory / "annotations.json").write_text(text)
    with pytest.raises(DataError, match=r"annotations\.json: not a JSON file"):
        read(directory, "train")


def error_directory(error):
    return str(error.value).partition("/annotations.json")[0]


@pytest.mark.parametrize("limb", [["nose", "left_eye"], ["1", 2.0], [1, 2]], ids=str)
def test_limbs_are_joints_by_name_or_number(put, limb):
    dataset = read(put(content(categories=[PERSON | {"skeleton": [limb]}])), "train")
    assert dataset.skeleton.limbs == ((0, 1),)


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
    "joints in the corner ": lambda p: p.update(keypoints=[20, 9, 2] * (K - 1) + [95, 71, 2]),
    "joints in the corner  ": lambda p: p.update(keypoints=[20, 9, 2] * (K - 1) + [-1, 72, 2]),
    "joints in the corner   ": lambda p: p.update(keypoints=[20, 9, 2] * (K - 1) + [5, 65, 1]),
    "no area": lambda p: p.update(area=0),
    "keypoint outside": lambda p: p.update(keypoints=[20, 30, 2] * (K - 1) + [200, 9, 2]),
}


@pytest.mark.parametrize("kind", SAID)
def test_the_linter_says_what_is_odd(put, kind):
    odd = content()
    SAID[kind](odd["annotations"][0])
    count = check_split(put(odd), "train", decoding=False).count
    assert count == {kind.strip(): 1, "missing image": 2}


@pytest.mark.parametrize(
    "changes", [{"iscrowd": 1}, {"keypoints": [0] * 3 * K}, {"category_id": 9}], ids=str
)
def test_a_set_without_anybody_to_train_on_is_told_of(put, changes):
    nobody = content()
    for person in nobody["annotations"]:
        person |= changes
    count = check_split(put(nobody), "train", decoding=False).count
    assert count["no joints" if "keypoints" in changes else "no people"] == 1


def test_joints_without_another_side_are_named(put):
    names = ["left_tip", "right_tip", "left_edge"]
    hand = HAND | {"id": 1, "keypoints": names, "sigmas": [0.1] * 3}
    report = check_split(put(content(categories=[hand], joints=3)), "train", decoding=False)
    assert report.examples["not mirrored"] == [
        "no other side of left_edge; write left_x and right_x"
    ]


def test_joints_that_stay_where_they_are_are_counted(put):
    hand = HAND | {"id": 1, "keypoints": ["palm", "left_tip", "right_tip"], "sigmas": [0.1] * 3}
    report = check_split(put(content(categories=[hand], joints=3)), "train", decoding=False)
    assert report.examples["central"] == ["palm"]
