"""Both stages as one program: against the stages run one by one, and as a user calls it."""

import dataclasses
import functools
import inspect
import io
import timeit
from pathlib import Path

import cv2
import jax
import jax.export
import numpy as np
import pytest
from jax import numpy as jnp
from PIL import Image

from g_rmi import geometry
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.inference.canvas import pack
from g_rmi.inference.people import crop_to_image, in_chunks
from g_rmi.inference.pipeline import PosePipeline, compiled
from g_rmi.inference.rank import rank_images
from g_rmi.inference.settings import Settings
from g_rmi.ops.image import crop_boxes
from g_rmi.pose.task import PoseTask
from g_rmi.pose.views import turns
from g_rmi.training.sharding import data_mesh
from g_rmi.types import People
from tests import networks
from tests.oracles.image import bilinear

DETECTOR, POSE = FasterRCNN(networks.DETECTOR.model), PoseTask(networks.TELLING.model)
SETTINGS = Settings(max_people=6, min_box_score=0.0, min_score=0.0)


@functools.cache
def variables():
    """Random networks; the heads are loud, so that no two places are a tie."""
    detector, pose = (
        jax.jit(task.init)(jax.random.key(i)) for i, task in enumerate((DETECTOR, POSE))
    )
    for name in ("heatmap", "offset", "visibility"):
        pose["params"][name]["kernel"] *= 10
    return {"detector": detector, "pose": pose}


@pytest.fixture(scope="module")
def pipeline():
    return PosePipeline(DETECTOR, POSE, variables(), SETTINGS)


