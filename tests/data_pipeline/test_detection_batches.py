"""Batches of whole pictures on canvases: training and evaluation."""

import dataclasses
import itertools
import json
import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipeline.config import DetectorAugmentation, DetectorDataConfig
from data_pipeline.images import decode
from data_pipeline.loader import canvases, detection_batches
from data_pipeline.readers import read
from data_pipeline.schema import DataError
from data_pipeline.stream import alternate
from g_rmi.types import ALONE, DetectionBatch, Share

CANVAS = (32, 48)
AUGMENTATION = DetectorAugmentation(scale=(0.5, 2.0), colour_jitter=0.5, mosaic=0.3)
CONFIG = DetectorDataConfig(augmentation=AUGMENTATION, max_boxes=6, threads=2)


def batches(*datasets, config=CONFIG, batch_size=4, seed=0, share=ALONE, **options):
    how = {"config": config, "batch_size": batch_size, "seed": seed, "share": share, **options}
    return detection_batches(datasets, canvas=CANVAS, **how)


def assert_same(a, b):
    assert a[0].tolist() == b[0].tolist()
    assert type(a[1]) is type(b[1])
    for one, other in zip(a[1], b[1]):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def dataset(make_coco):
    """12 pictures, 60 x 80 to 82 x 80: 10 stand and 2 lie."""
    return read(make_coco(images=12, size=(60, 80)), "train")


@pytest.fixture
def mixed(make_coco):
    """9 pictures of which 5 stand."""
    return read(make_coco("mixed", images=9, size=(70, 80), first=500, seed=1), "train")


def is_landscape(arrays):
    return arrays.image.shape[1:3] == CANVAS


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def test_squashed_pictures_fill_their_canvas(dataset):
    config = DetectorDataConfig(augmentation=DetectorAugmentation(flip=0.0), threads=1)
    iterator = batches(dataset, config=config, squash=True)
    ids, arrays = next(iterator)
    iterator.close()
    canvas = arrays.image.shape[1:3]
    assert (arrays.size == canvas).all()
    assert arrays.person.any()
    for row, number in enumerate(ids):
        image = int(np.flatnonzero(dataset.images.id == number)[0])
        own = np.array([dataset.images.width[image], dataset.images.height[image]], float)
        scale = (np.array(canvas[::-1]) - 1) / (own - 1)
        people = dataset.people_of(image)
        corners = dataset.people.box[people].reshape(-1, 2, 2).clip(0, own)
        wanted = (scale * (corners - 0.5) + 0.5).reshape(-1, 4).clip(0, np.tile(canvas[::-1], 2))
        ours = arrays.boxes[row][arrays.person[row] | arrays.ignore[row]]
        assert len(ours) == len(wanted)
        for box in wanted:
            assert np.abs(ours - box).max(1).min() < 1e-3
    (seen,) = {
        rows["size"].tobytes() == np.array([CANVAS] * 2, np.int32).tobytes()
        for rows in canvases(dataset, canvas=CANVAS, squash=True, batch_size=2, threads=1)
        if rows["image"].shape[1:3] == CANVAS
    }
    assert seen


def test_batches_have_the_fields_of_the_batch_type(dataset):
    iterator = batches(dataset)
    seen = set()
    for ids, arrays in take(iterator, 12):
        assert ids.dtype == np.int64
        assert set(ids) <= set(dataset.images.id)
        assert type(arrays) is DetectionBatch
        canvas = CANVAS if is_landscape(arrays) else CANVAS[::-1]
        seen.add(canvas)
        assert arrays.classes is None  # there is one
        some = arrays._asdict().items()
        shapes = {name: (a.shape, a.dtype.name) for name, a in some if a is not None}
        assert shapes == {
            "image": ((4, *canvas, 3), "uint8"),
            "size": ((4, 2), "int32"),
            "boxes": ((4, 6, 4), "float32"),
            "person": ((4, 6), "bool"),
            "ignore": ((4, 6), "bool"),
            "weight": ((4,), "float32"),
        }
        assert (arrays.size <= canvas).all()
        assert (arrays.boxes[..., 2:] <= arrays.size[:, None, ::-1]).all()
        assert not (arrays.person & arrays.ignore).any()
    assert len(seen) == 2
    iterator.close()


