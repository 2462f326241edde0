import json
import re

import pytest

from data_pipeline.boxes import ground_truth_boxes, read_boxes
from data_pipeline.readers import read as read_split
from data_pipeline.schema import DataError, MissingDataError
from g_rmi.skeleton import COCO

K = len(COCO)
BIG = 2**40


def write(directory, name, content):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def content(**changes):
    joints = [0, 0, 0] * K
    joints[0:3] = [5, 6.5, 2]
    joints[3:6] = [7, 8, 1]
    joints[6:9] = [9, 9, 0]
    annotation = {
        "id": BIG + 1,
        "image_id": 7,
        "category_id": 1,
        "bbox": [1.5, 2, 10, 20.25],
        "area": 86145.2971,
        "iscrowd": 0,
        "keypoints": joints,
        "num_keypoints": 2,
    }
    crowd = annotation | {"id": 3, "image_id": 4, "iscrowd": 1, "keypoints": [0, 0, 0] * K}
    return {
        "images": [
            {"id": 4, "file_name": "a.jpg", "width": 30, "height": 40},
            {"id": 9, "file_name": "b.jpg", "width": 31, "height": 41},
            {
                "id": 7,
                "file_name": "sub/c.jpg",
                "width": 32,
                "height": 42,
                "person_boxes_complete": False,
            },
        ],
        "annotations": [annotation | changes, crowd],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names)}],
    }


@pytest.fixture
def read(tmp_path):
    (tmp_path / "images").mkdir()

    def read(content, split="train"):
        write(tmp_path, f"annotations/set_{split}.json", content)
        return read_split(tmp_path, split)

    return read


def test_ground_truth_boxes_leave_out_crowds_and_the_unlabelled(read):
    mixed = content()
    mixed["annotations"].append(
        content()["annotations"][0] | {"id": 50, "keypoints": [0, 0, 0] * K}
    )
    dataset = read(mixed)
    boxes = ground_truth_boxes(dataset)
    assert dataset.people.id[boxes.person].tolist() == [BIG + 1]
    assert boxes.image.tolist() == [2]
    assert boxes.box.tolist() == [[1.5, 2, 11.5, 22.25]]
    assert boxes.score.tolist() == [1]


def detection(image_id, score, **changes):
    return {"image_id": image_id, "category_id": 1, "bbox": [1, 2, 3, 4], "score": score} | changes


def test_detections_are_read_best_first_per_picture(read, tmp_path):
    dataset = read(content())
    records = [
        detection(7, 0.5),
        detection(4, 0.2, bbox=[0, 0, 5, 6]),
        detection(7, 0.9),
        detection(7, 0.7, category_id=3),
        detection(7, 0.05),
        detection(4, 0.3),
        detection(4, 0.8, bbox=[3, 4, 0, 6]),
    ]
    path = write(tmp_path, "boxes.json", records)
    boxes = read_boxes(path, dataset, min_score=0.1)
    assert boxes.note == (
        "3 boxes are not looked into, of other categories, without inside, below "
        "--min-box-score or beyond --max-people"
    )
    assert boxes.image.tolist() == [0, 0, 2, 2]
    assert boxes.score.tolist() == [0.3, 0.2, 0.9, 0.5]
    assert boxes.box[1].tolist() == [0, 0, 5, 6]
    assert boxes.box[2].tolist() == [1, 2, 4, 6]
    boxes = read_boxes(path, dataset, max_per_image=1)
    assert boxes.score.tolist() == [0.3, 0.9]
    nobody = read_boxes(write(tmp_path, "none.json", []), dataset)
    assert (len(nobody), nobody.note) == (0, None)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (detection(5, 0.5), "image_id 5 is not in"),
        *(
            (detection(4, score), rf"detection 0: score = {re.escape(str(score))}: must be a")
            for score in (None, float("nan"), float("inf"), 1e300, -1.5)
        ),
        *(
            (detection(4, 0.5, bbox=box), "detection 0: bbox = .* must be 4 finite numbers")
            for box in (None, [], [1, 2], [1, 2, 3, 4, 0.9], "1234", {"x": 1}, [1, 2, 10**400, 4])
        ),
        *(
            (detection(image, 0.5), "detection 0: image_id = .* must be the number or name")
            for image in (None, {"id": 4}, [4, 7])
        ),
        (
            detection(4, 0.5, bbox=[500, 500, 9, 9]),
            "detection 0: beside its picture of 30 x 40: ",
        ),
        (detection(4, 0.5, bbox=[1, 2, -1, 4]), "detection 0: no box x0 <= x1"),
        ({"image_id": 4}, "detection 0: field 'bbox' is missing"),
        ({"image_id": 4, "box": [1, 2, 3, 4]}, "field 'bbox' is missing; did you mean 'box'"),
        ("box", "detection 0"),
    ],
)
def test_a_bad_detection_is_named(read, tmp_path, record, words):
    dataset = read(content())
    with pytest.raises(DataError, match=words) as error:
        read_boxes(write(tmp_path, "boxes.json", [record]), dataset)
    assert "boxes.json" in str(error.value)


