"""DeeperCut's targets and pair statistics, by loops."""

import math

import numpy as np


def part_targets(keypoints, visible, *, height, width, radius):
    people, joints = keypoints.shape[:2]
    score = np.zeros((height, width, joints))
    offset = np.zeros((height, width, joints, 2))
    pairwise = np.zeros((height, width, joints, joints, 2))
    known = np.zeros((height, width, joints, joints), bool)

    def there(p, k):
        return visible[p][k] and all(math.isfinite(v) for v in keypoints[p][k])

    for i in range(height):
        for j in range(width):
            for a in range(joints):
                nearest, least = None, math.inf
                for p in range(people):
                    if there(p, a):
                        x, y = map(float, keypoints[p][a])
                        if math.hypot(x - j, y - i) < least:
                            nearest, least = p, math.hypot(x - j, y - i)
                if nearest is None:
                    continue
                score[i, j, a] = least <= radius
                offset[i, j, a] = np.subtract(keypoints[nearest][a], [j, i])
                for b in range(joints):
                    if there(nearest, b):
                        pairwise[i, j, a, b] = np.subtract(keypoints[nearest][b], [j, i])
                        known[i, j, a, b] = a != b and least <= radius
    return score, offset, pairwise, score > 0, known


def pair_statistics(keypoints, visible):
    joints = keypoints.shape[1]
    mean, std = np.zeros((joints, joints, 2)), np.ones((joints, joints, 2))
    for a in range(joints):
        for b in range(joints):
            away = [
                np.subtract(points[b], points[a], dtype=np.float64)
                for points, there in zip(keypoints, visible)
                if there[a] and there[b]
            ]
            if away:
                mean[a, b] = np.mean(away, axis=0)
                std[a, b] = np.maximum(np.std(away, axis=0), 1)
    return mean, std