def picture(height, width, seed=0):
    """Smooth noise: something to see at every scale, and no two places alike."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def shrink(image, window):
    """Means of r x r blocks where a pixel of the 33 x 33 crop covers as many, by hand."""
    area = (window[2] - window[0]) * (window[3] - window[1]) / 32**2
    r = max(r for r in (1, 2, 4, 8) if area >= r * r or r == 1)
    h, w = image.shape[:2]
    image = np.pad(image, ((0, -h % r), (0, -w % r), (0, 0)), mode="edge").astype(np.float32)
    image = image.reshape(image.shape[0] // r, r, image.shape[1] // r, r, 3).mean((1, 3))
    return image, (window - (r - 1) / 2) / r


@functools.cache
def stages():
    """The jitted stages: canvas to detections, crops to poses."""

    def poses(v, crops, windows):
        found = POSE.decode(POSE.predict(v, crops))
        return found._replace(keypoints=crop_to_image(found.keypoints, windows, POSE.grid))

    return jax.jit(DETECTOR.predict), jax.jit(poses)


def one_by_one(image, boxes=None, scores=None):
    """The stages by hand, on the host between them, one crop at a time."""
    detect, poses = stages()
    if boxes is None:
        fit = geometry.fit_canvas(*image.shape[:2], canvas=DETECTOR.config.canvas)
        (h, w), (rows, columns) = image.shape[:2], fit.size
        x = np.arange(columns) * (w - 1) / (columns - 1)
        y = np.arange(rows) * (h - 1) / (rows - 1)
        canvas = np.zeros((1, *fit.canvas, 3), np.float32)
        box = jnp.array([[0, 0, x[-1], y[-1]]], jnp.float32)
        canvas[0, :rows, :columns] = crop_boxes(image, box, height=rows, width=columns)[0]
        found = detect(variables()["detector"], canvas, jnp.array([fit.size], jnp.int32))
        valid = np.asarray(found.valid[0])
        scale = np.tile([x[1], y[1]], 2)
        boxes = (np.asarray(found.boxes[0])[valid] * scale + (1 - scale) / 2)[: SETTINGS.max_people]
        scores = np.asarray(found.scores[0])[valid][: SETTINGS.max_people]
    windows = geometry.pose_box(boxes, aspect=1.0, scale=POSE.config.box_scale)
    each = []
    for window in windows:
        small, place = shrink(image, window)
        crop = crop_boxes(small, jnp.asarray(place[None], jnp.float32), height=33, width=33)
        each.append(poses(variables()["pose"], crop, jnp.asarray(window[None], jnp.float32)))
    columns = [np.concatenate([np.asarray(p[i]) for p in each]) for i in range(4)]
    people = People(*columns[:3], boxes.astype(np.float32), visibility=columns[3])
    scores, keep = rank_images(
        people,
        np.zeros(len(boxes), np.int64),
        np.asarray(scores),
        sigmas=POSE.skeleton.sigmas,
        settings=SETTINGS,
    )
    order = np.flatnonzero(keep)[np.argsort(-scores[keep], kind="stable")]
    return people[order]


def assert_same(a, b):
    assert len(a.scores) == len(b.scores)
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-3)
    np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4)
    np.testing.assert_allclose(a.keypoint_scores, b.keypoint_scores, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
    np.testing.assert_allclose(a.visibility, b.visibility, atol=1e-4)
    assert np.ptp(a.visibility) > 0.01 or not len(a)


@pytest.mark.parametrize("shape", [(60, 79), (90, 61)])
def test_one_program_equals_the_stages_one_by_one(pipeline, shape):
    image = picture(*shape)
    found = pipeline(image)
    assert len(found.scores) >= 2
    assert_same(found, one_by_one(image))


def test_nothing_leaves_the_device_and_nothing_compiles_twice(pipeline):
    run = compiled(DETECTOR, POSE, (64, 80), SETTINGS, None)
    first, second = (
        jax.device_put(pack([picture(*shape, seed)], canvas=(64, 80), count=1))
        for seed, shape in enumerate([(60, 79), (40, 100)])
    )
    placed = jax.device_put(variables())
    run(placed, first)
    programs = run._cache_size()
    with jax.transfer_guard("disallow"):
        found = run(placed, second)
    assert run._cache_size() == programs
    assert found.valid.shape == (1, SETTINGS.max_people)


def test_the_program_lowers_for_accelerators():
    run = compiled(DETECTOR, POSE, (64, 80), SETTINGS, None)
    given = variables(), pack([picture(60, 79)], canvas=(64, 80), count=2)
    exported = jax.export.export(run, platforms=["tpu", "cuda"])(*given)
    assert exported.platforms == ("tpu", "cuda")
    assert exported.out_avals[0].shape == (2, SETTINGS.max_people, 17, 2)


def test_a_batch_of_any_sizes_equals_its_pictures(pipeline):
    images = [picture(60, 79), picture(90, 61, 1), picture(33, 64, 2), picture(350, 420, 3)]
    together = pipeline(images)
    assert len(together) == 4
    for image, found in zip(images, together, strict=True):
        assert_same(found, pipeline(image))


def test_boxes_from_outside(pipeline):
    image = picture(60, 79)
    boxes = np.array([[5, 5, 30, 55], [30, 10, 70, 50], [-20, 0, 20, 40]], np.float32)
    alone = PosePipeline(None, POSE, variables(), SETTINGS)
    found = alone(image, boxes=boxes)
    assert_same(found, one_by_one(image, boxes, np.ones(3)))
    assert_same(found, pipeline(image, boxes=boxes))
    nobody = alone(image, boxes=np.zeros((0, 4)))
    assert nobody.keypoints.shape == (0, 17, 2)
    first, second = alone([image, image[:, ::-1]], boxes=[boxes, []])
    assert_same(first, found)
    assert len(second.scores) == 0


def test_no_box_is_good_enough():
    strict = PosePipeline(DETECTOR, POSE, variables(), Settings(max_people=6, min_box_score=1.0))
    found = strict(picture(60, 79))
    assert found.keypoints.shape == (0, 17, 2)
    assert found.scores.shape == (0,)


@pytest.mark.parametrize("people", [0, 1, 3, 4, 6, 9])
def test_a_chunk_that_people_do_not_fill_is_not_paid_for(people):
    """On CPUs those past the last full chunk of 4 come one by one."""

    def function(rows):
        return rows, jnp.full(rows.shape, len(rows))

    valid = np.random.default_rng(0).permutation(np.arange(9) < people)
    rows, sizes = jax.jit(functools.partial(in_chunks, function, chunk=4))(valid)
    np.testing.assert_array_equal(rows, np.where(valid, np.arange(9), 0))
    full = people - people % 4
    np.testing.assert_array_equal(sizes[valid], [4] * full + [1] * (people - full))


@pytest.mark.parametrize("rows", [3, 9])
def test_nobody_costs_nothing(rows):
    """XLA must not take the work out of the loop, which runs once for every chunk of 4."""

    def heavy(chunk):
        x = jnp.full((500, 500), 0.1 / (1 + chunk[0].astype(jnp.float32)))
        for _ in range(4):
            x = jnp.tanh(x @ x)
        return jnp.broadcast_to(x.sum(), chunk.shape)

    run = jax.jit(functools.partial(in_chunks, heavy, chunk=4))

    def seconds(valid):
        return min(timeit.repeat(lambda: jax.block_until_ready(run(valid)), number=1, repeat=4))

    somebody = np.arange(rows) == 1
    assert seconds(np.zeros(rows, bool)) < seconds(somebody) / 5


def test_settings_reach_the_program(pipeline):
    settings = Settings(
        flip_test=True,
        min_box_score=0.0,
        min_score=0.0,
        max_people=3,
        ranking="box",
        oks_nms=1.0,
        crops_at_once=2,
    )
    found = PosePipeline(DETECTOR, POSE, variables(), settings)(picture(60, 79))
    assert len(found.scores) == 3  # all stay, though more were found
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores[0] > 0.1  # a softmax, no vote of an untrained network
    least = dataclasses.replace(settings, min_score=float(found.scores[1]))
    programs = compiled.cache_info().misses
    better = PosePipeline(DETECTOR, POSE, variables(), least)(picture(60, 79))
    np.testing.assert_array_equal(better.scores, found.scores[:2])
    assert compiled.cache_info().misses == programs  # another threshold compiles nothing


def test_scores_of_given_boxes_rank_people():
    settings = Settings(ranking="box", oks_nms=1.0, min_score=0.0)
    alone = PosePipeline(None, POSE, variables(), settings)
    boxes = np.array([[5, 5, 30, 55], [30, 10, 70, 50]], np.float32)
    found = alone(picture(60, 79), boxes=boxes, box_scores=[0.25, 0.75])
    np.testing.assert_array_equal(found.scores, [0.75, 0.25])
    np.testing.assert_array_equal(found.boxes, boxes[::-1])


def test_the_flip_test_looks_for_people_in_the_mirrored_picture_too():
    settings = Settings(
        flip_test=True, min_box_score=0.05, min_score=0.0, max_people=6, ranking="box"
    )
    flipping = PosePipeline(DETECTOR, POSE, variables(), settings)
    image = picture(60, 79)
    here, there = flipping(image), flipping(image[:, ::-1])
    assert len(here.scores) > 1
    np.testing.assert_allclose(here.scores, there.scores, atol=1e-4)
    np.testing.assert_allclose(here.boxes[:, 0], 79 - there.boxes[:, 2], atol=0.05)
    np.testing.assert_allclose(here.boxes[:, 1::2], there.boxes[:, 1::2], atol=0.05)


@pytest.mark.parametrize("box", [(20, 10, 50, 44), (-8, 20, 70, 130)])
def test_the_rotation_test_looks_at_the_picture_itself(box):
    """Views by OpenCV's rotation of the crop, sampled pixel by pixel; the second box is shrunk."""
    alone = PosePipeline(None, POSE, variables(), Settings(rotation_test=True, min_score=0.0))
    image = picture(140, 79)
    box = np.array([box], np.float64)
    found = alone(image, box)
    window = geometry.pose_box(box, aspect=1.0, scale=POSE.config.box_scale)[0]
    small, place = shrink(image, window)
    views = []
    for angle in (0, -30, 30):
        back = cv2.invertAffineTransform(cv2.getRotationMatrix2D((16, 16), angle, 1))
        pixels = (
            np.stack(np.meshgrid(np.arange(33), np.arange(33)), -1) @ back[:, :2].T + back[:, 2]
        )
        points = place[:2] + pixels / 32 * (place[2:] - place[:2])
        views.append([[bilinear(small, x, y) for x, y in row] for row in points])
    maps = jax.jit(functools.partial(POSE.predict, turns=turns(POSE.grid)))(
        variables()["pose"], np.array(views, np.float32)[None]
    )
    wanted = POSE.decode(maps)
    window = jnp.asarray(window[None], jnp.float32)
    place = crop_to_image(wanted.keypoints, window, POSE.grid)
    np.testing.assert_allclose(found.keypoints, place, atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-3)