def test_pictures_lie_on_the_canvas_of_their_orientation_once_a_pass(dataset):
    config = DetectorDataConfig(threads=2)
    iterator = batches(dataset, config=config, batch_size=2)
    found = {True: [], False: []}
    for ids, arrays in take(iterator, 24):
        found[is_landscape(arrays)] += ids.tolist()
    iterator.close()
    assert (len(found[True]), len(found[False])) == (8, 40)  # 2 and 10 of 12 pictures
    lying = dataset.images.width >= dataset.images.height
    for landscape, ids in found.items():
        wanted = sorted(dataset.images.id[lying == landscape].tolist())
        passes = [ids[i : i + len(wanted)] for i in range(0, len(ids), len(wanted))]
        assert all(sorted(one) == wanted for one in passes)
        assert len(set(map(tuple, passes))) > 1


@pytest.mark.parametrize("share", [0.0, 0.07, 1 / 3, 0.5, 0.8, 1.0])
def test_the_schedule_is_evenly_spread(share):
    schedule = alternate(share)
    first = np.cumsum([schedule(step) == 0 for step in range(500)])
    assert np.abs(first - share * np.arange(1, 501)).max() <= 0.5 + 1e-9


def test_the_schedule_by_hand():
    assert [alternate(0.25)(step) for step in range(8)] == [1, 0, 1, 1, 1, 0, 1, 1]
    assert [alternate(1.0)(10**9 + step) for step in range(3)] == [0, 0, 0]


