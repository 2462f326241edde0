"""Disks and offsets, joints and limbs, pixel by pixel."""

import math

import numpy as np


def disk_targets(keypoints, visible, *, height, width, radius):
    joints = len(keypoints)
    heatmap = np.zeros((height, width, joints))
    offset = np.zeros((height, width, joints, 2))
    for k in range(joints):
        if not visible[k]:
            continue
        for i in range(height):
            for j in range(width):
                x, y = float(keypoints[k][0]), float(keypoints[k][1])
                offset[i, j, k] = x - j, y - i
                heatmap[i, j, k] = math.hypot(x - j, y - i) <= radius
    return heatmap, offset, heatmap > 0


def gaussian_targets(keypoints, visible, *, height, width, sigma):
    """A Gaussian around each visible joint, position by position."""
    heatmap = np.zeros((height, width, len(keypoints)))
    for row in range(height):
        for column in range(width):
            for k, (x, y) in enumerate(keypoints):
                if visible[k] and math.isfinite(x) and math.isfinite(y):
                    square = (column - float(x)) ** 2 + (row - float(y)) ** 2
                    heatmap[row, column, k] = math.exp(-square / (2 * sigma**2))
    return heatmap


def limb_targets(keypoints, visible, *, limbs, height, width, along, across):
    """A Gaussian for each limb with two visible ends, turned by the limb's angle."""
    maps = np.zeros((height, width, len(limbs)))
    for index, (first, second) in enumerate(limbs):
        (x0, y0), (x1, y1) = np.float64(keypoints[first]), np.float64(keypoints[second])
        if not (visible[first] and visible[second] and np.isfinite([x0, y0, x1, y1]).all()):
            continue
        length, angle = math.hypot(x1 - x0, y1 - y0), math.atan2(y1 - y0, x1 - x0)
        if length == 0:
            continue
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        for row in range(height):
            for column in range(width):
                u, v = turn @ [column - (x0 + x1) / 2, row - (y0 + y1) / 2]
                u, v = u / (along * length), v / (across * length)
                maps[row, column, index] = math.exp(-(u * u + v * v) / 2)
    return maps
