"""Object keypoint similarity, joint by joint, as pycocotools writes it."""

import math

import numpy as np


def oks(gt, visible, area, keypoints, *, sigmas):
    result = []
    for pose in np.asarray(keypoints, np.float64):
        terms = []
        for k, sigma in enumerate(sigmas):
            if visible[k]:
                dx, dy = pose[k] - np.asarray(gt[k], np.float64)
                e = (dx**2 + dy**2) / (2 * sigma) ** 2 / (area + np.spacing(1)) / 2
                terms.append(math.exp(-e))
        result.append(sum(terms) / len(terms) if terms else 0.0)
    return np.array(result)


def pairwise_oks(keypoints, areas, *, sigmas):
    n = len(keypoints)
    everything = [True] * len(sigmas)
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            area = (areas[i] + areas[j]) / 2
            result[i, j] = oks(keypoints[i], everything, area, keypoints[j][None], sigmas=sigmas)[0]
    return result