def test_a_mixture_keeps_its_shares_and_favours_no_orientation(make_coco):
    sets = []
    for i, images in enumerate((12, 9)):
        directory = make_coco(f"set{i}", images=images, size=(60 + 10 * i, 80), seed=i)
        path = directory / "annotations/person_keypoints_train2017.json"
        content = json.loads(path.read_text())
        for record in content["images"]:
            record["id"] -= 2**40 - 1000 * i
        for record in content["annotations"]:
            record["image_id"] -= 2**40 - 1000 * i
        path.write_text(json.dumps(content))
        sets.append(read(directory, "train"))
    config = DetectorDataConfig(mix=(0.7, 0.3), threads=2)
    iterator = batches(*sets, config=config, batch_size=8)
    found = take(iterator, 60)
    iterator.close()
    # 2 of 12 and 4 of 9 pictures lie: .7 * 2 / 12 + .3 * 4 / 9 = .25
    assert sum(is_landscape(arrays) for _, arrays in found) == 15
    seen = np.concatenate([ids for ids, _ in found])
    shares = np.bincount(seen // 1000) / len(seen)
    np.testing.assert_allclose(shares, (0.7, 0.3), atol=0.02)
    for i, size in enumerate((12, 9)):
        counts = np.unique(seen[seen // 1000 == i], return_counts=True)[1]
        assert len(counts) == size
        assert counts.max() / counts.min() < 1.35


def test_the_seed_decides_everything(dataset):
    one = DetectorDataConfig(augmentation=AUGMENTATION, max_boxes=6, threads=1)
    a, b, c = batches(dataset), batches(dataset, config=one), batches(dataset, seed=1)
    same = []
    for first, again, other in zip(take(a, 6), take(b, 6), take(c, 6)):
        assert_same(first, again)
        same.append(first[0].tolist() == other[0].tolist())
    assert not all(same)


def test_the_number_of_processes_changes_nothing(dataset):
    there = batches(dataset, config=dataclasses.replace(CONFIG, processes=1, threads=1))
    for here, batch in zip(take(batches(dataset), 12), take(there, 12)):
        assert_same(batch, here)
    there.close()


def test_resuming_is_exact_in_the_midst_of_both_orientations(dataset, mixed):
    uninterrupted = batches(dataset, mixed, batch_size=3)
    want = take(uninterrupted, 12)
    assert len({is_landscape(arrays) for _, arrays in want[7:]}) == 2
    for at in (5, 7):
        first = batches(dataset, mixed, batch_size=3)
        take(first, at)
        state = json.loads(json.dumps(first.get_state()))
        assert len(json.dumps(state)) < 200
        second = batches(dataset, mixed, batch_size=3)
        second.set_state(state)
        assert second.get_state() == state
        for batch in want[at:]:
            assert_same(next(second), batch)
        assert second.get_state() == uninterrupted.get_state()
        take(second, 1)
        second.set_state(state)
        assert_same(next(second), want[at])


def test_two_hosts_share_out_the_steps_of_one(dataset, mixed):
    whole = take(batches(dataset, mixed, batch_size=4), 10)
    parts = [take(batches(dataset, mixed, batch_size=2, share=Share(h, 2)), 10) for h in range(2)]
    for (ids, arrays), *halves in zip(whole, *parts):
        assert np.stack([half[0] for half in halves], axis=1).reshape(-1).tolist() == ids.tolist()
        leaves = jax.tree.leaves(arrays)
        for h, half in enumerate(halves):
            for mine, array in zip(jax.tree.leaves(half[1]), leaves, strict=True):
                np.testing.assert_array_equal(mine, array[h::2])


def test_resuming_on_another_number_of_hosts_goes_on_in_the_stream(dataset):
    whole = take(batches(dataset, batch_size=4), 8)
    two = batches(dataset, batch_size=2, share=Share(1, 2))
    take(two, 4)
    one = batches(dataset, batch_size=4)
    one.set_state(two.get_state())
    for batch, again in zip(whole[4:], take(one, 4)):
        assert_same(batch, again)


def test_one_orientation_alone(make_coco):
    for name, size in (("landscape", (96, 80)), ("portrait", (40, 80))):
        dataset = read(make_coco(name, images=4, size=size), "train")
        for _, arrays in take(batches(dataset), 3):
            assert is_landscape(arrays) == (name == "landscape")


def test_nobody_anywhere(make_coco, edit):
    directory = make_coco()
    edit(directory, lambda content: content["annotations"].clear())
    _, arrays = next(batches(read(directory, "train")))
    assert not arrays.person.any()
    assert not arrays.ignore.any()
    assert not arrays.boxes.any()


def test_a_set_without_a_picture_to_train_on_is_named(make_coco, edit):
    directory = make_coco("nothing")

    def change(content):
        content["images"].clear()
        content["annotations"].clear()

    edit(directory, change)
    with pytest.raises(DataError, match=r"nothing.*: no image to train on"):
        batches(read(directory, "train"))
    with pytest.raises(DataError, match="no data set to train on"):
        batches()


def test_configured_incompleteness_reaches_every_picture(dataset):
    config = DetectorDataConfig(boxes_complete=(False,), threads=2)
    for _, arrays in take(batches(dataset, config=config), 4):
        for boxes, ignore, size in zip(arrays.boxes, arrays.ignore, arrays.size):
            assert boxes[ignore].tolist() == [[0, 0, size[1], size[0]]]
        assert arrays.person.any(axis=1).all()


def break_picture(dataset, row):
    path = Path(dataset.source.name(row))
    path.write_bytes(path.read_bytes()[:100])
    return path


def test_a_broken_picture_is_skipped_named_and_counted(dataset, caplog):
    paths = [break_picture(dataset, 1), break_picture(dataset, 11)]  # of both orientations
    bad = dataset.images.id[[1, 11]]
    config = DetectorDataConfig(max_bad_share=0.5, threads=2)
    iterator = batches(dataset, config=config)
    with caplog.at_level(logging.WARNING, "data_pipeline"):
        found = take(iterator, 10)
    assert not np.isin(np.concatenate([ids for ids, _ in found]), bad).any()
    assert iterator.seen == 40 + iterator.skipped
    assert all(f"skipped {path}: not" in caplog.text for path in paths)
    # Hosts that skip differently still work on the same shapes, and resumption is exact.
    shapes = [[a.image.shape[1] for _, a in take(batches(dataset, config=config, batch_size=2,
               share=Share(h, 2)), 10)] for h in range(2)]  # fmt: skip
    assert shapes[0] == shapes[1] == [arrays.image.shape[1] for _, arrays in found]
    again = batches(dataset, config=config)
    take(again, 4)
    resumed = batches(dataset, config=config)
    resumed.set_state(again.get_state())
    for batch, same in zip(found[4:], take(resumed, 6)):
        assert_same(batch, same)


def test_too_many_broken_pictures_stop_the_run(dataset):
    path = break_picture(dataset, 1)
    config = DetectorDataConfig(max_bad_share=0.0, threads=2)
    with pytest.raises(DataError, match=str(path)):
        take(batches(dataset, config=config), 9)


def evaluated(dataset, **options):
    return list(canvases(dataset, canvas=CANVAS, **{"batch_size": 4, "threads": 2} | options))


def test_evaluation_canvases_show_the_whole_picture(dataset):
    found = evaluated(dataset)
    assert [batch["image"].shape for batch in found] == [(4, 32, 48, 3)] + [(4, 48, 32, 3)] * 3
    assert [batch["index"].tolist() for batch in found] == [
        [10, 11, -1, -1],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, -1, -1],
    ]
    assert [batch["weight"].sum() for batch in found] == [2, 4, 4, 2]
    types = {name: array.dtype.name for name, array in found[0].items()}
    assert types == {
        "image": "uint8",
        "size": "int32",
        "scale": "float32",
        "index": "int64",
        "weight": "float32",
    }
    # Picture 4 is 68 wide and 80 high: scaled by 32 / 68, 38 of 48 rows.
    assert found[2]["size"][0].tolist() == [38, 32]
    np.testing.assert_allclose(found[2]["scale"][0], [67 / 31, 79 / 37], rtol=1e-6)
    picture = decode(dataset.source.read(4)).astype(float)
    canvas = found[2]["image"][0].astype(float)
    assert not canvas[38:].any()
    for i, j in itertools.product((0, 18, 37), (0, 15, 31)):
        y, x = i * 79 / 37, j * 67 / 31
        near = picture[max(round(y) - 1, 0) : round(y) + 2, max(round(x) - 1, 0) : round(x) + 2]
        assert np.abs(near.mean((0, 1)) - canvas[i, j]).max() < 30


def test_labels_come_back_to_the_image_through_the_scale_of_evaluation(dataset):
    config = DetectorDataConfig(augmentation=DetectorAugmentation(flip=0.0), threads=2)
    row = {int(number): i for i, number in enumerate(dataset.images.id)}
    scales = {}
    for batch in evaluated(dataset):
        scales |= dict(zip(batch["index"].tolist(), batch["scale"]))
    checked = 0
    for ids, arrays in take(batches(dataset, config=config), 6):
        for number, boxes, person in zip(ids, arrays.boxes, arrays.person):
            image = row[int(number)]
            scale = np.tile(scales[image], 2)
            truth = dataset.people.box[dataset.people_of(image)]
            found = scale * boxes[person] + (1 - scale) / 2
            np.testing.assert_allclose(np.sort(found, axis=0), np.sort(truth, axis=0), atol=1e-3)
            checked += len(truth)
    assert checked > 10


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_evaluation_sees_every_picture_once_over_the_hosts(dataset, hosts):
    found = [evaluated(dataset, share=Share(h, hosts), batch_size=2) for h in range(hosts)]
    shapes = [[batch["image"].shape for batch in batches] for batches in found]
    assert all(shape == shapes[0] for shape in shapes)
    rows = [
        int(index)
        for batch in itertools.chain(*found)
        for index, weight in zip(batch["index"], batch["weight"])
        if weight
    ]
    assert sorted(rows) == list(range(12))


def test_evaluation_does_not_skip(dataset):
    path = break_picture(dataset, 1)
    with pytest.raises(DataError, match=str(path)):
        evaluated(dataset)


def test_nobody_to_copy_and_paste_is_an_error(dataset):
    augmentation = DetectorAugmentation(copy_paste=0.5)
    config = DetectorDataConfig(augmentation=augmentation)
    with pytest.raises(DataError, match=r"copy_paste = 0\.5: nobody in .*12 images.*segmentation"):
        batches(dataset, config=config)
