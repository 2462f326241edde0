"""What is written in ONNX's operators gives what our kernels give; needs onnx and onnxruntime."""

import dataclasses
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.detector.detector import Candidates, select
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.faster_rcnn.network import crop_regions
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.geometry import fit_canvas
from g_rmi.inference import sampling as ours
from g_rmi.inference.canvas import Letterbox
from g_rmi.inference.onnx import boxes, decode, networks, people, sampling
from g_rmi.inference.onnx.graph import Graph
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.nn.efficientnet import EfficientNetLiteConfig
from g_rmi.ops.boxes import encode_boxes
from g_rmi.ops.image import grids, resize_align_corners
from g_rmi.ops.nms import greedy_nms
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.disks import Disks, values_at
from g_rmi.pose.task import PoseTask
from g_rmi.types import Grid
from tests.networks import DETECTOR, POSE, TELLING, draw, scene

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def run(build, *arrays):
    """What onnxruntime makes of a graph on some inputs; all its outputs, as float32."""
    graph = Graph()
    inputs = [
        graph.input(f"in{i}", x.dtype, [f"{i}_{axis}" for axis in range(x.ndim)])
        for i, x in enumerate(arrays)
    ]
    found = build(graph, *inputs)
    found = [found] if hasattr(found, "name") else found
    outputs = {f"out{i}": (value.as_float(), None) for i, value in enumerate(found)}
    data = graph.model(outputs, {}).SerializeToString()
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {f"in{i}": x for i, x in enumerate(arrays)})


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(
    "size", [(480, 640), (640, 480), (64, 64), (1, 1), (1, 700), (333, 500), (37, 91), (7, 4000)]
)
def test_pictures_fit_the_canvas_as_on_the_host(size, squash):
    def build(_, size):
        return sampling.fit(size, canvas=(65, 80), squash=squash)

    sides, fitted, scale = run(build, np.array(size, np.int64))
    wanted = fit_canvas(*size, canvas=(65, 80), squash=squash)
    assert tuple(sides) == wanted.canvas
    assert tuple(fitted) == wanted.size
    np.testing.assert_allclose(scale[::-1], 1 / np.diag(wanted.affine[:, :2]), rtol=1e-6)


