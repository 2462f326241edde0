"""Overlaps, pair by pair, and box codes, box by box."""

import math

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


def intersection_over_area(boxes, regions):
    result = np.zeros((len(boxes), len(regions)))
    for n, (ax0, ay0, ax1, ay1) in enumerate(np.asarray(boxes, np.float64)):
        for m, (bx0, by0, bx1, by1) in enumerate(np.asarray(regions, np.float64)):
            width = min(ax1, bx1) - max(ax0, bx0)
            height = min(ay1, by1) - max(ay0, by0)
            if width > 0 and height > 0:
                result[n, m] = width * height / ((ax1 - ax0) * (ay1 - ay0))
    return result


def encode_boxes(boxes, anchors, *, scales=(10, 10, 5, 5)):
    codes = np.zeros((len(boxes), 4))
    pairs = zip(np.asarray(boxes, np.float64), np.asarray(anchors, np.float64))
    for n, ((x0, y0, x1, y1), (ax0, ay0, ax1, ay1)) in enumerate(pairs):
        width, height = ax1 - ax0, ay1 - ay0
        codes[n, 0] = scales[0] * ((x0 + x1) - (ax0 + ax1)) / 2 / width
        codes[n, 1] = scales[1] * ((y0 + y1) - (ay0 + ay1)) / 2 / height
        codes[n, 2] = scales[2] * math.log((x1 - x0) / width)
        codes[n, 3] = scales[3] * math.log((y1 - y0) / height)
    return codes


def decode_boxes(codes, anchors, *, scales=(10, 10, 5, 5)):
    boxes = np.zeros((len(codes), 4))
    pairs = zip(np.asarray(codes, np.float64), np.asarray(anchors, np.float64))
    for n, (code, (x0, y0, x1, y1)) in enumerate(pairs):
        tx, ty, tw, th = (t / scale for t, scale in zip(code, scales))
        x, y = (x0 + x1) / 2 + tx * (x1 - x0), (y0 + y1) / 2 + ty * (y1 - y0)
        width = min(math.exp(tw), 62.5) * (x1 - x0)
        height = min(math.exp(th), 62.5) * (y1 - y0)
        boxes[n] = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return boxes
