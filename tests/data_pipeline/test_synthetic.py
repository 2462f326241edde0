"""Synthetic scenes: labels against the id-buffer, determinism, all-or-nothing writing."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO as CocoFile

from data_pipeline import synthetic
from data_pipeline.synthetic import dataset
from data_pipeline.synthetic.scene import scene_with_owners
from g_rmi.skeleton import COCO

SIZE = (192, 256)
# pycocotools 2.0.11 decodes masks through an old numpy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def scenes():
    return [
        scene_with_owners(np.random.default_rng([7, i]), height=SIZE[0], width=SIZE[1])
        for i in range(24)
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    return synthetic.make(out, train_images=5, val_images=3, seed=3, size=SIZE, workers=1)


def _people(scenes):
    for picture, annotations, owners in scenes:
        for i, annotation in enumerate(annotations):
            joints = np.reshape(annotation["keypoints"], (17, 3))
            yield picture, annotation, joints, owners == i + 1


def test_scenes_have_labelled_people(scenes):
    people = list(_people(scenes))
    assert len(people) > 24
    assert sum(a["num_keypoints"] > 0 for _, a, _, _ in people) > 18
    flags = np.concatenate([joints[:, 2] for _, _, joints, _ in people])
    assert set(np.unique(flags)) == {0, 1, 2}


def test_area_box_and_segmentation_come_from_the_visible_mask(scenes):
    for picture, annotation, _, mask in _people(scenes):
        assert picture.shape == (*SIZE, 3)
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, w, h = annotation["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
        decoded = rle.decode(rle.frPyObjects(annotation["segmentation"], *SIZE))
        np.testing.assert_array_equal(decoded, mask)


def test_labelled_joints_lie_in_the_picture_and_seen_ones_on_their_person(scenes):
    seen = 0
    for _, annotation, joints, mask in _people(scenes):
        assert annotation["num_keypoints"] == (joints[:, 2] > 0).sum()
        for x, y, flag in joints:
            if flag == 0:
                assert x == y == 0
                continue
            assert 0 <= x <= SIZE[1] - 1
            assert 0 <= y <= SIZE[0] - 1
            if flag == 2:
                assert mask[round(y), round(x)]
                seen += 1
    assert seen > 150


def test_a_scene_is_a_function_of_its_seed(scenes):
    again = synthetic.scene(np.random.default_rng([7, 4]), height=SIZE[0], width=SIZE[1])
    np.testing.assert_array_equal(again[0], scenes[4][0])
    assert again[1] == scenes[4][1]
    assert (scenes[3][0] != scenes[4][0]).any()


def test_loads_in_pycocotools(directory):
    for split, count in (("train", 5), ("val", 3)):
        coco = CocoFile(str(directory / "annotations" / f"person_keypoints_{split}2017.json"))
        assert len(coco.imgs) == count
        assert coco.cats[1]["keypoints"] == list(COCO.names)
        for image in coco.imgs.values():
            picture = cv2.imread(str(directory / f"{split}2017" / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3)
        for annotation in coco.anns.values():
            assert coco.annToMask(annotation).sum() == annotation["area"]


def test_made_again_by_several_processes_with_the_same_bytes(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_FEW", 0)
    seen = []
    again = synthetic.make(
        tmp_path / "again", train_images=5, val_images=3, seed=3, size=SIZE, workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    files = sorted(p.relative_to(directory) for p in directory.rglob("*") if p.is_file())
    assert len(files) == 5 + 3 + 2 + 1
    for file in files:
        assert (again / file).read_bytes() == (directory / file).read_bytes(), file
    assert seen == [(i + 1, 8) for i in range(8)]


def test_a_complete_set_is_reused_and_another_is_refused(directory, monkeypatch):
    monkeypatch.setattr(dataset, "scene", None)
    options = {"train_images": 5, "val_images": 3, "size": SIZE}
    assert synthetic.make(directory, seed=3, **options) == directory
    with pytest.raises(FileExistsError, match=r"holds a synthetic data set with seed = 3"):
        synthetic.make(directory, seed=4, **options)
    with pytest.raises(FileExistsError, match="not a synthetic data set"):
        synthetic.make(directory / "val2017", seed=3, **options)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.make(
            tmp_path / "set", train_images=3, val_images=0, size=SIZE, progress=interrupt
        )
    assert list(tmp_path.iterdir()) == []


def test_default_directory_follows_the_cache_and_the_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    default = synthetic.default_directory()
    assert default.parent == tmp_path / "g_rmi"
    assert default == synthetic.default_directory()
    assert default != synthetic.default_directory(seed=1)


def test_impossible_parameters_are_named(tmp_path):
    with pytest.raises(ValueError, match="val_images = -1"):
        synthetic.make(tmp_path / "set", val_images=-1)


def test_contact_sheet():
    sheet = synthetic.contact_sheet(size=(96, 128), rows=1, columns=2)
    assert sheet.shape == (96, 256, 3)
