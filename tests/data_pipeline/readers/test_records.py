import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipeline.check import check_split
from data_pipeline.config import DetectorDataConfig, PoseDataConfig
from data_pipeline.loader import detection_batches, pose_batches
from data_pipeline.prepare import main, prepare
from data_pipeline.readers import read
from data_pipeline.readers.records import find_prepared
from data_pipeline.schema import DataError, MissingDataError
from g_rmi.skeleton import COCO

ROOT = Path(__file__).parents[3]


@pytest.fixture
def original(make_coco, edit):
    make_coco(images=5, split="val", seed=1, first=500)
    directory = make_coco(images=7)

    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["keypoints"][:6] = [0] * 6
        content["images"][2]["person_boxes_complete"] = False
        content["annotations"][2]["segmentation"] = [[0, 0, 4, 0, 4, 3], [5, 5, 9, 5, 9, 9, 5, 9]]
        content["annotations"][3]["segmentation"] = [[1, 0, 4, 0, 4, 3]]

    edit(directory, change)
    return directory


@pytest.fixture
def prepared(original, tmp_path):
    prepare(original, tmp_path / "out")
    return tmp_path / "out"


def test_people_and_pictures_read_back_exactly(original, prepared):
    assert find_prepared(prepared) == prepared / "coco_person" / "1.0.0"
    assert find_prepared(original) is None
    for split in ("train", "val"):
        want, got = read(original, split), read(prepared, split)
        assert got.fingerprint == want.fingerprint
        assert got.directory == prepared
        assert got.images.file_name == want.images.file_name
        for name in ("id", "width", "height", "boxes_complete"):
            np.testing.assert_array_equal(getattr(got.images, name), getattr(want.images, name))
        for name in ("id", "image", "box", "area", "is_crowd", "keypoints", "visibility"):
            a, b = getattr(got.people, name), getattr(want.people, name)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert got.outlines.keys() == want.outlines.keys()
        for person, outline in want.outlines.items():
            for a, b in zip(got.outlines[person], outline, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
        for i in range(len(want.images)):
            assert got.source.read(i) == want.source.read(i)
        assert want.images.file_name[1] in got.source.name(1)


def test_outlines_are_there_to_copy(original, prepared):
    assert len(read(original, "train").outlines) == 2
    path = prepared / "coco_person/1.0.0/tables_train.npz"
    with np.load(path) as tables:
        older = {name: tables[name] for name in tables if not name.startswith("outlines")}
    np.savez(path, **older)
    assert read(prepared, "train").outlines == {}


def test_the_records_hold_everything_without_the_tables(original, prepared):
    want = read(original, "train")
    records = tfds.builder_from_directory(prepared / "coco_person/1.0.0").as_data_source("train")
    assert len(records) == len(want.images)
    for i, record in enumerate(records):
        rows = want.people_of(i)
        assert record["image/id"] == want.images.id[i]
        assert record["image/filename"].decode() == want.images.file_name[i]
        assert record["image/boxes_complete"] == want.images.boxes_complete[i]
        assert record["image"].shape == (want.images.height[i], want.images.width[i], 3)
        people = record["persons"]
        k = len(want.skeleton)
        for name, shape, column in (
            ("id", (-1,), want.people.id),
            ("bbox", (-1, 4), want.people.box.astype(np.float32)),
            ("area", (-1,), want.people.area.astype(np.float32)),
            ("is_crowd", (-1,), want.people.is_crowd),
            ("keypoints", (-1, k, 2), want.people.keypoints),
            ("visibility", (-1, k), want.people.visibility),
        ):
            np.testing.assert_array_equal(np.reshape(people[name], shape), column[rows])


def test_the_loader_makes_the_same_batches_from_both(original, prepared):
    streams = [
        pose_batches(
            [read(directory, "train")],
            height=33,
            width=25,
            config=PoseDataConfig(threads=2, processes=processes),
            batch_size=4,
            seed=0,
        )
        for directory, processes in ((original, 0), (prepared, 0), (prepared, 1))
    ]
    for _ in range(3):
        (ids, batch), *rest = (next(stream) for stream in streams)
        for other_ids, others in rest:
            np.testing.assert_array_equal(ids, other_ids)
            for one, other in zip(batch, others):
                np.testing.assert_array_equal(one, other)
    for stream in streams:
        stream.close()


def test_tfds_build_builds_it_without_tensorflow(original, tmp_path):
    # The `build` command of TFDS's own command line; its main module imports TensorFlow.
    code = """
import sys
from tensorflow_datasets.scripts.cli import build, cli_utils
cli_utils.make_flags_parser(build.Args, description="build")(sys.argv).execute()
sys.exit("tensorflow" in sys.modules)
"""
    command = [sys.executable, "-c", code, "data_pipeline/readers/tfds_builder.py"]
    command += [
        "--file_format=array_record",
        f"--manual_dir={original}",
        f"--data_dir={tmp_path}/o",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built, want = read(tmp_path / "o", "val"), read(original, "val")
    assert built.fingerprint == want.fingerprint


@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_beam_prepares_the_same_records(original, prepared, tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="prepares on many machines")
    assert main(original, tmp_path / "beam", ("runner=FnApiRunner",)) == 0
    for split in ("train", "val"):
        want, got = (read(directory, split) for directory in (prepared, tmp_path / "beam"))
        assert got.fingerprint == want.fingerprint
        wanted, records = (
            tfds.builder_from_directory(find_prepared(directory)).as_data_source(split)
            for directory in (prepared, tmp_path / "beam")
        )
        for a, b in zip(wanted, records, strict=True):
            np.testing.assert_equal(a, b)
    with pytest.raises(DataError, match=r"^beam_options: Unexpected pipeline runner: Runer"):
        prepare(original, tmp_path / "other", beam_options=["runner=Runer"])
    (original / "val2017/000003.jpg").unlink()
    assert main(original, tmp_path / "other", ("runner=FnApiRunner",)) == 1
    assert "000003.jpg: No such file" in capsys.readouterr().err.splitlines()[-1]
    assert not find_prepared(tmp_path / "other")


def test_a_missing_beam_is_named(make_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="beam_options: needs `pip install apache-beam`"):
        prepare(make_coco(images=2), tmp_path / "out", beam_options=["runner=DirectRunner"])


def test_a_missing_split_names_the_others(make_coco, tmp_path):
    out = prepare(make_coco(images=2), tmp_path / "out")
    with pytest.raises(MissingDataError, match="no split 'val'; found train"):
        read(tmp_path / "out", "val")
    with pytest.raises(DataError, match="already prepared"):
        prepare(tmp_path / "data", tmp_path / "out")
    assert read(out, "train").directory == out


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_a_prepared_set_cannot_have_a_module_imported(make_coco, tmp_path, monkeypatch, key):
    directory = prepare(make_coco(images=2), tmp_path / "out")
    (tmp_path / "hostile.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = directory / "features.json"
    content = json.loads(path.read_text())
    feature = content["featuresDict"]["features"]["image/id"]
    del feature["pythonClassName"]
    feature[key] = "hostile.Feature"
    path.write_text(json.dumps(content).replace("hostile", "\\u0068ostile"))
    with pytest.raises(DataError, match=r"features.json: 'hostile.Feature' is no feature of Tens"):
        read(directory, "train")


def test_a_table_of_objects_is_not_unpickled(make_coco, tmp_path):
    class Hostile:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    directory = prepare(make_coco(images=2), tmp_path / "out")
    path = directory / "tables_train.npz"
    with np.load(path) as tables:
        columns = dict(tables) | {"skeleton": np.array([Hostile()], object)}
    np.savez(path, **columns)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read(directory, "train")


def test_records_and_tables_must_belong_together(make_coco, tmp_path):
    small = prepare(make_coco("small", images=2), tmp_path / "a")
    large = prepare(make_coco("large", images=3), tmp_path / "b")
    (small / "tables_train.npz").write_bytes((large / "tables_train.npz").read_bytes())
    with pytest.raises(DataError, match="2 records of split 'train', but 3 images"):
        read(small, "train")


def delete_a_picture(directory, edit):
    (directory / "train2017/000003.jpg").unlink()


def break_an_annotation(directory, edit):
    edit(directory, lambda content: content["annotations"][0].pop("bbox"))


def empty(directory, edit):
    (directory / "annotations").rename(directory / "a")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (empty, "looked for annotations/person_keypoints_train2017.json"),
        (break_an_annotation, "annotation 100: field 'bbox' is missing"),
        (delete_a_picture, "000003.jpg: No such file"),
    ],
)
def test_the_command_reports_in_one_line(make_coco, edit, tmp_path, capsys, change, words):
    directory = make_coco()
    change(directory, edit)
    assert main(directory, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert words in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not find_prepared(tmp_path / "out")
    with pytest.raises(MissingDataError):
        read(tmp_path / "out", "train")


def test_a_set_of_boxes_can_be_prepared(voc, tmp_path):
    prepare(voc, tmp_path / "out")
    want, got = read(voc, "train"), read(tmp_path / "out", "train")
    assert got.fingerprint == want.fingerprint
    assert got.images.boxes_complete.tolist() == [True, True, False, False]
    config = DetectorDataConfig(threads=2)
    options = {"canvas": (32, 48), "config": config, "batch_size": 4, "seed": 0}
    (ids, batch), (again, same) = (next(detection_batches([d], **options)) for d in (want, got))
    assert ids.tolist() == again.tolist()
    for one, other in zip(batch, same):
        np.testing.assert_array_equal(one, other)


def test_other_joints_are_kept_in_the_records(make_coco, edit, tmp_path, capsys):
    directory = make_coco()
    joints = {"keypoints": ["tip", "left_edge", "right_edge"], "skeleton": [[1, 2], [1, 3]]}

    def change(content):
        content["categories"][0] |= joints | {"sigmas": [0.05, 0.1, 0.2]}
        for annotation in content["annotations"]:
            del annotation["keypoints"][9:]
            annotation["num_keypoints"] = 3

    edit(directory, change)
    assert main(directory, tmp_path / "out") == 0
    want, got = read(directory, "train"), read(tmp_path / "out", "train")
    assert got.fingerprint == want.fingerprint
    assert got.skeleton == want.skeleton
    assert got.skeleton.limbs == ((0, 1), (0, 2))
    assert got.skeleton.sigmas == (0.05, 0.1, 0.2)
    records = tfds.builder_from_directory(find_prepared(tmp_path / "out")).as_data_source("train")
    assert np.shape(records[1]["persons"]["keypoints"]) == (1, 3, 2)
    make_coco(split="val", images=2, first=900)  # of COCO's joints
    assert main(directory, tmp_path / "both") == 1
    assert "split 'train' has the joints tip," in capsys.readouterr().err.splitlines()[-1]


def test_tables_that_name_no_joints_are_of_cocos(original, prepared):
    """So were they written before there were other keypoint sets."""
    path = prepared / "coco_person/1.0.0/tables_train.npz"
    with np.load(path) as tables:
        older = {name: tables[name] for name in tables if name != "skeleton"}
    np.savez(path, **older, joints=np.array(COCO.names))
    assert read(prepared, "train").fingerprint == read(original, "train").fingerprint


@pytest.mark.parametrize(
    ("part", "kept"),
    [("*train.array_record*", None), ("*train.array_record*", 3000), ("tables_t*", 300)],
)
def test_damaged_records_are_named(prepared, part, kept):
    (file,) = (prepared / "coco_person/1.0.0").glob(part)
    start = file.read_bytes()[:kept]
    file.unlink()
    if kept:
        file.write_bytes(start)
    report = check_split(prepared, "train")
    assert report.errors
    for text in itertools.chain.from_iterable(report.examples.values()):
        assert str(prepared) in text
        assert "prepare it again" in text
        assert "\n" not in text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a picture: 0 bytes"),
        (b"<!DOCTYPE html><title>404</title>", "not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_what_is_no_picture_is_not_packed(original, tmp_path, capsys, data, words):
    (original / "train2017/000002.jpg").write_bytes(data)
    assert main(original, tmp_path / "out") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"train2017/000002.jpg: {words}" in error
    assert find_prepared(tmp_path / "out") is None


def test_a_split_without_pictures_is_not_packed(original, edit, tmp_path, capsys):
    edit(original, lambda c: [c[name].clear() for name in ("images", "annotations")], split="val")
    assert main(original, tmp_path / "out") == 1
    assert "split 'val' has no picture to pack" in capsys.readouterr().err
