import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from data_pipeline import loader
from data_pipeline.config import PoseAugmentation, PoseDataConfig
from data_pipeline.copy_paste import Donors, outline_mask
from data_pipeline.pose_examples import PoseExamples, nearest_others
from data_pipeline.schema import Dataset, Images, People
from g_rmi.skeleton import COCO

K = len(COCO)
NONE = PoseAugmentation(scale=(1.25, 1.25), flip=0.0)
GEOMETRY = PoseAugmentation(
    scale=(0.9, 1.5), flip=0.5, shift=0.1, rotation=45.0, rotation_probability=1.0
)
TURNED = PoseAugmentation(scale=(1.0, 1.0), flip=0.5, any_rotation=1.0)
ALL = PoseAugmentation(
    scale=(0.8, 1.5),
    shift=0.1,
    rotation=40.0,
    any_rotation=0.5,
    colour_jitter=0.8,
    half_body=0.5,
    random_erasing=0.5,
    mixup=0.5,
    copy_paste=0.5,
)


class Memory:
    """Encoded pictures that were never files."""

    def __init__(self, image):
        self._data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()

    def read(self, index):
        return self._data

    def name(self, index):
        return f"picture {index}"


def dataset_of(image, boxes, keypoints, visibility, crowd=None):
    n = len(boxes)
    return Dataset(
        directory=Path("memory"),
        split="train",
        skeleton=COCO,
        images=Images(
            id=np.array([5]),
            file_name=("a.png",),
            width=np.array([image.shape[1]], np.int32),
            height=np.array([image.shape[0]], np.int32),
            boxes_complete=np.array([True]),
        ),
        people=People(
            id=np.arange(n) + 70,
            image=np.zeros(n, np.int32),
            box=np.asarray(boxes, float),
            area=np.ones(n),
            is_crowd=np.zeros(n, bool) if crowd is None else np.asarray(crowd),
            keypoints=np.asarray(keypoints, np.float32),
            visibility=np.asarray(visibility, np.uint8),
        ),
        source=Memory(image),
    )


