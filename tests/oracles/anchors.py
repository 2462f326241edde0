"""Anchors, cell by cell."""

import math


def anchor_boxes(*, height, width, stride, base, scales, ratios):
    anchors = []
    for i in range(height):
        for j in range(width):
            for ratio in ratios:
                for scale in scales:
                    h, w = scale * base * math.sqrt(ratio), scale * base / math.sqrt(ratio)
                    x, y = stride * j, stride * i
                    anchors.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return anchors
