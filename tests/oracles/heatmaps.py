"""Disks and offsets, pixel by pixel."""

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
