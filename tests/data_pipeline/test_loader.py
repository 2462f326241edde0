import ast
import dataclasses
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import data_pipeline
from data_pipeline import stream
from data_pipeline.boxes import ground_truth_boxes
from data_pipeline.config import DetectorDataConfig, PoseAugmentation, PoseDataConfig
from data_pipeline.images import decode
from data_pipeline.loader import box_crops, detection_batches, pose_batches, trainable
from data_pipeline.readers import read
from data_pipeline.readers.reader import ImageFolder
from data_pipeline.schema import DataError
from g_rmi.geometry import box_to_crop, pose_box
from g_rmi.skeleton import COCO
from g_rmi.types import ALONE, PoseBatch, Share

K = len(COCO)
AUGMENTATION = PoseAugmentation(
    rotation=30.0, shift=0.1, colour_jitter=0.5, half_body=0.3, random_erasing=0.3
)
CONFIG = PoseDataConfig(augmentation=AUGMENTATION, max_others=3, threads=2)


def batches(*datasets, config=CONFIG, batch_size=4, seed=0, share=ALONE):
    return pose_batches(
        datasets, height=33, width=25, config=config, batch_size=batch_size, seed=seed, share=share
    )


def ids_of(iterator, count):
    return np.concatenate([next(iterator)[0] for _ in range(count)]).tolist()


def assert_same(a, b):
    assert a[0].tolist() == b[0].tolist()
    assert type(a[1]) is type(b[1])
    for one, other in zip(a[1], b[1]):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def dataset(make_coco):
    """9 pictures, 9 people."""
    return read(make_coco(images=9), "train")


def test_copy_and_paste_needs_somebody_with_an_outline(make_coco, edit, dataset):
    config = dataclasses.replace(CONFIG, augmentation=PoseAugmentation(copy_paste=0.9, flip=0.0))
    with pytest.raises(DataError, match=r"copy_paste = 0\.9: nobody in .*9 images.*segmentation"):
        batches(dataset, config=config)

    def outline(content):
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h]]

    directory = make_coco("outlined", images=3, first=500)
    edit(directory, outline)
    pasted = next(batches(dataset, read(directory, "train"), config=config, batch_size=8))
    bare = dataclasses.replace(CONFIG, augmentation=PoseAugmentation(flip=0.0))
    plain = next(batches(dataset, read(directory, "train"), config=bare, batch_size=8))
    assert pasted[0].tolist() == plain[0].tolist()
    changed = (pasted[1].image != plain[1].image).any(axis=(1, 2, 3))
    without = np.isin(pasted[0], dataset.people.id)
    assert changed[without].any()  # people of one set are put into crops of the other


def test_batches_have_the_fields_of_the_batch_type(dataset):
    ids, batch = next(batches(dataset))
    assert ids.dtype == np.int64
    assert type(batch) is PoseBatch
    shapes = {name: (a.shape, a.dtype.name) for name, a in batch._asdict().items()}
    assert shapes == {
        "image": ((4, 33, 25, 3), "uint8"),
        "keypoints": ((4, K, 2), "float32"),
        "visible": ((4, K), "bool"),
        "labelled": ((4, K), "bool"),
        "occluded": ((4, K), "bool"),
        "visibility_known": ((4, K), "bool"),
        "other_keypoints": ((4, 3, K, 2), "float32"),
        "other_visible": ((4, 3, K), "bool"),
        "weight": ((4,), "float32"),
    }


def test_each_pass_has_every_person_once_in_a_new_order(dataset):
    iterator = batches(dataset, batch_size=9)
    passes = [ids_of(iterator, 1) for _ in range(4)]
    for ids in passes:
        assert sorted(ids) == sorted(dataset.people.id)
    assert len(set(map(tuple, passes))) == 4


def test_the_seed_decides_everything(dataset):
    a, b, c = batches(dataset), batches(dataset), batches(dataset, seed=1)
    orders = []
    for _ in range(5):
        first, again, other = next(a), next(b), next(c)
        assert_same(first, again)
        orders.append(first[0].tolist() == other[0].tolist())
    assert not all(orders)


def test_the_number_of_threads_changes_nothing(dataset):
    one = batches(dataset, config=PoseDataConfig(augmentation=AUGMENTATION, threads=1))
    many = batches(dataset, config=PoseDataConfig(augmentation=AUGMENTATION, threads=7))
    for _ in range(4):
        assert_same(next(one), next(many))


