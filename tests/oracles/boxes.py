"""Intersection over union, pair by pair."""

import numpy as np


def iou(a, b):
    result = np.zeros((len(a), len(b)))
    for n, (ax0, ay0, ax1, ay1) in enumerate(np.asarray(a, np.float64)):
        for m, (bx0, by0, bx1, by1) in enumerate(np.asarray(b, np.float64)):
            width = min(ax1, bx1) - max(ax0, bx0)
            height = min(ay1, by1) - max(ay0, by0)
            if width > 0 and height > 0:
                shared = width * height
                total = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0)
                result[n, m] = shared / (total - shared)
    return result
