"""MPII's MATLAB file, written by scipy as its authors' is laid out."""

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from data_pipeline.check import check_split
from data_pipeline.readers import read, splits_of
from data_pipeline.readers.mpii import MPII
from data_pipeline.schema import DataError, MissingDataError

NAME = "mpii_human_pose_v1_u12_1.mat"


def structs(rows):
    """MATLAB's 1 x N struct array."""
    array = np.empty((1, len(rows)), object)
    array[0] = rows
    return array


def point(id, x, y, visible=1.0):
    return {"x": x, "y": y, "id": float(id), "is_visible": visible}


def person(points, **fields):
    head = {"x1": 11.0, "y1": 11.0, "x2": 31.0, "y2": 41.0}
    return head | {"annopoints": {"point": structs(points)}} | fields


PEOPLE = [
    person([point(0, 21.0, 61.0), point(9, 21.5, 11.0, np.zeros(0)), point(2, 5.0, 6.0, 0.0)]),
    person([point(13, 50.0, 41.0, "1")], x1=np.zeros(0)),
    {"scale": 0.2, "objpos": {"x": 41.0, "y": 51.0}, "annopoints": np.zeros(0)},
    {"annopoints": np.zeros(0)},  # of whom nothing is known
]


@pytest.fixture
def make(tmp_path):
    """Four pictures: four people, one, nobody, and one of the test set."""

    def make(pictures=None, training=(1, 1, 1, 0)):
        if pictures is None:
            pictures = [("a.jpg", structs(PEOPLE)), ("b.jpg", PEOPLE[0]), ("c.jpg", np.zeros(0))]
            pictures.append(("d.jpg", {"scale": 1.0, "objpos": {"x": 1.0, "y": 1.0}}))
        (tmp_path / "images").mkdir(exist_ok=True)
        for name, _ in pictures:
            cv2.imwrite(str(tmp_path / "images" / name), np.zeros((80, 96, 3), np.uint8))
        rows = [{"image": {"name": name}, "annorect": rows} for name, rows in pictures]
        release = {"annolist": structs(rows), "img_train": np.array([training], float)}
        savemat(tmp_path / NAME, {"RELEASE": release})
        return tmp_path

    return make


def test_tables(make):
    data = read(make(), "train")
    assert data.skeleton == MPII
    assert data.images.file_name == ("a.jpg", "b.jpg", "c.jpg")
    assert data.images.id.tolist() == [1, 2, 3]
    assert set(zip(data.images.width.tolist(), data.images.height.tolist())) == {(96, 80)}
    assert not data.images.boxes_complete.any()
    people = data.people
    assert people.image.tolist() == [0, 0, 0, 1]
    assert len(set(people.id.tolist())) == 4
    assert people.num_keypoints.tolist() == [3, 1, 0, 3]
    # MATLAB's first pixel is 1; neck and head do not say whether they are hidden.
    ankle, hip, top = (MPII.names.index(name) for name in ("right_ankle", "right_hip", "head_top"))
    assert people.keypoints[0, [ankle, hip, top]].tolist() == [[20, 60], [4, 5], [20.5, 10]]
    assert people.visibility[0, [ankle, hip, top]].tolist() == [2, 1, 2]
    assert people.keypoints[1, MPII.names.index("left_shoulder")].tolist() == [49, 40]
    # Around joints and head, around what there is, by the rough place.
    assert people.box.tolist() == [
        [4, 5, 30, 60],
        [49, 40, 49, 40],
        [20, 30, 60, 70],
        [4, 5, 30, 60],
    ]
    np.testing.assert_allclose(people.area[0], 0.53 * 26 * 55)
    assert {id: box.tolist() for id, box in data.head_boxes.items()} == {
        people.id[0]: [10, 10, 30, 40],
        people.id[3]: [10, 10, 30, 40],
    }
    assert not people.is_crowd.any()


def test_skeleton():
    assert len(MPII) == 16
    pairs = {tuple(sorted((k, j))) for k, j in enumerate(MPII.flip) if k != j}
    assert pairs == {(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)}
    assert len(MPII.limbs) == 15


def test_pictures_held_out(make):
    directory = make()
    assert splits_of(directory) == ("train",)
    with pytest.raises(MissingDataError, match=r"has no 'val' without a val\.txt"):
        read(directory, "val")
    (directory / "val.txt").write_text("b.jpg\n")
    assert splits_of(directory) == ("train", "val")
    train, val = read(directory, "train"), read(directory, "val")
    assert (train.images.file_name, val.images.file_name) == (("a.jpg", "c.jpg"), ("b.jpg",))
    assert val.people.id.tolist() == [5]
    assert len(train.people) == 3


def test_missing_and_broken_pictures(make):
    directory = make()
    (directory / "images/b.jpg").unlink()
    (directory / "images/c.jpg").write_bytes(b"no picture")
    assert read(directory, "train").images.file_name == ("a.jpg",)
    report = check_split(directory, "train")
    assert report.count["missing image"] == report.count["undecodable image"] == 1
    (directory / "images/a.jpg").unlink()
    with pytest.raises(DataError, match="none of the pictures of split 'train' is in"):
        read(directory, "train")
    (directory / "images/c.jpg").unlink()
    (directory / "images/d.jpg").unlink()
    (directory / "images").rmdir()
    with pytest.raises(DataError, match="MPII's pictures come apart"):
        read(directory, "train")


def test_a_file_name_that_leads_out(make):
    directory = make([("a.jpg", np.zeros(0)), ("../b.jpg", np.zeros(0))], training=(1, 1))
    with pytest.raises(DataError, match=r"'\.\./b\.jpg' is not a path inside the image folder"):
        read(directory, "train")


@pytest.mark.parametrize("content", [b"", b"no MATLAB file, but long enough " * 20])
def test_no_matlab_file(make, content):
    directory = make()
    (directory / NAME).write_bytes(content)
    with pytest.raises(DataError, match="not MPII's annotation file"):
        read(directory, "train")


def test_another_matlab_file(make):
    directory = make()
    savemat(directory / NAME, {"other": 1})
    with pytest.raises(DataError, match="not MPII's annotation file"):
        read(directory, "train")