def test_pictures_are_shrunk_by_means_of_blocks():
    """Every other pixel is white: bilinear samples at a distance would alias to stripes."""
    stripes = np.zeros((352, 416, 3), np.uint8)
    stripes[:, ::2] = 255
    alone = PosePipeline(None, POSE, variables(), SETTINGS)
    grey = np.full_like(stripes, 255 // 2)
    box = np.array([[40, 40, 340, 300]], np.float32)
    a, b = alone(stripes, boxes=box), alone(grey, boxes=box)
    np.testing.assert_allclose(a.keypoint_scores, b.keypoint_scores, rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (310, 3)])
def test_tiny_and_narrow_pictures(pipeline, shape):
    found = pipeline(picture(*shape))
    assert np.isfinite(found.keypoints).all()


def test_sharded_over_devices(pipeline):
    mesh = data_mesh()
    images = [picture(60, 79, seed) for seed in range(3)]
    spread = PosePipeline(DETECTOR, POSE, variables(), SETTINGS, mesh)
    for a, b in zip(spread(images), pipeline(images), strict=True):
        assert_same(a, b)


BLACK = np.zeros((8, 8, 3), np.uint8)


def cut_off():
    """A picture that PIL has opened but cannot decode."""
    stream = io.BytesIO()
    Image.fromarray(picture(40, 60)).save(stream, "JPEG")
    return Image.open(io.BytesIO(stream.getvalue()[:-200]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((8, 8), np.uint8),), "uint8 RGB"),
        (([np.zeros((8, 8, 4), np.uint8)],), "uint8 RGB"),
        (([np.zeros((8, 8, 3), np.float32)],), "float32"),
        ((np.zeros((8, 8, 3), np.uint8), np.zeros((2, 5))), r"\[M, 4\]"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, np.nan, 1]]), "finite"),
        (([np.zeros((8, 8, 3), np.uint8)], []), r"boxes must be a list of 1 arrays.*list: \[\]"),
        (([np.zeros((8, 8, 3), np.uint8)], 5), "boxes must be a list of 1 arrays.*int: 5"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, 1, 1], [2]]), r"boxes must be .*\[M, 4\].*list"),
        ((np.zeros((8, 8, 3), np.uint8), {"boxes": []}), "boxes must be .*dict"),
        ((np.zeros((8, 8, 3), np.uint8), [["a"] * 4]), "boxes must be .*'a'"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, 1e30, 1e30]]), "boxes must be"),
        ((np.zeros((8, 8, 3), np.uint8), [[5, 5, 1, 1]]), "inside out"),
        ((None,), "uint8 RGB.*NoneType: None"),
        (("a.jpg",), "uint8 RGB.*str: 'a.jpg'"),
        (([Path("a.jpg")],), "uint8 RGB.*a.jpg"),
        (({"image": 1},), "uint8 RGB.*dict"),
        ((Image.new("F", (8, 8)),), "PIL's mode F"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, 1e39, 1]]), "box 0 .* larger than"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, 1, 1], [5, 5, 1, 1]]), "box 1 .* exchanged"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, 1, 1], [5]]), "boxes must be finite numbers"),
        ((np.zeros((8, 8, 3), np.uint8), "0 0 1 1"), "boxes must be finite numbers"),
        ((BLACK, [[0, 0, 1, 1]] * 2, [1.0]), r"box_scores must be .*\[2\]"),
        ((np.zeros((8, 8, 3), np.uint8), [[0, 0, 1, 1]], [-1.0]), "box_scores .* 0 or more.*-1"),
        ((np.zeros((8, 8, 3), np.uint8), None, [1.0]), "no use without boxes"),
        ((cut_off(),), "JpegImageFile.* cannot be decoded: .*truncated"),
        ((BLACK, [[0.1, 0.2, 0.5, 0.9]]), r"box 0 is \[0.1, .* shares of the picture"),
        ((BLACK, [[1, 1, 5, 5], [20, 2, 30, 7]]), "box 1 is .*beside its picture of 8 x 8"),
        ((BLACK, [[1, 1, 1, 5]]), "box 0 is .*without inside"),
        ((BLACK, np.ones((1, 4), bool)), r"boxes must be .*bool \[1, 4\]"),
        ((BLACK, np.ones((1, 4)) * 1j), r"boxes must be .*complex128 \[1, 4\]"),
        (([BLACK, None],), "^image 1: a picture must be .*NoneType"),
        (([BLACK, cut_off()],), "^image 1: the picture, .*cannot be decoded"),
        (([BLACK] * 2, [[[0, 0, 8, 8]], [[0, 0, 9]]]), "^image 1: boxes must be"),
        (([BLACK] * 2, [[[0, 0, 8, 8]]] * 2, [[1], [-1]]), "^image 1: box_scores must be"),
    ],
)
def test_wrong_input_is_named(pipeline, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pose": 5}, "pose must be the path of a training, got int: 5"),
        ({"detector": b"x"}, "detector must be the path"),
        ({"settings": {"min_score": 0}}, "settings must be a g_rmi.pipeline.Settings, got dict"),
    ],
)
def test_what_cannot_be_loaded_is_named(options, message):
    load = inspect.unwrap(PosePipeline.load)  # without the tests' own check of types
    with pytest.raises(ValueError, match=message):
        load(PosePipeline, **options)


