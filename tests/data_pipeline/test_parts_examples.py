"""Examples of bottom-up training: everybody's joints where the canvas shows them."""

import numpy as np

from data_pipeline.config import PartsAugmentation, PartsDataConfig
from data_pipeline.loader import parts_batches
from data_pipeline.parts_examples import PartsExamples, canvas_joints, parts_images
from data_pipeline.readers import read

STILL = PartsDataConfig(augmentation=PartsAugmentation(scale=(1.0, 1.0), flip=0.0), max_boxes=4)
CANVAS = (81, 97)


def test_everybody_is_where_the_canvas_shows_them(make_coco):
    data = read(make_coco(images=6, people=3), "train")
    for row in range(6):
        example = PartsExamples(data, CANVAS, STILL)(row, np.random.default_rng(0))
        people = data.people.take(np.arange(len(data.people))[data.people_of(row)])
        assert example.visible.any(axis=1).sum() == len(people)
        assert not example.ignore.any()
        assert example.complete == data.images.boxes_complete[row]
        height, width = int(data.images.height[row]), int(data.images.width[row])
        rows, columns = example.size
        scale = np.array([(columns - 1) / (width - 1), (rows - 1) / (height - 1)])
        by_size = np.argsort(-np.prod(people.box[:, 2:] - people.box[:, :2], axis=1), kind="stable")
        expected = people.keypoints[by_size] * scale
        np.testing.assert_allclose(example.keypoints[: len(people)], expected, atol=1e-3)


def test_the_mirror_exchanges_left_and_right(make_coco):
    data = read(make_coco(images=2, people=1), "train")
    flipped = PartsDataConfig(augmentation=PartsAugmentation(scale=(1.0, 1.0), flip=1.0))
    one, other = (
        PartsExamples(data, CANVAS, config)(1, np.random.default_rng(0))
        for config in (STILL, flipped)
    )
    mirrored = other.keypoints[0][data.skeleton.flip_index]
    mirrored[:, 0] = one.size[1] - 1 - mirrored[:, 0]
    np.testing.assert_allclose(mirrored, one.keypoints[0], atol=1e-3)
    columns = one.size[1]
    np.testing.assert_allclose(
        other.image[:, :columns][:, ::-1].astype(int), one.image[:, :columns].astype(int), atol=1
    )


def test_crowds_and_people_without_joints_are_ignored(make_coco, edit):
    directory = make_coco(images=4, people=3)

    def change(content):
        first, second = content["annotations"][-2:]
        first |= {"keypoints": [0] * 51, "num_keypoints": 0}
        second |= {"iscrowd": 1}

    edit(directory, change)
    data = read(directory, "train")
    example = PartsExamples(data, CANVAS, STILL)(3, np.random.default_rng(0))
    assert example.ignore.sum() == 2
    assert example.visible.any(axis=1).sum() == 1
    assert not (example.ignore & example.visible.any(axis=1)).any()


def test_more_people_than_rows(make_coco):
    data = read(make_coco(images=4, people=3), "train")
    config = PartsDataConfig(augmentation=STILL.augmentation, max_boxes=2)
    example = PartsExamples(data, CANVAS, config)(3, np.random.default_rng(0))
    assert example.ignore.tolist() == [False, True]
    assert example.visible.any(axis=1).tolist() == [True, False]


def test_batches(make_coco):
    data = read(make_coco(images=6, people=2), "train")
    assert len(parts_images(data)) == 6
    batches = parts_batches([data], canvas=CANVAS, config=STILL, batch_size=2, seed=0)
    ids, batch = next(batches)
    batches.close()
    assert ids.shape == (2,)
    assert batch.image.shape == (2, *CANVAS, 3)
    assert batch.keypoints.shape == (2, 4, 17, 2)
    joints, visible = canvas_joints(data, CANVAS)
    assert joints.shape == (6, 17, 2)
    assert visible.all()