@pytest.mark.parametrize("size", [(75, 61), (64, 96), (9, 8), (1, 1)])
def test_crops_come_from_the_right_mipmap(size):
    """Of every level, over the border, and beside the picture."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (*size, 3), np.uint8)
    low = random.uniform(-20, 60, (16, 2))
    side = np.repeat([6.0, 14.0, 40.0, 90.0], 4)[:, None] * random.uniform(0.8, 1.2, (16, 2))
    windows = np.concatenate([low, low + side], 1).astype(np.float32)
    rows, columns = map(np.asarray, grids(windows, height=9, width=7))
    areas = np.prod(side, axis=1, dtype=np.float32) / 48

    def build(graph, picture, rows, columns, areas):
        return sampling.sample(sampling.mipmaps(graph, picture), rows, columns, areas)

    (found,) = run(build, picture, rows, columns, areas)
    buffer = np.zeros((1, 112, 112, 3), np.uint8)
    buffer[0, : size[0], : size[1]] = picture
    sizes = jnp.array([size], jnp.int32)
    levels = ours.mipmaps(Letterbox(jnp.array(buffer), sizes, sizes, jnp.ones((1, 2))))
    take = jax.vmap(partial(ours.sample, levels, sizes, jnp.int32(0)))
    wanted = take(jnp.array(rows), jnp.array(columns), jnp.array(areas))
    assert {int(sum(a >= r * r for r in (2, 4, 8))) for a in areas} == {0, 1, 2, 3}
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), wanted, atol=0.02)


@pytest.mark.parametrize("roi", ["crop", "align"])
def test_regions_are_those_of_the_kernels(roi):
    random = np.random.default_rng(0)
    config = dataclasses.replace(DETECTOR.model, roi=roi)
    features = random.normal(size=(5, 6, 3)).astype(np.float32)
    corners = random.uniform(-20, 110, (12, 2, 2))
    some = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)

    def build(_, features, some):
        return boxes._regions(features, some, config)

    (found,) = run(build, features.transpose(2, 0, 1)[None], some)
    wanted = crop_regions(jnp.array(features), jnp.array(some), config=config)
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), wanted, atol=1e-4)


@pytest.mark.parametrize("iou", [0.3, 0.7])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_boxes_are_selected_as_by_the_kernels(iou, count):
    """Equal scores, boxes over the border and beside the picture, boxes that are to be left out."""
    random = np.random.default_rng(1)
    corners = random.uniform(-10, 60, (64, 2, 2))
    regions = np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float32)
    moved = regions + random.normal(size=(64, 4), scale=2).astype(np.float32)
    deltas = np.asarray(encode_boxes(moved, regions))
    scores = random.integers(0, 20, 64).astype(np.float32)
    usable = random.uniform(size=64) < 0.8

    def build(_, deltas, regions, scores):
        given = boxes.Boxes(boxes.decode_boxes(deltas, regions), scores)
        size = deltas.graph.constant([40, 50])
        return boxes.select(given, size, count=count, iou=iou)

    found, found_scores = run(build, deltas, regions, np.where(usable, scores, -np.inf))
    seen = Candidates(*map(jnp.array, (scores, deltas, regions, usable)))
    wanted = select(seen, jnp.array([40, 50]), count=count, iou=iou)
    np.testing.assert_array_equal(found_scores, wanted.scores[wanted.valid])
    np.testing.assert_allclose(found, wanted.boxes[wanted.valid], atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_the_best_stay(count):
    """Chains: whoever is dropped drops nobody."""
    random = np.random.default_rng(count)
    similarity = random.uniform(size=(count, count)).astype(np.float32)
    similarity = np.maximum(similarity, similarity.T) ** 3
    valid = random.uniform(size=count) < 0.9

    def build(_, similarity, valid):
        return people._greedy(similarity, valid, 0.5)

    (found,) = run(build, similarity, valid)
    scores = -np.arange(count, dtype=np.float32)
    wanted = greedy_nms(similarity, scores, valid, threshold=0.5)
    np.testing.assert_array_equal(found.astype(bool), wanted)


@pytest.mark.parametrize("decoding", ["hough", "hough_oks"])
@pytest.mark.parametrize("grid", [Grid(33, 41), Grid(161, 129)])
def test_joints_are_those_of_the_head(decoding, grid):
    """Disks of noisy logits whose offsets agree by and large; two joints near the border."""
    random, shape = np.random.default_rng(0), grid.every(8)
    task = PoseTask(PoseConfig(head=Disks(radius=10.0, decoding=decoding)))
    reading = task.reading(decoding)._replace(grid=grid)
    joints = random.uniform(0, 1, (17, 2)) * [grid.width - 1, grid.height - 1]
    joints[:2] = [0.3, 0.2], [grid.width - 1, grid.height - 1]
    here = np.stack(np.meshgrid(np.arange(shape.width), np.arange(shape.height)), -1) * 8
    offset = joints - here[:, :, None]
    logits = 3 - np.linalg.norm(offset, axis=-1) / 6 + random.normal(size=offset.shape[:3])
    offset = (offset + random.normal(size=offset.shape)).astype(np.float32)
    logits = logits.astype(np.float32)

    def build(_, logits, offset):
        return decode.find(logits, offset, shape, task.config.head, reading)

    flat = offset.transpose(2, 3, 0, 1).reshape(34, *shape)
    points, scores, agreement = run(build, logits.transpose(2, 0, 1), flat)
    maps = {"heatmap": jnp.array(logits), "offset": jnp.array(offset)}
    wanted = task.config.head.decode(maps, reading)
    np.testing.assert_allclose(points, wanted.keypoints, atol=0.02)
    np.testing.assert_allclose(scores, wanted.keypoint_scores, atol=1e-4)
    np.testing.assert_allclose(agreement.mean(), wanted.scores, atol=1e-4)
    assert np.abs(points - joints).max() < 4  # so that there is something to find
    outside = np.concatenate([joints[:14], [[-5, 3], [7, 300], [500, -2]]]).astype(np.float32)

    def read(_, maps, points):
        return decode.values_at(maps, points, shape, reading)

    (values,) = run(read, logits.transpose(2, 0, 1), outside)
    np.testing.assert_allclose(
        values, values_at(jnp.array(logits), jnp.array(outside), grid), atol=1e-4
    )


@pytest.mark.parametrize("size", [(64, 80), (41, 80), (64, 33)])
def test_the_detector_sees_nothing_beside_the_picture(size):
    task = FasterRCNN(DETECTOR.model)
    variables = draw(task)
    image = scene(64, 80).astype(np.float32)[None]
    image[:, size[0] :] = image[:, :, size[1] :] = 255.0

    def build(graph, image):
        sides = graph.constant([64, 80])
        canvas = sampling.Canvas(sides, graph.constant(list(size)), graph.constant([1.0, 1.0]))
        layers = people._layers(variables)["trunk"]
        masked = partial(boxes.masked, canvas)
        return networks.resnet(
            networks.normalise(image, task.config), layers, task.config, blocks=3, mask=masked
        )[-1]

    (found,) = run(build, image.transpose(0, 3, 1, 2))
    wanted, _ = task.network.apply(variables, jnp.array(image), jnp.array([size]), method="propose")
    np.testing.assert_allclose(
        found.transpose(0, 2, 3, 1), wanted, atol=1e-4 * np.abs(wanted).max()
    )


def test_maps_are_resized_as_by_the_kernel():
    x = np.random.default_rng(0).normal(size=(1, 2, 6, 5)).astype(np.float32)
    (found,) = run(lambda _, x: networks.resize(x, [41, 33]), x)
    wanted = resize_align_corners(x[0].transpose(1, 2, 0), height=41, width=33)
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), wanted, atol=1e-5)


@pytest.fixture(scope="module")
def pipeline():
    """Untrained networks, so that every box will do."""
    detector, pose = FasterRCNN(DETECTOR.model), PoseTask(TELLING.model)
    settings = Settings(min_box_score=0.0, min_score=0.0, max_people=3, crops_at_once=3)
    variables = {"detector": draw(detector), "pose": draw(pose)}
    return PosePipeline(detector, pose, variables, settings)


@pytest.fixture(scope="module")
def session(pipeline):
    return session_of(pipeline)


def session_of(pipeline):
    data = people.people_model(pipeline).SerializeToString()
    return runtime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [(60, 79), (90, 61), (1, 1), (2, 40), (700, 3)])
def test_any_picture_has_as_many_rows(session, size):
    """Untrained networks are no measure of more: where nothing stands out, rounding decides."""
    image = scene(max(size[0], 2), max(size[1], 2))[: size[0], : size[1]]
    *columns, valid = session.run(None, {"picture": np.ascontiguousarray(image)})
    keypoints, joint_scores, scores, found, visibility = columns
    assert visibility.shape == (3, 17)
    assert keypoints.shape == (3, 17, 2)
    assert joint_scores.shape == (3, 17)
    assert scores.shape == (3,)
    assert found.shape == (3, 4)
    assert valid.any()
    assert (valid[1:] <= valid[:-1]).all()
    assert (np.diff(scores[valid]) <= 0).all()
    assert (found[valid] >= -5).all()  # half a pixel of the canvas
    assert (found[valid] <= 5 + np.array([*size[::-1]] * 2)).all()
    for column in columns:
        assert np.isfinite(column).all()
        assert not column[~valid].any()


def test_nobody_is_nobody(pipeline):
    settings = dataclasses.replace(pipeline.settings, min_box_score=1.0)
    *columns, valid = session_of(dataclasses.replace(pipeline, settings=settings)).run(
        None, {"picture": scene()}
    )
    assert not valid.any()
    assert not any(column.any() for column in columns)


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["hough_oks", "hough"])
def test_the_packaged_networks_find_the_same_people(decoding):
    """Lying, standing, small, and hardly there; by all suppressions."""
    city = cv2.imread("experiments/pictures/city.jpg")[..., ::-1]
    pictures = [city, city[:, 120:520], cv2.resize(city, (200, 141)), city[100:101, :40]]
    settings = Settings(decoding=decoding, ranking="product", box_nms=0.6, oks_nms=0.4)
    settings = dataclasses.replace(settings, min_score=0.0)
    ours = PosePipeline.load(settings=settings)
    session, found = session_of(ours), 0
    for picture in map(np.ascontiguousarray, pictures):
        *columns, valid = session.run(None, {"picture": picture})
        expected = ours(picture)
        found += len(expected.scores)
        assert valid.sum() == len(expected.scores)
        names = "keypoints", "keypoint_scores", "scores", "boxes"
        # Two whose scores differ by rounding may stand in either order.
        boxes = columns[3][valid]
        rows = [np.abs(boxes - person.box).max(axis=1).argmin() for person in expected]
        assert sorted(rows) == list(range(len(expected)))
        for column, name, atol in zip(columns, names, (0.1, 2e-3, 2e-3, 0.02)):
            np.testing.assert_allclose(column[valid][rows], getattr(expected, name), atol=atol)
    assert found >= 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": Settings(flip_test=True)}, "flip_test = True"),
        ({"settings": Settings(decoding="argmax")}, "decoding = 'argmax'"),
        ({"detector": None}, "a detector of kind None"),
        ({"pose": PoseTask(dataclasses.replace(POSE.model, norm="group"))}, 'norm = "group"'),
        ({"detector": FasterRCNN(FasterRCNNConfig(norm="group"))}, 'norm = "group"'),
        ({"pose": PoseTask(PoseConfig(backbone=EfficientNetLiteConfig()))}, "efficientnet_lite"),
    ],
)
def test_what_cannot_be_written_is_named(pipeline, changes, message):
    with pytest.raises(ValueError, match=message):
        people.people_model(dataclasses.replace(pipeline, **changes))


def test_a_file_that_finds_others_is_refused():
    ours = np.random.default_rng(0).uniform(0, 100, (3, 17, 2))
    assert "the same 3 people" in people.agreement(ours + 0.1, ours)
    assert "the same 0 people" in people.agreement(ours[:0], ours[:0])
    with pytest.raises(ValueError, match="finds 2 people where jax finds 3: nothing"):
        people.agreement(ours[:2], ours)
    for off in (1.0, np.nan):
        others = ours.copy()
        others[0, 0] += off
        people.agreement(others, ours)  # one joint of 51
        others[1, 3] += off
        with pytest.raises(ValueError, match="2 of 51 joints elsewhere than jax: nothing"):
            people.agreement(others, ours)