def painted(step=40, sigma=5.0):
    """One person whose joints are spots: red left, green right, blue central ones."""
    points = np.array([[60.3 + step * (k % 5), 70.6 + step * (k // 5)] for k in range(K)])
    image = np.zeros((320, 330, 3))
    i, j = np.mgrid[:320, :330]
    for k, (x, y) in enumerate(points):
        channel = {"left": 0, "righ": 1}.get(COCO.names[k][:4], 2)
        image[..., channel] += 255 * np.exp(-((j - x) ** 2 + (i - y) ** 2) / (2 * sigma**2))
    box = [[*(points.min(0) - 20), *(points.max(0) + 20)]]
    return dataset_of(np.round(image).astype(np.uint8), box, points[None], np.full((1, K), 2))


def examples(dataset, augmentation=NONE, *, unlabelled="negative", max_others=3):
    config = PoseDataConfig(augmentation, max_others=max_others, unlabelled=unlabelled)
    return PoseExamples(dataset, 129, 97, config)


def make(maker, person=0, seed=0):
    return maker(person, np.random.default_rng(seed))


def spot_centre(image, channel, near):
    """Centre of mass of a channel around a point, or None at the border or where it is dark."""
    x, y = np.round(near).astype(int)
    r = 9
    if not (r <= x < image.shape[1] - r and r <= y < image.shape[0] - r):
        return None
    weight = image[y - r : y + r + 1, x - r : x + r + 1, channel].astype(float)
    if weight.max() < 100:
        return None
    i, j = np.mgrid[-r : r + 1, -r : r + 1]
    return np.array([x + (weight * j).sum() / weight.sum(), y + (weight * i).sum() / weight.sum()])


def test_fields_types_and_a_hand_computed_crop():
    keypoints = np.zeros((1, K, 2))
    keypoints[0, 3] = [30, 40]
    visibility = np.zeros((1, K))
    visibility[0, 3] = 1
    # Aspect 129/97: the box is widened to 72.18 x 96 around (30, 40), then enlarged by 1.25.
    dataset = dataset_of(np.zeros((80, 60, 3), np.uint8), [[28, -8, 32, 88]], keypoints, visibility)
    example = make(examples(dataset))
    assert example.image.shape == (129, 97, 3)
    np.testing.assert_allclose(example.keypoints[3], [48, 64], atol=1e-5)
    assert example.visible.tolist() == [k == 3 for k in range(K)]
    assert (example.keypoints[~example.visible] == 0).all()
    assert example.other_keypoints.shape == (3, K, 2)
    assert not example.other_visible.any()
    assert example.weight == 1
    assert [np.asarray(field).dtype.name for field in example] == [
        "uint8", "float32", "bool", "bool", "bool", "bool", "float32", "bool", "float32",
    ]  # fmt: skip
    np.testing.assert_array_equal(example.occluded, example.visible)  # by its v of 1


@pytest.mark.parametrize("augmentation", [GEOMETRY, TURNED])
@pytest.mark.parametrize("seed", range(6))
def test_spots_move_with_their_joints(seed, augmentation):
    example = make(examples(painted(), augmentation), seed=seed)
    checked = 0
    for k in range(K):
        channel = {"left": 0, "righ": 1}.get(COCO.names[k][:4], 2)
        flipped = np.linalg.det(affine_of(example)[:, :2]) < 0
        painted_channel = {0: 1, 1: 0, 2: 2}[channel] if flipped else channel
        centre = spot_centre(example.image, painted_channel, example.keypoints[k])
        if centre is not None:
            checked += 1
            assert np.abs(centre - example.keypoints[k]).max() < 0.3
    assert checked >= 5


def affine_of(example):
    """The map that was used, from the joints before and after, whichever way they were named."""
    before = painted().people.keypoints[0].astype(float)
    ones = np.ones((K, 1))
    best = None
    for order in (np.arange(K), COCO.flip_index):
        system = np.concatenate([before[order], ones], axis=1)
        solution, residual, *_ = np.linalg.lstsq(system, example.keypoints, rcond=None)
        if best is None or residual.sum() < best[0]:
            best = (residual.sum(), solution.T)
    assert best[0] < 1e-3
    return best[1]


def test_both_orientations_are_drawn():
    signs = {
        np.sign(np.linalg.det(affine_of(make(examples(painted(), GEOMETRY), seed=s))[:, :2]))
        for s in range(6)
    }
    assert signs == {1.0, -1.0}


def test_a_flip_is_the_mirror_image_with_left_and_right_swapped():
    dataset = painted()
    plain = make(examples(dataset))
    flipped = make(examples(dataset, PoseAugmentation(scale=(1.25, 1.25), flip=1.0)))
    assert np.abs(flipped.image.astype(int) - plain.image[:, ::-1]).max() <= 2
    left, right = COCO.names.index("left_wrist"), COCO.names.index("right_wrist")
    np.testing.assert_allclose(flipped.keypoints[left], [96, 0] + [-1, 1] * plain.keypoints[right])
    np.testing.assert_allclose(flipped.keypoints[0], [96, 0] + [-1, 1] * plain.keypoints[0])


def test_a_flip_swaps_the_flags_too():
    dataset = painted()
    visibility = dataset.people.visibility
    visibility[0, COCO.names.index("left_knee")] = 0
    visibility[0, COCO.names.index("right_ear")] = 1
    always = PoseAugmentation(flip=1.0)
    for unlabelled in ("negative", "ignore"):
        example = make(examples(dataset, always, unlabelled=unlabelled))
        wanted = [name != "right_knee" for name in COCO.names]
        assert example.visible.tolist() == wanted
        assert example.labelled.tolist() == wanted
        assert np.flatnonzero(example.occluded) == COCO.names.index("left_ear")


def test_joints_without_a_picture_are_those_of_the_example():
    maker = examples(painted(), ALL)
    for seed in range(6):
        joints, there = maker.joints(0, np.random.default_rng(seed))
        example = make(maker, seed=seed)
        np.testing.assert_array_equal(np.float32(joints), example.keypoints)
        np.testing.assert_array_equal(there, example.visible)


def test_a_sample_of_joints_is_spread_over_the_data_sets(monkeypatch):
    dataset, config = painted(), PoseDataConfig(NONE)
    how = {"height": 129, "width": 97, "config": config, "seed": 0}
    monkeypatch.setattr(loader, "_SAMPLED", 2)
    joints, visible = loader.sample_joints([dataset, dataset], **how)
    assert (joints.shape, visible.shape) == ((2, K, 2), (2, K))
    assert joints.dtype == np.float32
    np.testing.assert_array_equal(joints[0], make(examples(dataset)).keypoints)
    crowd = loader.sample_joints([crowd_of_people()], **how)[0]  # of more people than are wanted
    assert 1 <= len(crowd) <= 2


def test_what_an_unlabelled_joint_teaches():
    points = np.ones((2, K, 2))
    visibility = np.full((2, K), 2)
    visibility[:, :5] = 0  # never labelled in the whole set
    visibility[0, 7] = 0
    image = np.zeros((40, 40, 3), np.uint8)
    dataset = dataset_of(image, [[0, 0, 30, 30]] * 2, points, visibility)
    negative = make(examples(dataset, unlabelled="negative")).labelled
    ignore = make(examples(dataset, unlabelled="ignore")).labelled
    assert negative.tolist() == [k >= 5 for k in range(K)]
    assert ignore.tolist() == [k >= 5 and k != 7 for k in range(K)]


def test_visibility_is_known_where_hidden_joints_are_marked_and_nothing_is_painted_over():
    points = np.linspace((3, 3), (90, 90), K)[None]
    visibility = np.array([[0, 1] + [2] * (K - 2)])
    image = np.zeros((97, 97, 3), np.uint8)
    sets = [
        dataset_of(image, [[0, 0, 96, 96]], points, np.minimum(visibility * 2, 2)),
        dataset_of(image, [[0, 0, 96, 96]], points, visibility),
    ]
    still = {"scale": (1.0, 1.0), "flip": 0.0}
    silent, known = (make(examples(d, PoseAugmentation(**still))).visibility_known for d in sets)
    assert not silent.any()
    assert known.tolist() == (visibility[0] > 0).tolist()
    erasing = examples(sets[1], PoseAugmentation(**still, random_erasing=1.0))
    some = 0
    for seed in range(24):  # noise, or another part of what is black
        example = make(erasing, seed=seed)
        columns, rows = np.rint(example.keypoints.clip(0, [96, 128])).astype(int).T
        black = (example.image[rows, columns] == 0).all(axis=-1)
        assert example.visibility_known.tolist() == (black & example.visible).tolist()
        some += (~black & example.visible).any()
    assert some >= 3
    colours = examples(sets[1], PoseAugmentation(**still, colour_jitter=1.0))
    assert make(colours).visibility_known.tolist() == known.tolist()
    flipped = make(examples(sets[1], PoseAugmentation(scale=(1.0, 1.0), flip=1.0)))
    assert flipped.visibility_known.tolist() == known[COCO.flip_index].tolist()
    assert (flipped.occluded == (visibility[0] == 1)[COCO.flip_index]).all()


def crowd_of_people():
    centres = [50, 60, 90, 52, 130, 20]
    boxes = [[c - 5, 0, c + 5, 20] for c in centres]
    points = np.array([np.full((K, 2), c) for c in centres])
    visibility = np.full((6, K), 2)
    visibility[3] = 0
    crowd = [False, False, False, False, False, True]
    return dataset_of(np.zeros((40, 150, 3), np.uint8), boxes, points, visibility, crowd)


def test_others_are_the_nearest_labelled_people():
    dataset = crowd_of_people()
    assert nearest_others(dataset, 0, 8).tolist() == [1, 2, 4]
    assert nearest_others(dataset, 0, 2).tolist() == [1, 2]
    assert nearest_others(dataset, 4, 2).tolist() == [2, 1]
    assert nearest_others(dataset, 0, 0).tolist() == []


def test_others_share_the_map_of_the_person():
    example = make(examples(crowd_of_people(), GEOMETRY, max_others=4))
    assert example.other_visible.tolist() == [[True] * K] * 3 + [[False] * K]
    assert (example.other_keypoints[3] == 0).all()
    # On a line in the picture, so on a line in the crop, at distances 10, 40, 80 from the person.
    away = np.linalg.norm(example.other_keypoints[:3, 0] - example.keypoints[0], axis=1)
    np.testing.assert_allclose(away / away[0], [1, 4, 8], rtol=1e-4)


def test_the_same_generator_gives_the_same_example():
    dataset = painted()
    first, again, other = (make(examples(dataset, ALL), seed=s) for s in (3, 3, 4))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert (first.image != other.image).any()


def test_the_papers_augmentation_keeps_the_centre_and_the_scale_range():
    scales = []
    for seed in range(40):
        example = make(examples(painted(), PoseAugmentation()), seed=seed)
        affine = affine_of(example)
        box = painted().people.box[0]
        centre = affine @ [*((box[:2] + box[2:]) / 2), 1]
        np.testing.assert_allclose(centre, [48, 64], atol=0.01)
        # This box is wider than the crop's aspect: at scale 1 its width spans the crop's.
        scales.append(96 / (abs(affine[0, 0]) * (box[2] - box[0])))
    assert 0.999 < min(scales) < 1.1
    assert 1.4 < max(scales) < 1.501


def test_a_turned_person_fills_the_crop_with_the_room_around_their_joints():
    angles = []
    for seed in range(12):
        example = make(examples(painted(), TURNED), seed=seed)
        affine = affine_of(example)
        scale = np.sqrt(abs(np.linalg.det(affine[:, :2])))
        low, high = example.keypoints.min(axis=0), example.keypoints.max(axis=0)
        np.testing.assert_allclose((low + high) / 2, [48, 64], atol=1e-3)
        # The box leaves 20 pixels of the picture on every side; one side of the crop limits.
        share = (high - low + 2 * 20 * scale) / [96, 128]
        np.testing.assert_allclose(share.max(), 1, atol=1e-3)
        angles.append(np.degrees(np.arctan2(affine[1, 0], affine[1, 1])))
    quarters = {int(angle // 90) for angle in angles}
    assert quarters == {-2, -1, 0, 1}


def test_people_of_few_joints_are_not_turned():
    dataset = painted()
    dataset.people.visibility[0, 7:] = 0
    plain, turned = (
        make(examples(dataset, dataclasses.replace(NONE, any_rotation=share)))
        for share in (0.0, 1.0)
    )
    for a, b in zip(plain, turned):
        np.testing.assert_array_equal(a, b)


def two_rooms():
    """The first person stands in the dark, the second in the light, both bright and squares."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 100:] = 120
    image[30:71, 20:51] = image[30:71, 140:171] = 250
    boxes = [[10, 10, 60, 90], [130, 10, 180, 90]]
    points = np.stack([np.full((K, 2), (35, 50)), np.full((K, 2), (155, 50))])
    low, high = np.array([-0.5, 29.5]), np.array([30.5, 70.5])
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    squares = [corners + np.array([x, 0]) for x in (20, 140)]
    outlines = {70 + i: (square.astype(np.float32),) for i, square in enumerate(squares)}
    dataset = dataset_of(image, boxes, points, np.full((2, K), 2))
    return dataclasses.replace(dataset, outlines=outlines)


def test_copy_and_paste_changes_the_background_and_puts_others_beside():
    dataset = two_rooms()
    still = PoseAugmentation(scale=(1.0, 1.0), flip=0.0)
    pasted = dataclasses.replace(still, copy_paste=1.0)
    alone = PoseExamples(dataset, 161, 101, PoseDataConfig(pasted, max_others=0))
    backgrounds = set()
    plain = make(PoseExamples(dataset, 161, 101, PoseDataConfig(still, max_others=0)))
    inside = plain.image[..., 0] > 240
    edge = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) > cv2.erode(
        inside.astype(np.uint8), np.ones((5, 5))
    )
    for seed in range(12):
        example = make(alone, seed=seed)
        np.testing.assert_array_equal(example.keypoints, plain.keypoints)
        bright = example.image[..., 0] > 240
        assert np.array_equal(bright[~edge], inside[~edge])  # nobody else is there to paste
        backgrounds.add(int(example.image[0, 0, 0]))
    assert backgrounds == {0, 120}

    among = dataclasses.replace(alone, donors=Donors([dataset]))
    beside = [(make(among, seed=s).image[..., 0] > 240) & ~inside & ~edge for s in range(12)]
    assert sum(part.sum() > 20 for part in beside) > 8
    assert all(part[70:90, 45:55].sum() == 0 for part in beside)


def test_who_has_no_outline_is_not_cut_out():
    dataset = dataclasses.replace(two_rooms(), outlines={})
    pasted = PoseAugmentation(scale=(1.0, 1.0), flip=0.0, copy_paste=1.0)
    plain = make(examples(dataset, dataclasses.replace(pasted, copy_paste=0.0)))
    for seed in range(4):
        np.testing.assert_array_equal(make(examples(dataset, pasted), seed=seed).image, plain.image)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own
def test_a_mask_covers_what_pycocotools_fills():
    rng = np.random.default_rng(0)
    for _ in range(10):
        turn = np.sort(rng.uniform(0, 2 * np.pi, 9))
        reach = rng.uniform(20, 45, 9)
        star = np.stack([60 + reach * np.cos(turn), 50 + reach * np.sin(turn)], axis=1)
        square = np.array([[55.0, 40], [75, 40], [75, 60], [55, 60]])  # overlaps the star
        flat = [(8 * polygon).ravel().tolist() for polygon in (star, square)]
        fine = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, 800, 960)))
        want = fine.reshape(100, 8, 120, 8).mean(axis=(1, 3))
        outline = [(polygon - 0.5).astype(np.float32) for polygon in (star, square)]
        mask = outline_mask(outline, np.eye(2, 3), height=100, width=120) / 255
        assert np.abs(mask - want).max() < 0.4
        assert abs(mask.sum() - want.sum()) < 0.03 * want.sum()


def test_mixing_shows_another_persons_crop_and_keeps_the_joints():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 100:] = 250  # the first person stands in the dark, the second in the light
    boxes = [[10, 10, 60, 90], [130, 10, 180, 90]]
    points = np.stack([np.full((K, 2), (35, 50)), np.full((K, 2), (155, 50))])
    dataset = dataset_of(image, boxes, points, np.full((2, K), 2))
    plain = examples(dataset, PoseAugmentation(scale=(1.0, 1.0), flip=0.0))
    mixing = examples(dataset, PoseAugmentation(scale=(1.0, 1.0), flip=0.0, mixup=1.0))
    lit = 0
    for seed in range(20):
        a, b = make(plain, seed=seed), make(mixing, seed=seed)
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        assert a.image.max() == 0
        lit += b.image.max() > 0
    assert 3 < lit < 17  # the other is the second person half of the time


def test_colour_jitter_keeps_the_outside_black():
    white = dataset_of(
        np.full((40, 40, 3), 255, np.uint8), [[0, 0, 39, 39]], np.ones((1, K, 2)), np.ones((1, K))
    )
    bright = PoseAugmentation(scale=(2.0, 2.0), flip=0.0, colour_jitter=1.0)
    for seed in range(5):
        crop = make(examples(white, bright), seed=seed).image
        assert (crop[:20] == 0).all()
        assert (crop[60:70, 45:50] > 0).all()
