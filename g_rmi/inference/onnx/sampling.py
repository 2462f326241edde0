"""Pictures onto the canvas, and crops out of them: `g_rmi.inference.sampling` in ONNX."""

from typing import NamedTuple

import numpy as np

from g_rmi.inference.onnx.graph import Graph, Value
from g_rmi.inference.sampling import REDUCTIONS

FAR = -1e4  # A pixel outside of every picture.


class Canvas(NamedTuple):
    """`g_rmi.inference.canvas.Letterbox` of one picture, and its canvas."""

    sides: Value  # rows and columns of the canvas, int64 [2]
    size: Value  # those of the picture on it
    scale: Value  # image pixels per canvas pixel along rows and columns, float32 [2]


class Mipmaps(NamedTuple):
    """The `mipmaps` of one picture, one below the other with zeros between, [1, 3, h, w]."""

    image: Value
    starts: Value  # first row of each level
    sizes: Value  # rows and columns of each level


def fit(size: Value, *, canvas: tuple[int, int], squash: bool) -> Canvas:
    """`g_rmi.inference.canvas.fit_on_device` of rows and columns, int64 [2]."""
    height, width = (size.part(i, i + 1, axis=0) for i in (0, 1))
    short, long = canvas
    sides = (width >= height).Where([short, long], [long, short])
    rows, columns = (sides.part(i, i + 1, axis=0) for i in (0, 1))
    by_rows = rows * width <= columns * height
    after, before = by_rows.Where(rows, columns), by_rows.Where(height, width)
    whole, rest = after * size / before, after * size % before
    # Halves to even.
    up = (rest * 2 > before) | ((rest * 2).Equal(before) & (whole % 2).Equal([1]))
    fitted = sides if squash else (whole + up.as_int()).Max([1])
    usual = size.Min(fitted) > 1
    steps = (size - 1).as_float() / (fitted - 1).Max([1]).as_float()
    return Canvas(sides, fitted, usual.Where(steps, size.as_float() / fitted.as_float()))


def mipmaps(graph: Graph, picture: Value) -> Mipmaps:
    """Of a picture, uint8 RGB [H, W, 3]."""
    x = picture.as_float().Transpose(perm=[2, 0, 1]).Unsqueeze([0])
    size, coarsest = x.sides(slice(2, 4)), REDUCTIONS[-1]
    levels, sizes = [x], [size]
    # The last row and column are repeated to fill a block of the coarsest.
    missing = (coarsest - size % coarsest) % coarsest
    x = x.Pad(graph.concat([0] * 6, missing, axis=0), None, mode="edge")
    for reduction in REDUCTIONS[1:]:
        x = x.AveragePool(kernel_shape=[2, 2], strides=[2, 2])
        sizes.append((size + (reduction - 1)) / reduction)
        levels.append(x.Slice([0, 0], sizes[-1], [2, 3]))
    widest = levels[0].sides(slice(3, 4))
    image, starts = [], [graph.constant([0])]
    for level, size in zip(levels, sizes):
        right = widest - size.part(1, 2, axis=0)
        image.append(level.Pad(graph.concat([0] * 6, [1], right, axis=0)))
        starts.append(starts[-1] + size.part(0, 1, axis=0) + 1)
    return Mipmaps(
        graph.concat(*image, axis=2),
        graph.concat(*starts[:-1], axis=0).as_float(),
        graph.concat(*(size.Unsqueeze([0]) for size in sizes), axis=0).as_float(),
    )


def sample(maps: Mipmaps, rows: Value, columns: Value, area: Value) -> Value:
    """`g_rmi.inference.sampling.sample` for N grids [N, h], [N, w] of areas [N]: [N, 3, h, w]."""
    passed = area.Unsqueeze([1]) >= np.square(REDUCTIONS[1:], dtype=np.float32)[None]
    level = passed.as_int().ReduceSum([1], keepdims=0)
    reduction = maps.image.graph.constant(np.array(REDUCTIONS, np.float32)).Gather(level)
    reduction = reduction.Unsqueeze([1])
    sizes = maps.sizes.Gather(level)

    def along(positions: Value, side: Value) -> Value:
        # Block i has its centre at r i + (r - 1) / 2.
        positions = (positions - (reduction - 1.0) * 0.5) / reduction
        return ((positions > -1.0) & (positions < side)).Where(positions, FAR)

    y = along(rows, sizes.part(0, 1, axis=1)) + maps.starts.Gather(level).Unsqueeze([1])
    return sample_grids(maps.image, y, along(columns, sizes.part(1, 2, axis=1)))


def sample_grids(image: Value, rows: Value, columns: Value) -> Value:
    """`g_rmi.ops.image.sample_grid` of [1, C, H, W] at N grids [N, h], [N, w]: [N, C, h, w]."""
    graph: Graph = image.graph
    size = image.sides(slice(2, 4)).as_float()

    def share(positions: Value, axis: int) -> Value:
        """From -1 to 1 between the outer edges of the first and the last pixel."""
        return (positions * 2.0 + 1.0) / size.part(axis, axis + 1, axis=0) - 1.0

    height, width = rows.sides(slice(1, 2)), columns.sides(slice(1, 2))
    y, x = share(rows, 0).Unsqueeze([2, 3]), share(columns, 1).Unsqueeze([1, 3])
    shape = graph.concat([1], height, width, [1], axis=0)
    grid = graph.concat(x.Expand(shape), y.Expand(shape), axis=3)
    # The grids of one image, one below the other.
    grid = grid.Reshape(graph.concat([1, -1], width, [2], axis=0))
    found = image.GridSample(grid, mode="bilinear", padding_mode="zeros", align_corners=0)
    shape = graph.concat(image.sides(slice(1, 2)), [-1], height, width, axis=0)
    return found.Reshape(shape).Transpose(perm=[1, 0, 2, 3])


def grids(boxes: Value, *, height: int, width: int) -> tuple[Value, Value]:
    """`g_rmi.ops.image.grids`: where the rows [N, h] and columns [N, w] of boxes [N, 4] lie."""

    def between(start: int, stop: int, count: int) -> Value:
        share = np.arange(count) / (count - 1) if count > 1 else np.array([0.5])
        share = share.astype(np.float32)[None]
        first, last = (boxes.part(i, i + 1, axis=1) for i in (start, stop))
        return first * (1 - share) + last * share

    return between(1, 3, height), between(0, 2, width)
