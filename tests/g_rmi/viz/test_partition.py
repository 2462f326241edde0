"""Candidates, costs and people as a picture."""

import cv2
import numpy as np
import pytest

from g_rmi.skeleton import Skeleton
from g_rmi.viz.partition import explain_partition

LEG = Skeleton.create(("knee", "ankle"), limbs=[("knee", "ankle")], sigmas=[0.1, 0.1])
PICTURE = np.zeros((120, 160, 3), np.uint8)
POINTS = np.array([[20, 20], [20, 80], [100, 20], [100, 80], [140, 100]], np.float32)


def panels(labels, pairwise, people):
    found = POINTS[:4].reshape(2, 2, 2)[:people]
    drawn = explain_partition(
        PICTURE,
        POINTS,
        np.full(5, 0.9, np.float32),
        np.asarray(pairwise, np.float32),
        np.asarray(labels),
        found,
        np.ones((people, 2), np.float32),
        skeleton=LEG,
        height=240,
    )
    gap = (drawn.shape[1] - 3 * 320) // 4
    return [drawn[gap : gap + 240, i * 320 + (i + 1) * gap :][:, :320] for i in range(3)]


def at(panel, point):
    x, y = np.round(2 * (np.asarray(point) + 0.5) - 0.5).astype(int)
    return panel[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))


@pytest.mark.parametrize(("cost", "channel"), [(-9.0, 2), (9.0, 0)])
def test_costs_are_blue_where_joining_pays_and_red_where_not(cost, channel):
    pairwise = np.zeros((5, 5))
    pairwise[0, 1] = pairwise[1, 0] = cost
    _, costs, _ = panels([0, 0, -1, -1, -1], pairwise, 1)
    middle = at(costs, [20, 50])
    assert middle.argmax() == channel
    assert middle.max() > 60
    assert at(costs, [60, 50]).max() == 0  # nothing between people, and no line without a cost


def test_candidates_people_and_who_is_left_out():
    dots, _, people = panels([0, 0, 1, 1, -1], np.zeros((5, 5)), 2)

    def ring(panel, point):
        x, y = (2 * (np.asarray(point) + 0.5)).astype(int)
        return panel[y - 6 : y + 7, x - 6 : x + 7].reshape(-1, 3).max(axis=0)

    assert ring(dots, POINTS[0]).min() > 200  # white
    assert 80 < ring(dots, POINTS[4]).max() < 170  # grey
    assert 80 < ring(people, POINTS[4]).max() < 170
    for middle in ([20, 50], [100, 50]):
        assert at(people, middle).max() > 100  # limbs


def test_nobody():
    none = np.zeros((0, 2), np.float32)
    drawn = explain_partition(
        PICTURE,
        none,
        np.zeros(0, np.float32),
        np.zeros((0, 0), np.float32),
        np.zeros(0, np.int32),
        np.zeros((0, 2, 2), np.float32),
        np.zeros((0, 2), np.float32),
        skeleton=LEG,
    )
    assert drawn.shape[0] >= 480
    assert cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)[10:470, 10:470].max() == 0
