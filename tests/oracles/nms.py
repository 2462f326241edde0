"""Greedy suppression, one candidate after the other."""

import math

import numpy as np


def greedy_nms(similarity, scores, valid, *, threshold):
    left = [i for i in range(len(scores)) if valid[i] and not math.isnan(scores[i])]
    keep = np.zeros(len(scores), bool)
    while left:
        best = left[0]
        for i in left:
            if scores[i] > scores[best]:
                best = i
        keep[best] = True
        left = [i for i in left if i != best and not similarity[best][i] > threshold]
    return keep
