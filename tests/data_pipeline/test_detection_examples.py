"""Training examples of the detector, against coloured rectangles and hand-computed boxes."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.augment import Regions, covered_shares
from data_pipeline.config import DetectorAugmentation, DetectorDataConfig
from data_pipeline.copy_paste import Donors, donors_of
from data_pipeline.detection_examples import (
    DetectionExamples,
    as_table,
    look,
    trainable_images,
    with_completeness,
)
from data_pipeline.images import ImageError
from data_pipeline.readers import read
from data_pipeline.schema import DataError, Dataset, Images, People
from data_pipeline.windows import Cut, Flip, View
from g_rmi.skeleton import COCO
from tests.two_classes import write_set

K = len(COCO)
PLAIN = DetectorAugmentation(flip=0.0)
COLOURS = [(255, 0, 0), (0, 255, 0), (255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255)]
BACKDROP = (0, 0, 90)


class Memory:
    """Encoded pictures that were never files."""

    def __init__(self, images):
        self._data = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images]

    def read(self, index):
        return self._data[index]

    def name(self, index):
        return f"picture {index}"


def dataset_of(*scenes):
    """Pictures, each with its (boxes, crowd flags, completeness)."""
    images, boxes, crowds, complete = zip(*scenes)
    of = np.repeat(np.arange(len(images)), [len(b) for b in boxes])
    n = len(of)
    return Dataset(
        directory=Path("memory"),
        split="train",
        skeleton=COCO,
        images=Images(
            id=np.arange(len(images)) + 50,
            file_name=tuple(f"{i}.png" for i in range(len(images))),
            width=np.array([image.shape[1] for image in images], np.int32),
            height=np.array([image.shape[0] for image in images], np.int32),
            boxes_complete=np.array(complete),
        ),
        people=People(
            id=np.arange(n) + 70,
            image=of.astype(np.int32),
            box=np.concatenate([np.reshape(b, (-1, 4)) for b in boxes]).astype(float),
            area=np.ones(n),
            is_crowd=np.concatenate([np.asarray(c, bool) for c in crowds]),
            keypoints=np.zeros((n, K, 2), np.float32),
            visibility=np.zeros((n, K), np.uint8),
        ),
        source=Memory(images),
    )


def painted(height, width, boxes, colours=COLOURS, crowd=None, complete=True):
    """A picture of rectangles: a box ends where its last pixel ends, as in COCO."""
    image = np.full((height, width, 3), BACKDROP, np.uint8)
    for (x0, y0, x1, y1), colour in zip(boxes, colours):
        image[y0:y1, x0:x1] = colour
    return image, boxes, [False] * len(boxes) if crowd is None else crowd, complete


def seen_boxes(image):
    """The box of every connected patch of a colour, found in the pixels."""
    found = []
    for colour in COLOURS:
        near = (np.abs(image.astype(int) - colour).max(axis=-1) < 120).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
        found += [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:count].tolist()]
    return found


def make(datasets, canvas, augmentation=PLAIN, *, seed=0, row=0, max_boxes=8, number=0):
    config = DetectorDataConfig(augmentation=augmentation, max_boxes=max_boxes)
    examples = DetectionExamples(datasets, [1.0] * len(datasets), canvas, config)
    return examples(number, row, np.random.default_rng(seed))


def assert_boxes_enclose_the_colours(example):
    seen = seen_boxes(example.image)
    boxes = example.boxes[example.person | example.ignore]
    boxes = boxes[np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) > 0.6]
    assert len(boxes) == len(seen)
    for box in boxes:
        assert min(np.abs(box - other).max() for other in seen) <= 1.0, (box, seen)
    return len(seen)


def test_fields_types_and_a_hand_computed_canvas():
    # 60 x 100 pixels on 30 x 60: rows are the bottleneck, 30 x 50 remain of the canvas.
    scene = painted(60, 100, [(20, 10, 40, 50)])
    example = make([dataset_of(scene)], (30, 60), max_boxes=3)
    assert example.size.tolist() == [30, 50]
    x, y = 49 / 99, 29 / 59
    box = 19.5 * x + 0.5, 9.5 * y + 0.5, 39.5 * x + 0.5, 49.5 * y + 0.5
    np.testing.assert_allclose(example.boxes, [box, [0] * 4, [0] * 4], rtol=1e-6)
    assert example.person.tolist() == [True, False, False]
    assert not example.ignore.any()
    assert not example.image[:, 50:].any()
    np.testing.assert_array_equal(example.image[[0, 0, -1, -1], [0, 49, 0, 49]], [BACKDROP] * 4)
    assert example.classes is None
    assert [np.asarray(field).dtype.name for field in example[:-1]] == [
        "uint8", "int32", "float32", "bool", "bool", "float32",
    ]  # fmt: skip


BOXES = [(12, 20, 60, 90), (80, 15, 95, 60), (110, 50, 170, 110)]


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_enclose_the_coloured_pixels(flip, scale, seed):
    datasets = [dataset_of(painted(120, 180, BOXES))]
    augmentation = DetectorAugmentation(flip=flip, scale=(scale, scale), min_visible=0.0)
    example = make(datasets, (128, 192), augmentation, seed=seed)
    assert assert_boxes_enclose_the_colours(example) >= 1
    rows, columns = example.size
    assert (rows, columns) == (min(128, 128 * scale), min(192, 192 * scale))
    assert not example.image[rows:].any()
    assert not example.image[:, columns:].any()
    assert (example.image[:rows, :columns].max(axis=-1) > 40).all()


def test_a_flip_is_the_mirror_image_with_mirrored_boxes():
    datasets = [dataset_of(painted(60, 100, [(0, 10, 40, 50), (70, 0, 90, 60)]))]
    plain = make(datasets, (60, 100))
    flipped = make(datasets, (60, 100), DetectorAugmentation(flip=1.0))
    np.testing.assert_array_equal(flipped.image, plain.image[:, ::-1])
    assert flipped.boxes[:2].tolist() == [[60, 10, 100, 50], [10, 0, 30, 60]]


def test_a_cut_of_a_large_picture_shows_whole_people():
    datasets = [dataset_of(painted(60, 100, [(3, 3, 13, 23), (80, 40, 97, 57)]))]
    augmentation = DetectorAugmentation(scale=(1.5, 2.5))
    windows = set()
    for seed in range(20):
        example = make(datasets, (60, 100), augmentation, seed=seed)
        assert example.size.tolist() == [60, 100]
        (box,) = example.boxes[example.person]
        low, high = box.reshape(2, 2) * 1.0
        assert (high - low >= 1.4 * np.array([10, 17])).all()
        windows.add(tuple(np.round(box)))
    assert len(windows) > 10


def test_a_person_larger_than_the_window_fills_it():
    datasets = [dataset_of(painted(60, 100, [(10, 2, 96, 58)]))]
    for seed in range(5):
        example = make(datasets, (60, 100), DetectorAugmentation(scale=(3.0, 3.0)), seed=seed)
        np.testing.assert_allclose(example.boxes[0], [0, 0, 100, 60], atol=1e-4)
        assert example.ignore[0]  # no more than a ninth of it is seen


def test_the_scale_is_drawn_evenly_in_its_logarithm():
    datasets = [dataset_of(painted(64, 64, []))]
    augmentation = DetectorAugmentation(scale=(0.25, 1.0))
    sides = [make(datasets, (64, 64), augmentation, seed=s).size[0] for s in range(200)]
    assert min(sides) >= 16
    assert abs(np.mean(np.array(sides) < 32) - 0.5) < 0.12


# Each picture of a mosaic has a colour of its own; one stands, one is long, one is tiny.
TILES = [
    dataset_of(
        painted(120, 180, [(30, 20, 90, 80)], COLOURS[:1]),
        painted(160, 100, [(20, 20, 70, 120)], COLOURS[1:2]),
    ),
    dataset_of(
        painted(60, 240, [(40, 15, 80, 50), (150, 10, 190, 45)], [COLOURS[2]] * 2),
        painted(24, 24, [(4, 5, 18, 19)], COLOURS[3:4]),
    ),
]


# Where two patches of one colour touch, the pixels do not say what is one person.
@pytest.mark.parametrize("seed", sorted({*range(20)} - {1, 2}))
def test_boxes_of_a_mosaic_enclose_the_coloured_pixels(seed):
    augmentation = DetectorAugmentation(mosaic=1.0, scale=(0.5, 1.5), min_visible=0.0)
    example = make(TILES, (128, 192), augmentation, seed=seed)
    assert example.size.tolist() == [128, 192]
    assert (example.image.max(axis=-1) > 40).all()
    assert assert_boxes_enclose_the_colours(example) >= 4


def test_a_mosaic_mixes_the_data_sets_by_their_weights():
    config = DetectorDataConfig(augmentation=DetectorAugmentation(mosaic=1.0))
    examples = DetectionExamples(TILES, [3.0, 1.0], (64, 96), config)
    rng = np.random.default_rng(0)
    drawn = [examples._draw(rng) for _ in range(400)]
    assert abs(np.mean([number == 0 for number, _ in drawn]) - 0.75) < 0.06
    assert {drawn_row for _, drawn_row in drawn} == {0, 1}


def test_incomplete_tiles_are_ignored_one_by_one():
    incomplete = dataset_of(painted(60, 90, [(10, 10, 40, 40)], complete=False))
    complete = dataset_of(painted(60, 90, [(10, 10, 40, 40)]))
    augmentation = DetectorAugmentation(mosaic=1.0, flip=0.0)
    example = make([incomplete], (60, 90), augmentation)
    tiles = example.boxes[example.ignore][:4]
    assert tiles[:, :2].min() == 0
    assert tiles[:, 2:].max(axis=0).tolist() == [90, 60]
    area = ((tiles[:, 2] - tiles[:, 0]) * (tiles[:, 3] - tiles[:, 1])).sum()
    assert area == 60 * 90
    assert not make([complete], (60, 90), augmentation).ignore.any()


def test_colour_leaves_the_rest_of_the_canvas_empty():
    datasets = [dataset_of(painted(60, 60, [(10, 10, 40, 40)]))]
    augmentation = DetectorAugmentation(flip=0.0, colour_jitter=1.0)
    example = make(datasets, (60, 90), augmentation)
    assert not example.image[:, 60:].any()
    assert (example.image != make(datasets, (60, 90)).image).any()


def regions_of(box, *, crowd=False, complete=True, size=(100, 100), min_visible=0.3):
    """What a window from (50, 0) on shows of one box in a picture of 100 x 150."""
    scene = painted(100, 150, [], complete=complete)
    dataset = dataset_of((scene[0], [box], [crowd], complete))
    view = View(image=(100, 150), room=size, size=(100, 150), corner=(50.0, 0.0))
    return look(dataset, 0, view, min_visible=min_visible)


@pytest.mark.parametrize(
    ("box", "wanted", "person"),
    [
        ((60, 10, 80, 40), (10, 10, 30, 40), True),  # all of it
        ((44, 10, 64, 40), (0, 10, 14, 40), True),  # .7 of it
        ((37, 10, 57, 40), (0, 10, 7, 40), True),  # .35
        ((35, 10, 55, 40), (0, 10, 5, 40), False),  # .25
        ((140, 10, 190, 40), (90, 10, 100, 40), True),  # what lies outside the picture is no loss
    ],
)
def test_people_are_clipped_and_a_rest_is_ignored(box, wanted, person):
    regions = regions_of(box)
    np.testing.assert_allclose(regions.box, [wanted])
    assert regions.person.tolist() == [person]
    assert not regions.whole.any()


def test_what_is_not_in_the_window_is_no_region():
    for box in ((10, 10, 50, 40), (10, 10, 40, 40), (60, 10, 60, 40), (60, 40, 70, 10)):
        assert not len(regions_of(box).box)
    assert not len(regions_of((140, 50, 150, 60), size=(40, 80)).box)


def test_a_crowd_is_ignored():
    regions = regions_of((60, 10, 80, 40), crowd=True)
    assert regions.box.tolist() == [[10, 10, 30, 40]]
    assert not regions.person.any()


def test_an_incomplete_picture_is_ignored_but_not_its_people():
    regions = regions_of((60, 10, 80, 40), complete=False, size=(90, 100))
    assert regions.box.tolist() == [[0, 0, 100, 90], [10, 10, 30, 40]]
    assert regions.person.tolist() == [False, True]
    assert regions.whole.tolist() == [True, False]


def table_of(count):
    box = np.array([[0, 0, 2, 2], [0, 0, 9, 9], [5, 5, 6, 8], [1, 0, 5, 5], [3, 4, 9, 9.0]])
    person = np.array([True, True, True, False, False])
    return as_table(Regions(box, person, np.arange(5) == 4), count)


def test_a_table_with_room_is_padded():
    boxes, person, ignore, _ = table_of(7)
    assert [row[2] for row in boxes.tolist()] == [9, 9, 5, 2, 6, 0, 0]
    assert person.tolist() == [False, True, False, True, True, False, False]
    assert ignore.tolist() == [True, False, True, False, False, False, False]


def test_of_too_many_boxes_the_largest_stay_and_the_rest_is_ignored():
    boxes, person, ignore, _ = table_of(4)
    assert boxes.tolist() == [[3, 4, 9, 9], [0, 0, 9, 9], [1, 0, 5, 5], [0, 0, 6, 8]]
    assert person.tolist() == [False, True, False, False]
    assert ignore.tolist() == [True, False, True, True]
    boxes, person, ignore, _ = table_of(1)
    assert boxes.tolist() == [[0, 0, 9, 9]]
    assert (person.tolist(), ignore.tolist()) == ([False], [True])


def test_classes_stay_with_their_boxes():
    box = np.array([[0, 0, 2, 2], [0, 0, 9, 9], [5, 5, 6, 8]], np.float32)
    some = np.ones(3, bool)
    classes = np.array([2, 0, 1], np.int32)
    regions = Regions(box, some, ~some, classes)
    assert as_table(regions, 5)[3].tolist() == [0, 2, 1, 0, 0]
    assert as_table(regions, 2)[3].tolist() == [0, 2]


@pytest.mark.parametrize("change", [{}, {"mosaic": 1.0}, {"copy_paste": 1.0}])
def test_pictures_of_two_classes_say_which_is_where(tmp_path, change):
    """Kites are red and triangles are blue, here and wherever they are put."""
    dataset = read(write_set(tmp_path / "data"), "train", categories=["kite", "triangle"])
    box, people = dataset.people.box, dataset.people
    corners = box[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float32)
    outlines = {int(n): (c,) for n, c in zip(people.id, corners)}
    dataset = dataclasses.replace(dataset, outlines=outlines)
    config = DetectorDataConfig(dataclasses.replace(PLAIN, min_visible=0.6, **change), max_boxes=20)
    examples = DetectionExamples([dataset], [1.0], (72, 112), config, donors_of([dataset], 1.0))
    for seed in range(4):
        example = examples(0, seed % 3, np.random.default_rng(seed))
        for x0, y0, x1, y1 in example.boxes[example.person].round().astype(int).tolist():
            red, _, blue = example.image[y0:y1, x0:x1].reshape(-1, 3).astype(int).T
            number = example.classes[(example.boxes[:, 0].round() == x0) & example.person]
            assert (red > 200).sum() * (1 - 2 * number[0]) > (blue > 200).sum() * (
                1 - 2 * number[0]
            )


def test_which_pictures_are_trained_on():
    image = np.zeros((20, 20, 3), np.uint8)
    box, flat = (1, 1, 9, 9), (1, 1, 1, 9)
    dataset = dataset_of(
        (image, [], [], True),  # 0: nobody is there
        (image, [], [], False),
        (image, [box], [False], False),  # 2: some are labelled
        (image, [box], [True], False),
        (image, [box], [True], True),  # 4: nobody outside the crowd
        (image, [flat], [False], False),
        (image, [flat, box], [False, False], False),  # 6
    )
    assert trainable_images(dataset).tolist() == [0, 2, 4, 6]
    (marked,) = with_completeness([dataset], [False])
    assert trainable_images(marked).tolist() == [2, 6]
    assert dataset.images.boxes_complete.any()
    with pytest.raises(DataError, match=r"boxes_complete = \(True, False\): 2 flags for 1 data"):
        with_completeness([dataset], (True, False))


def test_nobody_is_an_example_too():
    example = make(
        [dataset_of(painted(30, 40, []))], (30, 40), DetectorAugmentation(scale=(2.0, 2.0))
    )
    assert not example.boxes.any()
    assert not example.person.any()
    assert not example.ignore.any()


def test_a_broken_tile_is_named():
    dataset = dataset_of(painted(30, 40, []))
    dataset.source._data[0] = dataset.source._data[0][:50]
    with pytest.raises(ImageError, match=r"^picture 0: not decodable"):
        make([dataset], (30, 40), DetectorAugmentation(mosaic=1.0))


def test_a_window_lies_inside_the_picture_whatever_the_boxes():
    boxes = np.array([[-50.0, -9, 900, 1]])
    for seed in range(10):
        rng = np.random.default_rng(seed)
        view = Flip(0.5)(View(image=(30, 40), room=(20, 30), size=(60, 80)), boxes, rng)
        (a, _, tx), (_, _, ty) = Cut()(view, boxes, rng).affine
        shift = (-tx if a > 0 else 79 - tx), -ty
        assert -1e-9 <= shift[0] <= 50 + 1e-9
        assert -1e-9 <= shift[1] <= 40 + 1e-9


def with_outline(dataset):
    """As if the first person's outline were their box."""
    x0, y0, x1, y1 = dataset.people.box[0] - 0.5
    square = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)
    return dataclasses.replace(dataset, outlines={int(dataset.people.id[0]): (square,)})


