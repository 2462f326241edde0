"""The bottom-up network through the whole: from its training's directory to people."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.config import to_dict
from g_rmi.inference.canvas import pack
from g_rmi.inference.export import PLATFORMS, export_program
from g_rmi.inference.load import PAIRS, load_task
from g_rmi.inference.people import people_on_images
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.ops.pair_costs import FEATURES, PairModel
from g_rmi.parts.task import PartsTask, as_variables
from g_rmi.training.weights import write_weights
from g_rmi.types import Poses
from tests.networks import PARTS, save, save_both, scene

EVERYBODY = Settings(min_score=0.0, oks_nms=1.0)
SIZE = 65, 81


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A random network with random regressions."""
    workdir = save(tmp_path_factory.mktemp("runs") / "parts", PARTS, PartsTask(PARTS.model))
    random = np.random.default_rng(0)
    known = ~np.eye(17, dtype=bool)
    bias = random.normal(size=(17, 17))
    model = PairModel(0.2 * random.normal(size=(17, 17, FEATURES)), bias + bias.T, known)
    write_weights(workdir / PAIRS, to_dict(PARTS), {"pairs": as_variables(model)})
    return workdir


@pytest.fixture(scope="module")
def pipeline(workdir):
    return PosePipeline.load(pose=workdir, settings=EVERYBODY)


def test_the_whole_finds_people_and_is_exported(pipeline):
    assert pipeline.detector is None
    assert pipeline.variables["pose"]["pairs"]["known"].sum() == 17 * 16
    picture = scene(*SIZE)
    people = pipeline(picture)
    count = len(people.scores)
    assert count > 1
    assert (np.diff(people.scores) <= 0).all()
    seen = people.keypoint_scores > 0
    for keypoints, box, there in zip(people.keypoints, people.boxes, seen):
        np.testing.assert_allclose(box[:2], keypoints[there].min(0), atol=0.01)
        np.testing.assert_allclose(box[2:], keypoints[there].max(0), atol=0.01)

    program, weights = export_program(pipeline, height=SIZE[0], width=SIZE[1])
    assert program.platforms == PLATFORMS
    buffer = np.zeros(program.in_avals[0].shape, np.uint8)
    buffer[0, : SIZE[0], : SIZE[1]] = picture
    table = jax.jit(program.call)(buffer, np.array([SIZE], np.int32), weights)
    assert table["valid"].sum() == count
    np.testing.assert_allclose(table["keypoints"][0, :count], people.keypoints, atol=0.05)


def test_people_lie_on_their_pictures():
    """The corners of the canvas are those of the picture, for joints and for their hulls."""
    size = 129, 201
    pictures = pack([np.zeros((*size, 3), np.uint8)], canvas=(65, 81), count=1)
    rows, columns = np.asarray(pictures.canvas_size[0])
    corners = np.array([[[[0, 0], [columns - 1, rows - 1]]]], np.float32)
    poses = Poses(jnp.array(corners), jnp.ones((1, 1, 2)), jnp.ones((1, 1)))
    boxes = jnp.array(corners.reshape(1, 1, 4))
    people = people_on_images(poses, boxes, jnp.ones((1, 1), bool), jnp.array(pictures.scale))
    wanted = [[0, 0], [size[1] - 1, size[0] - 1]]
    np.testing.assert_allclose(people.keypoints[0, 0], wanted, atol=1e-3)
    np.testing.assert_allclose(people.boxes[0, 0], np.ravel(wanted), atol=1e-3)


def test_what_is_of_no_use_is_refused(workdir, pipeline, tmp_path):
    detector, pose = save_both(tmp_path)
    picture, box = scene(*SIZE), [[0, 0, 20, 40]]
    exact = dataclasses.replace(EVERYBODY, decoding="exact")
    on_host = dataclasses.replace(pipeline, settings=exact)
    flipped = dataclasses.replace(EVERYBODY, flip_test=True)
    by_box = dataclasses.replace(EVERYBODY, ranking="box")
    bottom_up = "not with a network that finds people bottom-up"
    for refused, message in (
        (lambda: PosePipeline.load(detector, workdir), "detector .* finds people bottom-up"),
        (lambda: PosePipeline.load(pose=workdir, boxes_given=True), "boxes: of no use to"),
        (lambda: PosePipeline.load(workdir, pose), "is a bottom-up network; a detector is needed"),
        (lambda: load_task(workdir, stage="pose"), "bottom-up network; a pose network is needed"),
        (lambda: PosePipeline.load(pose=workdir, settings=flipped), f"flip_test = .*{bottom_up}"),
        (lambda: PosePipeline.load(pose=workdir, settings=by_box), f"ranking = 'box': {bottom_up}"),
        (lambda: pipeline(picture, boxes=box), "boxes: of no use"),
        (lambda: export_program(on_host, height=9, width=9), "decoding 'exact' runs on the host"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
