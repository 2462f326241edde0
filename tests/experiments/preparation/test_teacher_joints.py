"""Which joints of another network become labels, by hand."""

import json

import numpy as np

from data_pipeline import readers
from experiments.preparation import teacher_joints

BOX = [10, 10, 20, 40]  # x 8 to 32 and y 6 to 54 count as inside


def person(number, **fields):
    return {"id": number, "image_id": 1, "bbox": BOX, "area": 400, "iscrowd": 0, **fields}


def joints(**places):
    """All joints in the middle of the box at score 0, but for these."""
    table = np.tile([20.0, 30.0, 0.0], (17, 1))
    for name, values in places.items():
        table[int(name[1:])] = values
    return table.ravel().tolist()


def test_sure_joints_inside_the_box_become_labels(tmp_path):
    labels = np.zeros((17, 3))
    labels[6] = 12, 12, 1
    high = {f"_{k}": (20, 30, 0.9) for k in range(7, 17)}
    found = {
        # Face .5, body .4; joint 2 lies outside, joint 6 has a label, joint 5 is on neither side.
        1: joints(_0=(9, 7, 0.5), _1=(20, 30, 0.49), _2=(33, 30, 0.9), _5=(20, 30, 0.4),
                  _6=(20, 30, 0.9), **high),
        2: joints(_0=(20, 30, 0.9)),  # of a mean score below .3
        3: joints(**high),  # doubtful
    }  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 60}],
        "annotations": [person(1, keypoints=labels.ravel().tolist()), person(2), person(3)],
        "categories": [{"id": 15, "name": "person"}],
    }
    (tmp_path / "set.json").write_text(json.dumps(content))
    rows = [{"annotation_id": k, "keypoints": v} for k, v in found.items()]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    (tmp_path / "doubtful.json").write_text("[3]")
    (tmp_path / "pictures").mkdir()
    words = [str(tmp_path / "set.json"), "--found", str(tmp_path / "found.json")]
    words += ["--doubtful", str(tmp_path / "doubtful.json"), "--images", str(tmp_path / "pictures")]
    teacher_joints.main([*words, "--out", str(tmp_path / "all")])
    people = readers.read(tmp_path / "all", "train").people
    assert people.id.tolist() == [1, 2, 3]
    assert people.num_keypoints.tolist() == [1 + 1 + 1 + 10, 0, 0]
    assert people.visibility[0].tolist() == [2, 0, 0, 0, 0, 2, 1] + [2] * 10
    np.testing.assert_array_equal(people.keypoints[0, [0, 6]], [[9, 7], [12, 12]])
    teacher_joints.main([*words, "--out", str(tmp_path / "sure"), "--leave-out"])
    assert readers.read(tmp_path / "sure", "train").people.id.tolist() == [1, 2]