@pytest.mark.parametrize("seed", range(8))
def test_pasted_people_have_boxes_around_their_pixels(seed):
    empty = dataset_of(painted(120, 180, []))
    other = with_outline(dataset_of(painted(90, 100, [(30, 20, 60, 80)], [(0, 255, 0)])))
    augmentation = dataclasses.replace(PLAIN, copy_paste=1.0)
    config = DetectorDataConfig(augmentation=augmentation, max_boxes=8)
    examples = DetectionExamples([empty], [1.0], (128, 192), config, Donors([empty, other]))
    example = examples(0, 0, np.random.default_rng(seed))
    boxes = example.boxes[example.person]
    assert 1 <= len(boxes) <= 3
    assert not example.ignore.any()
    green = example.image[..., 1] > 128
    y, x = np.nonzero(green)
    around = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    union = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    np.testing.assert_allclose(around, union, atol=1.5)  # enlarged edges are soft
    for box in boxes:
        x0, y0, x1, y1 = np.rint(box).astype(int)
        assert green[y0:y1, x0:x1].mean() > 0.8
        assert min(x1 - x0, y1 - y0) > 3
    aspects = (boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0])
    assert (aspects > 1.3).all()  # 60 x 30, up to .3 of it cut away
    again = examples(0, 0, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.image, example.image)


