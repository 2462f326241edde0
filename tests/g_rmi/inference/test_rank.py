"""Who stays, by OKS, IoU, both or neither, figured out by hand; and who says how to decode."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.inference.people import predict_crops
from g_rmi.inference.rank import rank, rank_images, rank_options
from g_rmi.inference.settings import Settings
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.finders import OksKernel, kernel_sigmas
from g_rmi.pose.task import PoseTask
from g_rmi.types import Grid, People
from tests.networks import POSE

# One joint with sigma .1: OKS = exp(-d^2 / (8 * area * sigma^2)), area the mean of both boxes'.
SIGMAS = (0.1,)
# IoU of a-b .6, a-c .5, b-c 50/60; d lies apart from all boxes.
BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 5], [20, 0, 30, 10]], np.float32)
# OKS of a-d: distance 2, area 100: exp(-4 / 8) = .607; all others are 1,000 pixels apart.
POINTS = np.array([[5, 5], [1005, 5], [2005, 5], [7, 5]], np.float32)[:, None]
SCORES = np.array([0.9, 0.8, 0.7, 0.6], np.float32)


def names(keep):
    return "".join(name for name, kept in zip("abcd", keep) if kept)


CASES = [
    ({}, "abc"),
    ({"oks_nms": 0.7}, "abcd"),
    ({"oks_nms": 1.0}, "abcd"),
    ({"oks_nms": 1.0, "box_nms": 0.5}, "acd"),  # c is like b, which is gone
    ({"oks_nms": 1.0, "box_nms": 0.4}, "ad"),
    ({"oks_nms": 1.0, "box_nms": 0.7}, "abd"),  # only c is like b
    ({"oks_nms": 0.5, "box_nms": 0.5}, "ac"),
    ({"oks_nms": 0.0}, "abc"),  # OKS of far ones underflows to 0
    ({"min_score": 0.75}, "ab"),
    ({"ranking": "product", "min_score": 0.65, "oks_nms": 1.0}, "abc"),
]


@pytest.mark.parametrize(("options", "stay"), CASES)
def test_who_stays(options, stay):
    people = People(POINTS, np.ones((4, 1), np.float32), SCORES, BOXES)
    settings = Settings(**{"min_score": 0.0, **options})
    scores, keep = rank_images(
        people, np.zeros(4, np.int64), np.ones(4), sigmas=SIGMAS, settings=settings
    )
    np.testing.assert_array_equal(scores, SCORES)
    assert names(keep) == stay
    # The one program does the same.
    scores, keep = rank(
        *map(jnp.asarray, (POINTS, SCORES, BOXES, np.ones(4, np.float32), np.ones(4, bool))),
        sigmas=SIGMAS,
        **rank_options(settings),
    )
    np.testing.assert_array_equal(scores, SCORES)
    assert names(keep) == stay


def test_the_score_decides_and_pictures_are_apart():
    """By box score b leads: it drops a and c in the first picture; in the second a is alone."""
    people = People(
        np.concatenate([POINTS, POINTS[:1]]),
        np.ones((5, 1), np.float32),
        np.array([*SCORES, 0.1], np.float32),
        np.concatenate([BOXES, BOXES[:1]]),
    )
    image_ids = np.array([7, 7, 7, 7, 3])
    box_scores = np.array([0.2, 0.9, 0.3, 0.4, 0.1], np.float32)
    settings = Settings(ranking="box", oks_nms=1.0, box_nms=0.5, min_score=0.0)
    scores, keep = rank_images(people, image_ids, box_scores, sigmas=SIGMAS, settings=settings)
    np.testing.assert_array_equal(scores, box_scores)
    assert keep.tolist() == [False, True, False, True, True]


def test_the_weights_say_how_to_decode_unless_somebody_else_does():
    config = dataclasses.replace(POSE.model, box_scale=1.1)
    task, ours = (
        PoseTask(dataclasses.replace(config, head=Disks(radius=4.0, decoding=decoding)))
        for decoding in ("hough", "hough_oks")
    )
    variables = jax.jit(task.init)(jax.random.key(0))
    crops = np.random.default_rng(0).integers(0, 256, (2, 33, 33, 3), np.uint8)
    whole = jnp.array([[0, 0, 32, 32]] * 2, jnp.float32)
    run = jax.jit(predict_crops, static_argnames=("pose", "look"))

    def predict(task, decoding=None):
        return run(task, variables, crops, whole, look=Settings(decoding=decoding).look)

    maps = jax.jit(task.predict)(variables, crops)
    sigmas = kernel_sigmas(task.skeleton.sigmas, Grid(33, 33), box_scale=1.1)
    find = OksKernel(4.0, tuple(sigmas.tolist())).find
    wanted = jax.vmap(partial(find, grid=Grid(33, 33)))(maps["heatmap"], maps["offset"])
    for got in (predict(ours), predict(task, "hough_oks")):
        np.testing.assert_allclose(got.keypoints, wanted.points, atol=1e-3)
        np.testing.assert_allclose(got.keypoint_scores, wanted.scores, rtol=1e-4)
    paper = predict(task)
    np.testing.assert_allclose(paper.keypoints, predict(ours, "hough").keypoints, atol=1e-5)
    assert np.abs(paper.keypoint_scores - wanted.scores).min() > 1e-3
