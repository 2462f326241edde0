import json

import numpy as np
import pytest

from data_pipeline import readers
from data_pipeline.readers import coco
from data_pipeline.schema import DataError, MissingDataError
from g_rmi.skeleton import COCO

K = len(COCO)
BIG = 2**40


def write(directory, name, content):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_cocos_own_layout_is_found(make_coco):
    directory = make_coco()
    path, folder = coco.find_split(directory, "train")
    assert path == directory / "annotations/person_keypoints_train2017.json"
    assert folder == directory / "train2017"


def test_named_split_files_share_one_image_folder(tmp_path):
    (tmp_path / "images").mkdir()
    path = write(tmp_path, "annotations/person_keypoints_lsp_val.json", {})
    assert coco.find_split(tmp_path, "val") == (path, tmp_path / "images")


def test_a_single_file_is_a_train_split(tmp_path):
    (tmp_path / "images").mkdir()
    path = write(tmp_path, "annotations.json", {})
    assert coco.find_split(tmp_path, "train") == (path, tmp_path / "images")
    with pytest.raises(MissingDataError, match=r"annotations\.json has only a train split"):
        coco.find_split(tmp_path, "val")


def test_the_splits_of_a_directory(make_coco, tmp_path):
    directory = make_coco(split="val", images=1)
    assert readers.splits_of(directory) == ("val",)
    make_coco(images=1, name="data2")
    assert readers.splits_of(tmp_path / "data2") == ("train",)
    with pytest.raises(MissingDataError, match="no annotations of split 'train'"):
        readers.splits_of(tmp_path)


def test_two_candidates_are_an_error_that_names_both(tmp_path):
    write(tmp_path, "annotations/a_val.json", {})
    write(tmp_path, "annotations/b_val.json", {})
    with pytest.raises(DataError, match=r"a_val\.json, b_val\.json"):
        coco.find_split(tmp_path, "val")


def test_a_missing_directory_names_its_neighbour(make_coco):
    directory = make_coco("coco_mini")
    with pytest.raises(MissingDataError, match=f"did you mean {directory}"):
        coco.find_split(directory.parent / "coco_min", "train")
    assert issubclass(MissingDataError, FileNotFoundError)
    with pytest.raises(MissingDataError, match=r"^no data directory /nowhere_at_all$"):
        coco.find_split("/nowhere_at_all", "train")


def test_a_missing_split_names_what_was_looked_for_and_what_is_there(make_coco):
    directory = make_coco()
    with pytest.raises(MissingDataError) as error:
        coco.find_split(directory, "val")
    message = str(error.value)
    assert "annotations/person_keypoints_val2017.json" in message
    assert "found annotations/person_keypoints_train2017.json" in message
    assert "\n" not in message


def test_a_missing_image_folder_is_named(make_coco):
    directory = make_coco()
    (directory / "train2017").rename(directory / "train2071")
    with pytest.raises(DataError, match=r"train2017; did you mean .*train2071"):
        coco.find_split(directory, "train")
    assert readers.splits_of(directory) == ("train",)  # not passed over


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
        return readers.read(tmp_path, split)

    return read


def test_the_tables(read):
    dataset = read(content())
    images, people = dataset.images, dataset.people
    assert images.id.tolist() == [4, 9, 7]
    assert images.file_name == ("a.jpg", "b.jpg", "sub/c.jpg")
    assert images.width.tolist() == [30, 31, 32]
    assert images.height.tolist() == [40, 41, 42]
    assert images.boxes_complete.tolist() == [True, True, False]
    assert people.id.tolist() == [3, BIG + 1]  # by picture
    assert people.image.tolist() == [0, 2]
    assert people.is_crowd.tolist() == [True, False]
    assert people.box[1].tolist() == [1.5, 2, 11.5, 22.25]
    assert people.area[1] == 86145.2971
    assert people.keypoints[1, :3].tolist() == [[5, 6.5], [7, 8], [0, 0]]
    assert people.visibility[1, :3].tolist() == [2, 1, 0]
    assert people.num_keypoints.tolist() == [0, 2]
    assert dataset.labelled.tolist() == [True, True] + [False] * (K - 2)
    rows = np.arange(2)
    assert [rows[dataset.people_of(i)].tolist() for i in range(3)] == [[0], [], [1]]