def test_the_number_of_processes_changes_nothing(dataset, caplog):
    path = break_picture(dataset, 1)
    config = dataclasses.replace(CONFIG, max_bad_share=0.5)
    here = batches(dataset, config=config)
    there = batches(dataset, config=dataclasses.replace(config, processes=2, threads=1))
    want = [next(here) for _ in range(22)]
    with caplog.at_level(logging.WARNING, "data_pipeline"):
        for batch in want[:18]:
            assert_same(next(there), batch)
    assert f"skipped {path}: not decodable" in caplog.text
    there.set_state(there.get_state())  # what was made ahead is made anew
    for batch in want[18:]:
        assert_same(next(there), batch)
    assert there.get_state() == here.get_state()
    there.close()


def test_augmentation_differs_between_passes(dataset):
    iterator = batches(dataset, batch_size=9)
    (ids, first), (later_ids, second) = next(iterator), next(iterator)
    image = first.image[ids.tolist().index(dataset.people.id[0])]
    later = second.image[later_ids.tolist().index(dataset.people.id[0])]
    assert (image != later).any()


def test_crowds_unlabelled_people_and_flat_boxes_are_not_trained_on(make_coco, edit):
    directory = make_coco(images=9)

    def change(content):
        people = content["annotations"]
        people[0]["iscrowd"] = 1
        people[1]["keypoints"] = [0] * 3 * K
        people[2]["keypoints"][3:] = [0] * 3 * (K - 1)
        people[3]["bbox"][2] = 0.0

    edit(directory, change)
    dataset = read(directory, "train")
    first = dataset.people.id[0]
    assert dataset.people.id[trainable(dataset, 1)].tolist() == [
        first + 2,
        *range(first + 4, first + 9),
    ]
    assert dataset.people.id[trainable(dataset, 2)].tolist() == [*range(first + 4, first + 9)]
    with pytest.raises(DataError, match="no person with at least 18"):
        batches(dataset, config=PoseDataConfig(min_keypoints=18))


def test_hosts_share_out_one_stream(dataset):
    whole = ids_of(batches(dataset, batch_size=6), 6)
    parts = [ids_of(batches(dataset, batch_size=2, share=Share(h, 3)), 6) for h in range(3)]
    assert [i for row in zip(*parts) for i in row] == whole
    for start in (0, 9, 18):
        assert sorted(whole[start : start + 9]) == sorted(dataset.people.id)