@pytest.mark.parametrize("decoding", ["foo", "hug"])
def test_a_decoding_that_the_head_does_not_have_is_named(decoding):
    with pytest.raises(ValueError, match=f"decoding = '{decoding}': .*hough"):
        PosePipeline(None, POSE, variables(), Settings(decoding=decoding))


def test_nobody_whose_box_is_given_vanishes_for_a_low_score():
    image, boxes = picture(60, 79), [[5, 5, 30, 55]]
    strict = PosePipeline(DETECTOR, POSE, variables(), Settings(min_score=1.0))
    assert len(strict(image, boxes).scores) == 0  # as was asked for
    loaded = dataclasses.replace(strict, boxes_min_score=0.0)  # as `load` has it
    assert len(loaded(image, boxes).scores) == 1
    assert len(loaded(image).scores) == 0


def test_a_detector_is_needed_without_boxes():
    alone = PosePipeline(None, POSE, variables(), SETTINGS)
    with pytest.raises(ValueError, match="without a detector"):
        alone(picture(8, 8))


def test_pictures_of_pil(pipeline):
    image = picture(40, 60)
    box = [[5, 5, 50, 35]]
    wanted = pipeline(image, boxes=box)
    pil = Image.fromarray(image)
    turned = Image.fromarray(np.rot90(image))
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    damaged = io.BytesIO()
    pil.save(damaged, "WEBP", lossless=True, exif=b"Exif\0\0damaged")
    clear = Image.fromarray(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
    for given in (pil, turned, clear, Image.open(damaged), np.asarray(jax.numpy.asarray(image))):
        assert_same(pipeline(given, boxes=box), wanted)
    assert_same(pipeline([pil], boxes=[box])[0], wanted)
    assert_same(next(iter(pipeline(iter([pil]), boxes=[box]))), wanted)
    hidden = Image.fromarray(np.dstack([image, np.zeros(image.shape[:2], np.uint8)]))
    assert_same(pipeline(hidden, boxes=box), pipeline(np.full_like(image, 255), boxes=box))