def test_a_missing_file_of_boxes_is_named(read, tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere\.json"):
        read_boxes(tmp_path / "nowhere.json", read(content()))


OTHERS = {
    "0 throughout": [detection(4, 0.5, category_id=0), detection(7, 0.5, category_id=0)],
    "0 and others": [
        detection(4, 0.5, category_id=0),
        detection(7, 0.5, category_id="0"),
        detection(7, 0.9, category_id=17),
    ],
    "words": [detection(4, 0.5, category_id="person"), detection(7, 0.5, category_id="Person ")],
    "none": [detection(4, 0.5, category_id=None), detection(7, 0.5)],
    "ids as text": [detection("4", 0.5, category_id="1"), detection([7], "0.5")],
    "words of other fields": [
        {"image_id": 4, "bbox": ["1", 2, 3, 4], "class": "person", "confidence": 0.5},
        {"image_id": 7, "bbox": [[1, 2, 3, 4]], "label": "dog", "score": 0.9},
        {"file_name": None, "image_id": 7, "bbox": [1, 2, 3, 4], "category": 1, "conf": "0.5"},
    ],
    "ids as floats": [detection(4.0, 0.5, category_id=1.0), detection("7.0", 0.5)],
}


@pytest.mark.parametrize("name", OTHERS)
def test_boxes_of_other_programs(read, tmp_path, name):
    path = write(tmp_path, "boxes.json", OTHERS[name])
    boxes = read_boxes(path, read(content()))
    assert boxes.image.tolist() == [0, 2]
    assert boxes.score.tolist() == [0.5, 0.5]
    by_name = read_boxes(path, ["0004.jpg", "7.png"])
    assert by_name.image.tolist() == [0, 1]


UNCERTAIN = {
    "0 and 1": ([detection(4, 1, category_id=0), detection(4, 1)], "category_id 0 and 1: which"),
    "dogs": ([detection(4, 1, category_id=18)], "no box of a person: category_id 18"),
    "cats": ([detection(4, 1, category_id="cat")], "no box of a person: category_id 'cat'"),
    "huge": (
        [detection(4, 1, bbox=[1, 1, 1e39, 9])],
        "detection 0: a coordinate is larger than 1e",
    ),
    "inside out": ({"4": [[9, 9, 3, 3]]}, "4: box 0: .* corners are exchanged"),
    "ragged": ({"4": [[1, 2, 3, 4], [1]]}, "4: must be"),
    "shares": ([detection(4, 1, bbox=[0.1, 0.2, 0.5, 0.5])], "detection 0: .* shares of"),
    "shares that leave": (
        [detection(4, 1, bbox=[0.1, 0.2, 0.93, 0.9])],
        "detection 0: .* shares of",
    ),
    "classes of other fields": (
        [{"image_id": 4, "bbox": [1, 2, 3, 4], "class": 16}],
        "no box of a",
    ),
    "nobody": ({"4": None}, "4: must be"),
    "corners": (
        [detection(4, 1, bbox=[2, 3, 9, 30]), detection(7, 1, bbox=[15, 20, 31, 41])],
        r"detection 1: bbox reaches to \(46, 61\), beyond .* 32 x 42; are these corners",
    ),
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_boxes_that_are_not_certain_are_named(read, tmp_path, name):
    records, words = UNCERTAIN[name]
    path = write(tmp_path, "boxes.json", records)
    with pytest.raises(DataError, match=f"boxes.json: {words}") as error:
        read_boxes(path, read(content()))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError):
        read_boxes(path, ["4.jpg", "7.jpg"], sizes=[(30, 40), (32, 42)].__getitem__)


def test_names_with_the_slashes_of_other_systems(read, tmp_path):
    records = [detection(".\\a.jpg", 0.5), detection("sub\\c.jpg", 0.5)]
    path = write(tmp_path, "boxes.json", records)
    assert read_boxes(path, read(content())).image.tolist() == [0, 2]
    assert read_boxes(path, ["sub/c.jpg", "a.jpg"]).image.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("people", "there", "ours"),
    [
        (2, (1, 2), [2]),  # dogs have 1
        (2, (2, 2), [2, 2]),
        (2, (1, 1), [1, 1]),  # of a program that counts as COCO does
        (0, (0, 1), [0]),
        (0, (0, "dog"), [0]),
        (2, (0, 2), None),
        (1, (0, 1), None),
    ],
)
def test_a_set_says_which_category_people_have(read, tmp_path, people, there, ours):
    annotated = content()
    annotated["categories"] = [{"id": people, "name": "person"}, {"id": 9, "name": "dog"}]
    for annotation in annotated["annotations"]:
        annotation["category_id"] = people
    dataset = read(annotated)
    records = [detection(4, 0.9 - 0.1 * i, category_id=c) for i, c in enumerate(there)]
    path = write(tmp_path, "boxes.json", records)
    if ours is None:
        with pytest.raises(DataError, match=r"category_id 0 and .*: which are people"):
            read_boxes(path, dataset)
    else:
        scores = [0.9 - 0.1 * i for i, c in enumerate(there) if c in ours]
        assert read_boxes(path, dataset).score.tolist() == scores


