"""Hough voting, vote by vote."""

import math

import numpy as np


def hough_vote(heatmap, offset, *, radius):
    heatmap = np.asarray(heatmap, np.float64)
    offset = np.asarray(offset, np.float64)
    height, width, joints = heatmap.shape
    votes = np.zeros((height, width, joints))
    for i in range(height):
        for j in range(width):
            for k in range(joints):
                x, y = j + offset[i, j, k, 0], i + offset[i, j, k, 1]
                if not (math.isfinite(x) and math.isfinite(y)):
                    continue
                for row in (math.floor(y), math.floor(y) + 1):
                    for column in (math.floor(x), math.floor(x) + 1):
                        if 0 <= row < height and 0 <= column < width:
                            share = (1 - abs(x - column)) * (1 - abs(y - row))
                            votes[row, column, k] += share * heatmap[i, j, k]
    return votes / (math.pi * radius**2)