def test_who_is_hidden_by_a_pasted_person_is_ignored():
    scene = dataset_of(painted(60, 100, [(10, 10, 30, 50), (60, 10, 80, 50)]))

    class Curtain(Donors):
        def put_onto(self, picture, rng):
            """Covers four fifths of the first person."""
            mask = np.zeros(picture.shape[:2], np.uint8)
            mask[10:42, 10:30] = 255
            return np.array([10.0, 10, 30, 42]), mask, None

    augmentation = dataclasses.replace(PLAIN, copy_paste=1.0, min_visible=0.3)
    config = DetectorDataConfig(augmentation=augmentation, max_boxes=8)
    examples = DetectionExamples([scene], [1.0], (60, 100), config, Curtain(()))
    example = examples(0, 0, np.random.default_rng(0))
    first = (example.boxes == np.float32([10, 10, 30, 50])).all(axis=1)
    second = (example.boxes == np.float32([60, 10, 80, 50])).all(axis=1)
    assert example.ignore[first].all()
    assert example.person[second].all()


def test_covered_shares_by_hand():
    mask = np.zeros((10, 20), np.uint8)
    mask[2:6, 3:9] = 255
    boxes = np.array([[3, 2, 9, 6], [0, 2, 6, 6], [0, 0, 20, 10], [12, 7, 15, 9], [5, 5, 5, 5]])
    shares = covered_shares(mask, boxes.astype(np.float32))
    np.testing.assert_allclose(shares, [1, 0.5, 24 / 200, 0, 0])