def test_corners_that_were_rounded_up_are_named_too(read, tmp_path):
    records = [detection(4, 1, bbox=[2, 3, 9, 30]), detection(7, 1, bbox=[15, 20, 34, 44])]
    with pytest.raises(DataError, match="are these corners"):
        read_boxes(write(tmp_path, "boxes.json", records), read(content()))


def test_a_box_that_leaves_its_picture_is_no_pair_of_corners(read, tmp_path):
    records = [detection(4, 1, bbox=[20, 10, 20, 9]), detection(7, 1, bbox=[1, 1, 9, 9])]
    path = write(tmp_path, "boxes.json", records)
    assert len(read_boxes(path, read(content()))) == 2


def test_boxes_are_matched_by_name(tmp_path):
    path = tmp_path / "boxes.json"
    coco = [
        {"image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.4},
        {"image_id": "000000000139", "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9},
        {"image_id": 139, "category_id": 2, "bbox": [5, 5, 5, 5], "score": 0.9},
        {"image_id": 139, "category_id": 1, "bbox": [6, 6, 5, 5], "score": 0.1},
        {"image_id": 7, "category_id": 1, "bbox": [7, 7, 5, 5], "score": 0.9},
        {"image_id": 8, "file_name": "x/b.png", "bbox": [7, 7, 5, 5]},
    ]
    path.write_text(json.dumps(coco))
    names = ["000000000139.jpg", "x/b.png", "y/b.png"]
    boxes = read_boxes(path, names, min_score=0.3)
    assert boxes.image.tolist() == [0, 0, 1]
    assert boxes.box.tolist() == [[0, 0, 9, 9], [1, 2, 4, 6], [7, 7, 12, 12]]
    assert boxes.score.tolist() == [0.9, 0.4, 1]
    assert boxes.ignored == 2
    assert read_boxes(path, names, min_score=0.3, max_per_image=1).image.tolist() == [0, 1]


def test_boxes_without_scores(read, tmp_path):
    path = write(tmp_path, "boxes.json", {"a": [[1, 2, 3, 4], [5, 5, 6, 6.5]], "b.jpg": []})
    boxes = read_boxes(path, ["a.png", "b.jpg"])
    assert boxes.image.tolist() == [0, 0]
    assert boxes.box.tolist() == [[1, 2, 3, 4], [5, 5, 6, 6.5]]
    assert boxes.score.tolist() == [1, 1]
    dataset = read(content())
    path = write(tmp_path, "ids.json", {"9": [[1, 2, 3, 4]], "sub/c.jpg": [[0, 0, 1, 1]]})
    assert read_boxes(path, dataset).image.tolist() == [1, 2]
    path = write(tmp_path, "none.json", {"8": [[1, 2, 3, 4]]})
    with pytest.raises(DataError, match="8: box 0: image_id 8 is not in"):
        read_boxes(path, dataset)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("3", "neither COCO's results format nor"),
        ('{"a": [1, 2, 3, 4]}', r"a: must be \[\[x0, y0, x1, y1\], \.\.\.\]"),
        ('{"a": [[5, 2, 3, 4]]}', r"a: box 0: no box"),
        ('{"a": [[NaN, 2, 3, 4]]}', "a: box 0: not finite"),
        ('{"z": [[1, 2, 3, 4]]}', "none of its images, such as 'z', .* such as 'a.jpg'"),
        ('[{"image_id": "a", "bbox": [1, 2]}]', "detection 0: bbox"),
        ('[{"bbox": [1, 2, 3, 4]}]', "detection 0: field 'image_id' is missing"),
    ],
)
def test_wrong_boxes_are_named(content, message, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_boxes(path, ["a.jpg"])