def test_a_mixture_keeps_its_shares_and_stays_pure(make_coco):
    sets = [
        read(make_coco(f"set{i}", images=images, seed=i, first=1000 * i), "train")
        for i, images in enumerate((9, 4, 6))
    ]
    config = PoseDataConfig(mix=(0.7, 0.1, 0.2), threads=2)
    ids = ids_of(batches(*sets, config=config, batch_size=20), 5)
    shares = np.bincount(np.array(ids) // 1000, minlength=3) / len(ids)
    np.testing.assert_allclose(shares, (0.7, 0.1, 0.2), atol=0.01)
    assert ids == ids_of(batches(*sets, config=config, batch_size=20), 5)
    equal = ids_of(batches(*sets, batch_size=30), 1)
    assert np.bincount(np.array(equal) // 1000).tolist() == [10, 10, 10]
    first = [i for i in ids if i < 1000]
    assert sorted(first[:9]) == sorted(sets[0].people.id)


def test_shares_that_do_not_fit_are_refused(dataset):
    with pytest.raises(DataError, match=r"mix = \(1.0, 2.0\): 2 shares for 1 data dir"):
        batches(dataset, config=PoseDataConfig(mix=(1.0, 2.0)))
    with pytest.raises(ValueError, match="must be positive"):
        batches(dataset, config=PoseDataConfig(mix=(0.0,)))
    with pytest.raises(DataError, match="no data set"):
        batches()


def test_a_joint_that_one_set_never_labels_is_left_out_there_only(make_coco, edit):
    whole = make_coco("whole")
    faceless = make_coco("faceless", first=1000, seed=1)

    def change(content):
        for person in content["annotations"]:
            person["keypoints"][:15] = [0] * 15

    edit(faceless, change)
    sets = [read(directory, "train") for directory in (whole, faceless)]
    ids, batch = next(batches(*sets, batch_size=20))
    for id, labelled in zip(ids, batch.labelled):
        assert labelled.tolist() == [id < 1000] * 5 + [True] * 12


def test_resuming_is_exact(dataset):
    uninterrupted = batches(dataset, batch_size=3)
    want = [next(uninterrupted) for _ in range(8)]
    first = batches(dataset, batch_size=3)
    for _ in range(5):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    assert len(json.dumps(state)) < 200
    second = batches(dataset, batch_size=3)
    second.set_state(state)
    assert second.get_state() == state
    for batch in want[5:]:
        assert_same(next(second), batch)
    first.set_state({**state, "step": 0, "positions": [0], "seen": 0})
    assert_same(next(first), want[0])


def test_a_position_of_another_version_is_refused(dataset):
    with pytest.raises(DataError, match="another version: start anew"):
        batches(dataset, batch_size=3).set_state({"position": 12, "hosts": 1})


def test_resuming_on_another_number_of_hosts_goes_on_in_the_stream(dataset):
    whole = ids_of(batches(dataset, batch_size=4), 4)
    two = batches(dataset, batch_size=2, share=Share(1, 2))
    ids_of(two, 2)
    one = batches(dataset, batch_size=4)
    one.set_state(two.get_state())
    assert ids_of(one, 2) == whole[8:]


_RESUME = """
import json, sys, zlib
from data_pipeline.readers import read
from data_pipeline.loader import pose_batches
from data_pipeline.config import PoseAugmentation, PoseDataConfig
config = PoseDataConfig(augmentation=PoseAugmentation(rotation=30.0, colour_jitter=0.5), threads=2)
iterator = pose_batches([read(sys.argv[1], "train")], height=33, width=25, config=config,
                        batch_size=4, seed=0)
iterator.set_state(json.loads(sys.argv[2]))
for _ in range(3):
    ids, batch = next(iterator)
sums = [zlib.crc32(array.tobytes()) for array in batch]
print(json.dumps([iterator.get_state(), ids.tolist(), sums]))
iterator.close()
"""


def run(*arguments):
    command = [sys.executable, "-c", _RESUME, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_resuming_in_another_process_is_exact(make_coco):
    directory = make_coco(images=9)
    config = PoseDataConfig(
        augmentation=PoseAugmentation(rotation=30.0, colour_jitter=0.5), threads=2
    )
    here = batches(read(directory, "train"), config=config)
    for _ in range(3):
        next(here)
    state, ids, sums = run(directory, json.dumps(here.get_state()))
    for _ in range(3):
        want_ids, batch = next(here)
    assert ids == want_ids.tolist()
    assert sums == [zlib.crc32(array.tobytes()) for array in batch]
    assert state == here.get_state()


def break_picture(dataset, row):
    path = Path(dataset.source.name(row))
    path.write_bytes(path.read_bytes()[:100])
    return path


def test_a_broken_picture_is_skipped_named_and_counted(dataset, caplog):
    path = break_picture(dataset, 1)  # one of 9 people
    missing = Path(dataset.source.name(4))  # one more
    missing.unlink()
    bad = [dataset.people.id[dataset.people_of(row)][0] for row in (1, 4)]
    config = PoseDataConfig(max_bad_share=0.5, threads=2)
    iterator = batches(dataset, config=config, batch_size=7)
    with caplog.at_level(logging.WARNING, "data_pipeline"):
        ids = ids_of(iterator, 2)
    assert sorted(ids) == sorted([*set(dataset.people.id) - set(bad)] * 2)
    assert iterator.skipped == iterator.get_state()["skipped"] >= 2
    assert iterator.seen == 14 + iterator.skipped
    assert f"skipped {path}: not decodable" in caplog.text
    assert f"skipped {missing}: No such file or directory\n" in caplog.text


def test_skipping_and_resuming_agree(dataset):
    break_picture(dataset, 1)
    config = PoseDataConfig(max_bad_share=0.5, threads=2)
    uninterrupted = batches(dataset, config=config)
    want = [next(uninterrupted) for _ in range(8)]
    first, second = batches(dataset, config=config), batches(dataset, config=config)
    ids_of(first, 4)
    second.set_state(first.get_state())
    for batch in want[4:]:
        assert_same(next(second), batch)
    assert second.get_state() == uninterrupted.get_state()


def test_too_many_broken_pictures_stop_the_run(dataset):
    paths = [break_picture(dataset, row) for row in range(1, 9) if row % 3]
    assert len(paths) == 6
    iterator = batches(dataset, config=PoseDataConfig(max_bad_share=0.02, threads=2))
    with pytest.raises(DataError) as error:
        ids_of(iterator, 20)
    message = str(error.value)
    assert "\n" not in message
    assert "3 of " in message
    assert "max_bad_share = 0.02" in message
    assert sum(str(path) in message for path in paths) >= 1


def test_a_picture_of_another_size_counts_as_broken(make_coco, edit):
    directory = make_coco()

    def change(content):
        content["images"][1]["width"] += 1

    edit(directory, change)
    iterator = batches(read(directory, "train"), config=PoseDataConfig(max_bad_share=0.0))
    with pytest.raises(DataError, match="its annotations say"):
        ids_of(iterator, 5)


def test_an_error_in_a_thread_reaches_the_caller(dataset, monkeypatch):
    monkeypatch.setattr("data_pipeline.images.cut", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(batches(dataset))


@pytest.mark.parametrize("make", [pose_batches, detection_batches])
def test_a_reader_that_hangs_is_named(dataset, monkeypatch, caplog, make):
    """The file server of one picture does not answer for a second."""
    stuck, answered = dataset.source.name(1), ImageFolder.read
    answer = threading.Event()

    def hang(source, index):
        if source.name(index) == stuck:
            answer.wait(10)
        return answered(source, index)

    monkeypatch.setattr(ImageFolder, "read", hang)
    monkeypatch.setattr(stream, "_PATIENCE", 0.2)
    threading.Timer(1.0, answer.set).start()
    shape = {"height": 33, "width": 25, "config": CONFIG}
    if make is detection_batches:
        shape = {"canvas": (32, 48), "config": DetectorDataConfig(threads=2)}
    iterator = make([dataset], **shape, batch_size=9, seed=0)
    with caplog.at_level(logging.WARNING, "data_pipeline"):
        ids, _ = next(iterator)
    assert len(ids) == 9  # it goes on when the answer comes
    assert re.search(rf"no batch for [01] s; being read: .*{stuck} for [01] s", caplog.text)
    iterator.close()


def test_processes_that_hang_cannot_say_where(monkeypatch, caplog):
    class Hanging(stream.Stream):
        def __init__(self):
            pass

        def under_way(self):
            return None

    monkeypatch.setattr(stream, "_PATIENCE", 0.05)
    with caplog.at_level(logging.WARNING, "data_pipeline"), stream._watched(Hanging()):
        time.sleep(0.3)
    assert "being read: unknown, --processes 0 would tell" in caplog.text


_INTERRUPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
from data_pipeline.readers import read
from data_pipeline.readers import reader
from data_pipeline.loader import pose_batches
from data_pipeline.config import PoseDataConfig
slow = reader.ImageFolder.read
reader.ImageFolder.read = lambda *arguments: (time.sleep(0.2), slow(*arguments))[1]
iterator = pose_batches([read(sys.argv[1], "train")], height=33, width=25,
                        config=PoseDataConfig(threads=2), batch_size=400, seed=0)
print("reading", flush=True)
next(iterator)
"""


def test_an_interrupt_does_not_wait_for_what_is_read_ahead(make_coco):
    command = [sys.executable, "-c", _INTERRUPT, str(make_coco())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 30  # what is read ahead would take 80 seconds
    assert "KeyboardInterrupt" in err


_PROCESSES = """
import multiprocessing, sys, time
from data_pipeline.readers import read
from data_pipeline.loader import pose_batches
from data_pipeline.config import PoseDataConfig
iterator = pose_batches([read(sys.argv[1], "train")], height=33, width=25,
                        config=PoseDataConfig(threads=1, processes=2), batch_size=4, seed=0)
for _ in range(17):  # until both have handed over 32 examples
    next(iterator)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


def alive(pid):
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_reader_processes_do_not_outlive_a_killed_run(make_coco):
    command = [sys.executable, "-c", _PROCESSES, str(make_coco())]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **quiet) as process:
        readers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(readers) == 2
        assert all(map(alive, readers))
        for reader in readers:
            os.kill(reader, signal.SIGINT)  # a terminal's Ctrl-C goes to all
        time.sleep(0.5)
        assert all(map(alive, readers))
        process.kill()
    deadline = time.monotonic() + 20
    while any(map(alive, readers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, readers))


@pytest.mark.parametrize("stage", ["pose", "detector"])
def test_the_benchmark_runs(make_coco, capsys, stage, tmp_path):
    from experiments.benchmarks.loader import main

    size = ["--height=33", "--width=25", "--canvas", "32", "48", "--stage", stage]
    given = ["--data", str(make_coco()), "--examples=24", "--rounds=1"]
    main([*size, *given, "--out", str(tmp_path)])
    assert "bare" in capsys.readouterr().out
    rows = json.loads((tmp_path / "loader.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {"wall time per picture", "processor time per picture"}
    assert all(row["ms"] > 0 for row in rows)


def crops_of(dataset, boxes, **options):
    options = {
        "height": 33,
        "width": 25,
        "box_scale": 1.25,
        "batch_size": 4,
        "threads": 2,
    } | options
    return list(box_crops(dataset, boxes, **options))


def test_evaluation_crops_are_what_the_box_shows(dataset):
    boxes = ground_truth_boxes(dataset)
    found = crops_of(dataset, boxes)
    assert [batch["index"].tolist() for batch in found] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, -1, -1, -1],
    ]
    assert found[2]["weight"].tolist() == [1, 0, 0, 0]
    assert found[0]["image"].dtype == np.uint8
    window = pose_box(boxes.box[5], aspect=33 / 25, scale=1.25)
    np.testing.assert_allclose(found[1]["box"][1], window, rtol=1e-6)
    # The corner pixels of the crop show the corners of the window.
    picture = decode(dataset.source.read(int(boxes.image[5]))).astype(float)
    crop = found[1]["image"][1].astype(float)
    affine = box_to_crop(window, height=33, width=25)
    assert affine @ [window[0], window[1], 1] == pytest.approx([0, 0])
    checked = 0
    for i, j in itertools.product(range(0, 33, 8), range(0, 25, 8)):
        x = window[0] + j * (window[2] - window[0]) / 24
        y = window[1] + i * (window[3] - window[1]) / 32
        if 0 <= x < picture.shape[1] - 1 and 0 <= y < picture.shape[0] - 1:
            u, v = int(x), int(y)
            patch = picture[v : v + 2, u : u + 2]
            weights = np.outer([v + 1 - y, y - v], [u + 1 - x, x - u])[..., None]
            assert np.abs((weights * patch).sum((0, 1)) - crop[i, j]).max() < 12
            checked += 1
    assert checked > 4


def test_evaluation_shows_more_views_of_a_crop(dataset):
    """A quarter turn of a square crop moves every pixel onto another."""
    boxes = ground_truth_boxes(dataset)
    quarter = np.array([[0.0, -1.0, 32.0], [1.0, 0.0, 0.0]])  # down becomes left: clockwise
    straight = crops_of(dataset, boxes, width=33)
    found = crops_of(dataset, boxes, width=33, turns=(quarter,))
    assert [batch["index"].tolist() for batch in found] == [b["index"].tolist() for b in straight]
    for both, alone in zip(found, straight, strict=True):
        assert both["image"].shape == (4, 2, 33, 33, 3)
        np.testing.assert_array_equal(both["image"][:, 0], alone["image"])
        np.testing.assert_array_equal(both["box"], alone["box"])
        turned = np.rot90(alone["image"], -1, axes=(1, 2)).astype(int)
        assert np.abs(both["image"][:, 1] - turned).max() <= 1  # rounding
        assert np.ptp(turned) > 50


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_evaluation_sees_every_row_once_over_the_hosts(dataset, hosts):
    boxes = ground_truth_boxes(dataset)
    found = [crops_of(dataset, boxes, share=Share(h, hosts), batch_size=2) for h in range(hosts)]
    assert len({len(batches) for batches in found}) == 1
    rows = [
        int(index)
        for batches in found
        for batch in batches
        for index, weight in zip(batch["index"], batch["weight"])
        if weight
    ]
    assert sorted(rows) == list(range(9))


def test_evaluation_of_no_boxes_is_empty(dataset):
    boxes = ground_truth_boxes(dataset)
    empty = type(boxes)(boxes.image[:0], boxes.box[:0], boxes.score[:0], boxes.person[:0])
    assert crops_of(dataset, empty) == []


def test_evaluation_does_not_skip(dataset):
    path = break_picture(dataset, 1)
    with pytest.raises(DataError, match=str(path)):
        crops_of(dataset, ground_truth_boxes(dataset))


def test_the_package_never_imports_jax_or_tensorflow():
    allowed = {"skeleton", "geometry", "types", "config", "files", "viz"}
    for path in Path(data_pipeline.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                top, *rest = name.split(".")
                assert top not in {"jax", "flax", "tensorflow", "torch", "experiments"}, path
                assert top != "g_rmi" or rest[0] in allowed, path


def test_what_a_worker_needs_comes_without_jax():
    # grain itself imports jax; the modules that read and cut pictures must not.
    code = (
        "import sys, data_pipeline.pose_examples, data_pipeline.detection_examples;"
        "import data_pipeline.readers, data_pipeline.boxes;"
        "sys.exit('jax' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
