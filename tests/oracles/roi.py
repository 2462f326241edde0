"""RoIAlign, sample by sample."""

import numpy as np

from tests.oracles.image import bilinear


def roi_align(features, boxes, *, output_size, spatial_scale, sampling_ratio):
    features = np.asarray(features, np.float64)
    size = features.shape[:2]
    cells = np.zeros((len(boxes), *output_size, features.shape[2]))
    for n, box in enumerate(np.asarray(boxes, np.float64)):
        x0, y0, x1, y1 = box * spatial_scale - 0.5
        for i in range(output_size[0] * sampling_ratio):
            for j in range(output_size[1] * sampling_ratio):
                y = y0 + (i + 0.5) * (y1 - y0) / (output_size[0] * sampling_ratio)
                x = x0 + (j + 0.5) * (x1 - x0) / (output_size[1] * sampling_ratio)
                if -1 <= y <= size[0] and -1 <= x <= size[1]:
                    y, x = min(max(y, 0), size[0] - 1), min(max(x, 0), size[1] - 1)
                    value = bilinear(features, x, y) / sampling_ratio**2
                    cells[n, i // sampling_ratio, j // sampling_ratio] += value
    return cells


def position_sensitive_roi(maps, boxes, *, bins, spatial_scale, sampling_ratio):
    """Plain RoIAlign of the whole stack of maps, of which each cell takes its own group."""
    cells = roi_align(
        maps,
        boxes,
        output_size=(bins, bins),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
    )
    count = maps.shape[2] // bins**2
    own = np.zeros((len(boxes), bins, bins, count))
    for i in range(bins):
        for j in range(bins):
            first = (i * bins + j) * count
            own[:, i, j] = cells[:, i, j, first : first + count]
    return own
