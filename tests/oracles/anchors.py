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


def default_boxes(size, *, height, width, stride, sides):
    """Boxes, and whether they are of a cell on the picture."""
    rows, columns = (math.ceil(side / stride) for side in size)
    anchors, inside = [], []
    for i in range(height):
        for j in range(width):
            for h, w in sides:
                y, x = (i + 0.5) * size[0] / rows, (j + 0.5) * size[1] / columns
                anchors.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                inside.append(i < rows and j < columns)
    return anchors, inside


def multiple_grids(short):
    """Height and width of each cell's anchors, map by map, as Huang et al. write them down."""
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    maps = []
    for k in range(6):
        s = scales[k]
        if k == 0:
            shapes = [(0.1, 0.1), (0.2 / math.sqrt(2), 0.2 * math.sqrt(2))]
            shapes.append((0.2 * math.sqrt(2), 0.2 / math.sqrt(2)))
        else:
            shapes = []
            for ratio in (1.0, 2.0, 3.0, 1 / 2, 1 / 3):  # width / height
                shapes.append((s / math.sqrt(ratio), s * math.sqrt(ratio)))
            shapes.append((math.sqrt(s * scales[k + 1]),) * 2)
        maps.append([(short * h, short * w) for h, w in shapes])
    return maps
