"""Synthetic scenes: labels against the id-buffer, determinism, all-or-nothing writing."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO as CocoFile

from data_pipeline import synthetic
from data_pipeline.synthetic import __main__ as program
from data_pipeline.synthetic import dataset
from data_pipeline.synthetic.body import Sculptor, View, dress
from data_pipeline.synthetic.compose import (
    TO_CAMERA,
    Person,
    label_joints,
    scene_with_owners,
)
from data_pipeline.synthetic.pose import sample_build, sample_figure, turn
from data_pipeline.synthetic.render import OBJECT, Canvas, Material, Sweep
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
    # A detector must see empty pictures as well as groups.
    assert {0, 1, 2, 4} <= {len(annotations) for _, annotations, _ in scenes}


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


def _portrait(seed, heading, screen=None):
    """Joints of one drawn person; a screen of the given rows may stand in front."""
    rng = np.random.default_rng(seed)
    build = sample_build(rng)
    figure = sample_figure(rng, build)
    while figure.posture not in ("stand", "walk"):
        figure = sample_figure(rng, build)
    person = Person(
        figure.rotate(TO_CAMERA @ turn(1, heading)), build, View(160.0, 200.0, 200.0, 5.0, 5.0)
    )
    canvas = Canvas(224, 160, np.array([0.3, -0.7, -0.6]), 0.5)
    wear = dress(rng, canvas, 1, None)
    Sculptor(canvas, person.figure, person.view, build, wear).draw()
    if screen:
        top, bottom = screen
        corners = np.array([[0, top], [320, top], [320, bottom], [0, bottom]], float)
        grey = canvas.add(Material(OBJECT, (99, 99, 99), (99, 99, 99)))
        canvas.polygon(corners, 3.0, grey, texel_size=2.0)
    joints = label_joints(rng, person, canvas, canvas.owners() == 1)
    return dict(zip(COCO.names, joints, strict=True))


def test_left_is_on_the_right_of_people_who_face_the_camera():
    seen, faces = 0, {0.0: 0, 180.0: 0}
    for seed in range(8):
        for heading, sign in ((0.0, 1), (180.0, -1)):
            person = _portrait(seed, heading)
            for joint in ("shoulder", "hip"):
                left, right = person[f"left_{joint}"], person[f"right_{joint}"]
                if left[2] == right[2] == 2:  # a hand may hide a hip
                    assert sign * (left[0] - right[0]) > 10
                    seen += 1
            eyes = person["left_eye"][2] == person["right_eye"][2] == 2
            faces[heading] += eyes
    assert seen >= 24
    assert faces[0.0] >= 5
    assert faces[180.0] == 0


def test_what_stands_in_front_hides_joints():
    legs = [f"{side}_{joint}" for side in ("left", "right") for joint in ("knee", "ankle")]
    hidden = []
    for seed in range(6):
        person = _portrait(seed, 0.0, screen=(230, 448))
        hidden += [person[name][2] for name in legs]
    assert set(hidden) == {0, 1}


def test_a_ball_is_round_and_shaded_by_its_light():
    canvas = Canvas(40, 40, np.array([-1.0, 0.0, 0.0]), 0.2)
    white = canvas.add(Material(3, (200, 200, 200), (200, 200, 200)))
    canvas.sweep(Sweep((39.5, 39.5, 5.0), (39.5, 39.5, 5.0), (0.2, 0.2), 100.0, white))
    colour, coverage = canvas.resolve()
    # 0.2 m at 100 samples per metre and two samples per pixel: a radius of 10 pixels.
    assert abs(coverage.sum() - np.pi * 10**2) < 4
    assert abs(float(canvas.surface()[20, 20]) - 4.8) < 0.002
    assert set(np.unique(canvas.owners())) == {OBJECT, 3}
    assert colour[20, 13, 0] > 2 * colour[20, 26, 0] > 0


def test_workers_do_not_import_jax():
    code = "import sys, data_pipeline.synthetic.dataset; print('jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("size", [(64, 64), (131, 97)])
def test_any_size_will_do(size):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        picture, _ = synthetic.scene(rng, height=size[0], width=size[1])
        assert picture.shape == (*size, 3)
        assert picture.std() > 2


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


def test_photographs_stand_behind_the_people(tmp_path, monkeypatch):
    folder = tmp_path / "empty streets"
    folder.mkdir()
    for name, rgb in (("a.jpg", (250, 10, 10)), ("b.png", (10, 10, 250))):
        cv2.imwrite(str(folder / name), np.full((150, 300, 3), rgb[::-1], np.uint8))
    options = {"train_images": 4, "val_images": 2, "size": (96, 128), "backgrounds": folder}
    out = synthetic.make(tmp_path / "set", **options)
    reds = blues = 0
    for file in out.glob("*2017/*.jpg"):
        # Shadows and development darken and tint it, people cover parts.
        picture = cv2.imread(str(file)).astype(int)
        blue, _, red = np.median(picture.reshape(-1, 3), axis=0)
        reds, blues = reds + (red > blue + 80), blues + (blue > red + 80)
    assert reds + blues >= 4
    assert min(reds, blues) > 0
    monkeypatch.setattr(dataset, "_FEW", 0)
    again = synthetic.make(tmp_path / "again", workers=2, **options)
    for file in out.glob("*/*"):
        assert (again / file.relative_to(out)).read_bytes() == file.read_bytes(), file
    plain = {name: value for name, value in options.items() if name != "backgrounds"}
    with pytest.raises(FileExistsError, match=r"backgrounds = .*empty streets"):
        synthetic.make(out, **plain)
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(FileExistsError, match="photographs = "):
        synthetic.make(out, **options)
    with pytest.raises(ValueError, match=r"b\.png: cannot be read as a picture"):
        synthetic.make(tmp_path / "broken", workers=1, **options | {"train_images": 20})
    with pytest.raises(FileNotFoundError, match="nowhere: no folder with JPEG or PNG files"):
        synthetic.make(tmp_path / "none", **options | {"backgrounds": tmp_path / "nowhere"})


def test_default_directory_follows_the_cache_and_the_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    default = synthetic.default_directory()
    assert default.parent == tmp_path / "g_rmi"
    assert default == synthetic.default_directory()
    assert default != synthetic.default_directory(seed=1)


def test_impossible_parameters_are_named(tmp_path):
    with pytest.raises(ValueError, match="val_images = -1"):
        synthetic.make(tmp_path / "set", val_images=-1)
    with pytest.raises(ValueError, match=r"size = .*at most 8192"):
        synthetic.make(tmp_path / "set", size=(64, 10**5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("gs://bucket/x")}, "must be a path of this machine"),
        ({"contact_sheet": Path("sheet")}, "--contact-sheet sheet: no picture's ending"),
        ({"contact_sheet": Path("file/sheet.png")}, "file"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit, match=message):
        program.main(program.Arguments(**{"out": Path("out"), **options}))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_contact_sheet():
    plain, labelled = (
        synthetic.contact_sheet(size=(96, 128), rows=1, columns=2, labels=labels)
        for labels in (False, True)
    )
    assert labelled.shape == (96 + 2 * 2, 2 * 128 + 3 * 2, 3)  # gaps of two pixels
    drawn = (plain != labelled).any(axis=(0, 2))
    assert not drawn[:130].any()
    assert drawn[132:260].sum() > 10