def test_outlines_are_polygons_of_pixel_centres(read):
    triangle = [0, 0, 4, 0, 4, 3]
    dataset = read(content(segmentation=[triangle, [1, 1, 2, 2]]))  # the second has no inside
    (polygon,) = dataset.outlines[BIG + 1]
    assert polygon.tolist() == [[-0.5, -0.5], [3.5, -0.5], [3.5, 2.5]]
    assert list(dataset.outlines) == [BIG + 1]
    written = coco.as_coco(dataset)["annotations"]
    assert [row.get("segmentation") for row in written] == [None, [triangle]]
    assert read(content(segmentation={"counts": [5], "size": [40, 30]})).outlines == {}


def test_the_fingerprint_follows_the_meaning_not_the_text(read):
    first = read(content())
    text = content()
    text["info"] = {"note": "other words"}
    assert read(text).fingerprint == first.fingerprint
    joints = content()["annotations"][0]["keypoints"]
    joints[0] += 0.5
    assert read(content(keypoints=joints)).fingerprint != first.fingerprint
    text = content()
    text["images"][1]["file_name"] = "z.jpg"
    assert read(text).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keypoints": [0] * 50}, ("keypoints", "50 values", "51 numbers")),
        ({"keypoints": None}, ("keypoints", "None")),
        ({"keypoints": [0, 0, 3] * K}, ("v of keypoint 0 is 3, not 0, 1 or 2",)),
        ({"keypoints": [0, "x", 1] * K}, ("keypoints",)),
        ({"bbox": [0, 0, float("nan"), 1]}, ("bbox", "nan")),
        ({"bbox": [0, 0, 1]}, ("bbox", "3 values")),
        ({"segmentation": [[0, 0, 1]]}, ("segmentation", "polygons")),
        ({"segmentation": [[0, 0, "x", 1, 1, 1]]}, ("segmentation", "polygons")),
        ({"area": "big"}, ("area", "big")),
        ({"image_id": 5}, ("image_id 5",)),
        ({"image_id": "x7"}, ("image_id", "'x7'")),
    ],
)
def test_a_bad_annotation_is_named(read, changes, words):
    with pytest.raises(DataError) as error:
        read(content(**changes))
    message = str(error.value)
    for word in ("set_train.json", str(BIG + 1), *words):
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("field", ["image_id", "bbox", "keypoints"])
def test_a_missing_field_is_named(read, field):
    broken = content()
    del broken["annotations"][0][field]
    with pytest.raises(DataError, match=rf"annotation {BIG + 1}: field '{field}' is missing"):
        read(broken)


def test_duplicate_ids_are_refused(read):
    broken = content()
    broken["annotations"][1]["id"] = BIG + 1
    with pytest.raises(DataError, match=f"annotation id {BIG + 1} appears more than once"):
        read(broken)
    broken = content()
    broken["images"][1]["id"] = 4
    with pytest.raises(DataError, match="image id 4 appears more than once"):
        read(broken)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "x/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "a\0b", "", None]
)
def test_file_names_stay_inside_the_folder(read, name):
    broken = content()
    broken["images"][0]["file_name"] = name
    with pytest.raises(DataError, match="image 4: field 'file_name'"):
        read(broken)


def test_other_categories_are_left_out(read):
    mixed = content()
    mixed["categories"].append({"id": 2, "name": "bicycle"})
    mixed["annotations"].append({"id": 8, "image_id": 4, "category_id": 2})
    assert read(mixed).people.id.tolist() == [3, BIG + 1]


def test_a_set_of_boxes_has_no_joints(read):
    boxes = content()
    del boxes["categories"][0]["keypoints"]
    for annotation in boxes["annotations"]:
        del annotation["keypoints"]
    dataset = read(boxes)
    assert not dataset.labelled.any()
    assert dataset.people.box.shape == (2, 4)


