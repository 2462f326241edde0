"""Bilinear sampling on the align-corners grid, pixel by pixel."""

import math

import numpy as np


def bilinear(image, x, y):
    """The image at one point; zero outside."""
    height, width, channels = image.shape
    value = np.zeros(channels)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                value += (1 - abs(x - column)) * (1 - abs(y - row)) * image[row, column]
    return value


def between(start, stop, count):
    """`count` positions from start to stop; a single one lies in the middle."""
    if count == 1:
        return [(start + stop) / 2]
    return [start + i * (stop - start) / (count - 1) for i in range(count)]


def crop_boxes(image, boxes, *, height, width):
    image = np.asarray(image, np.float64)
    crops = np.zeros((len(boxes), height, width, image.shape[2]))
    for n, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64)):
        for i, y in enumerate(between(y0, y1, height)):
            for j, x in enumerate(between(x0, x1, width)):
                crops[n, i, j] = bilinear(image, x, y)
    return crops


def resize_align_corners(x, *, height, width):
    box = [0, 0, x.shape[1] - 1, x.shape[0] - 1]
    return crop_boxes(x, [box], height=height, width=width)[0]
