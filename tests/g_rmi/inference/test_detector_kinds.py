"""Every detector through the whole: from its training's directory to people, and as a program."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.geometry import fit_canvas
from g_rmi.inference.canvas import canvas_to_image
from g_rmi.inference.export import PLATFORMS, export_program
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.pose.task import PoseTask
from tests.networks import DETECTORS, POSE, save, scene


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ssd", {"squash": True, "canvas": (64, 64)}),
        pytest.param("ssd", {}, marks=pytest.mark.slow),
        pytest.param("rfcn", {}, marks=pytest.mark.slow),
    ],
)
def test_the_whole_with_another_detector(kind, changes, tmp_path):
    size = 64, 80
    model = dataclasses.replace(DETECTORS[kind].model, **changes)
    experiment = dataclasses.replace(DETECTORS[kind], model=model)
    detector = save(tmp_path / "detector", experiment, experiment.model.task())
    pose = save(tmp_path / "pose", POSE, PoseTask(POSE.model))
    asked = {"min_box_score": 0.0, "min_score": 0.0, "max_people": 3}
    settings = Settings(**asked, crops_at_once=3, oks_nms=1.0)
    pipeline = PosePipeline.load(detector, pose, settings=settings)
    picture = scene(*size)
    if model.squash:  # the same in every column: squashed, some of them are left
        picture = np.repeat(picture[:, :1], size[1], axis=1)
    people = pipeline(picture)
    assert type(pipeline.detector) is type(experiment.model.task())
    # A picture that fills its canvas: the detector alone finds the same boxes.
    fit = fit_canvas(*size, canvas=model.canvas, squash=model.squash)
    assert fit.size == model.canvas
    shown = picture[None, :, : fit.size[1]]
    found = jax.jit(pipeline.detector.predict)(
        pipeline.variables["detector"], shown, jnp.array([fit.size], jnp.int32)
    )
    count = min(3, int(found.valid.sum()))
    assert people.keypoints.shape == (count, 17, 2)
    assert count > 0
    stretch = [(size[1] - 1) / (fit.size[1] - 1), (size[0] - 1) / (fit.size[0] - 1)]
    boxes = canvas_to_image(found.boxes, jnp.array([stretch], jnp.float32))[0, :count]
    apart = np.abs(np.asarray(boxes)[:, None] - people.boxes[None]).max(-1)  # ranked otherwise
    assert (apart.min(0) < 0.05).all()
    assert (apart.min(1) < 0.05).all()

    program, weights = export_program(pipeline, height=64, width=80)
    assert program.platforms == PLATFORMS
    buffer = np.zeros(program.in_avals[0].shape, np.uint8)
    buffer[0, : size[0], : size[1]] = picture
    table = jax.jit(program.call)(buffer, np.array([size], np.int32), weights)
    np.testing.assert_allclose(table["boxes"][0, :count], people.boxes, atol=0.05)
    np.testing.assert_allclose(table["keypoints"][0, :count], people.keypoints, atol=0.05)