def test_pictures_with_hard_people_left_out_are_not_complete(voc):
    dataset = readers.read(voc, "train")
    assert dataset.images.boxes_complete.tolist() == [True, True, False, False]
    assert dataset.people.box[2].tolist() == [40, 10, 65, 70]


@pytest.mark.parametrize("width", [0, -3, 2**31])
def test_an_impossible_size_is_refused(read, width):
    wrong = content()
    wrong["images"][1]["width"] = width
    with pytest.raises(DataError, match=f"image 9: field 'width' = {width} is no size"):
        read(wrong)


def test_other_joint_names_are_refused(read):
    other = content()
    other["categories"][0]["keypoints"][5] = "left_armpit"
    with pytest.raises(DataError, match=r"joint 5 is 'left_armpit', .* 'left_shoulder'"):
        read(other)


def test_an_empty_set_can_be_read(read):
    dataset = read({"images": [], "annotations": []})
    assert len(dataset.images) == len(dataset.people) == 0
    assert not dataset.labelled.any()


def test_text_that_is_no_json_is_named(make_coco):
    directory = make_coco()
    (directory / "annotations/person_keypoints_train2017.json").write_text("{")
    with pytest.raises(DataError, match=r"train2017\.json: not a JSON file"):
        readers.read(directory, "train")


def test_as_coco_reads_back_as_the_same_tables(read, tmp_path):
    dataset = read(content())
    write(tmp_path, "annotations/again_val.json", coco.as_coco(dataset))
    again = readers.read(tmp_path, "val")
    assert again.fingerprint == dataset.fingerprint
    assert coco.as_coco(dataset)["annotations"][1]["bbox"] == [1.5, 2, 10, 20.25]


def test_a_written_set_reads_back_as_the_same_tables(make_coco, tmp_path):
    dataset = readers.read(make_coco(), "train")
    path = coco.write(tmp_path / "new", dataset, model="a network")
    assert path == tmp_path / "new/annotations/person_keypoints_train2017.json"
    assert json.loads(path.read_text())["info"] == {"description": "with labels by a network"}
    again = readers.read(tmp_path / "new", "train")
    assert again.fingerprint == dataset.fingerprint
    assert again.source.read(3) == dataset.source.read(3)


def test_a_keypoint_set_of_its_own_is_written_too(read, tmp_path):
    hand = content(keypoints=[1, 2, 2, 3, 4, 1])
    hand["annotations"].pop()
    joints = {"keypoints": ["left_tip", "right_tip"], "skeleton": [[1, 2]], "sigmas": [0.1, 0.2]}
    hand["categories"][0] |= joints
    dataset = read(hand)
    assert dataset.skeleton.flip == (1, 0)
    again = readers.read(coco.write(tmp_path / "new", dataset).parents[1], "train")
    assert again.skeleton == dataset.skeleton
    assert again.fingerprint == dataset.fingerprint


def test_what_has_a_problem_is_left_out_if_the_report_returns(read, tmp_path):
    broken = content(bbox=[1, 2, 3])
    broken["images"][1]["width"] = 0
    broken["annotations"].append({"id": 8, "image_id": 4, "category_id": 2})
    broken["categories"].append({"id": 2, "name": "bicycle"})
    with pytest.raises(DataError, match="image 9: field 'width' = 0 is no size"):
        read(broken)
    problems = []
    dataset = readers.read(tmp_path, "train", problems.append)
    kinds = [problem.kind for problem in problems]
    assert kinds == ["malformed", "other category", "malformed", "num_keypoints"]
    assert problems[2].text == f"annotation {BIG + 1}: field 'bbox' has 3 values, not 4 numbers"
    assert dataset.images.id.tolist() == [4, 7]
    assert dataset.people.id.tolist() == [3]


def test_as_coco_declares_no_joints_of_a_set_of_boxes(voc, tmp_path):
    dataset = readers.read(voc, "train")
    again = coco.as_coco(dataset)
    assert "keypoints" not in again["categories"][0]
    (tmp_path / "images").mkdir()
    write(tmp_path, "annotations/again_val.json", again)
    assert readers.read(tmp_path, "val").fingerprint == dataset.fingerprint
