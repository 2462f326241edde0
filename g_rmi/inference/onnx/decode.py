"""Maps of one crop to joints: `g_rmi.pose.heads.disks` and its finders in ONNX."""

import math
from typing import Any, NamedTuple

import numpy as np

from g_rmi.inference.onnx.graph import Graph, Value
from g_rmi.inference.onnx.networks import resize
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.finders import CLIMB, CLOSE, HoughVotes, OksKernel, finer
from g_rmi.pose.heads.head import Reading
from g_rmi.types import Grid


class Found(NamedTuple):
    """As `g_rmi.pose.heads.finders.Found`."""

    points: Value  # [K, 2]
    scores: Value  # [K]
    agreement: Value  # [K]


def find(logits: Value, offset: Value, shape: Grid, head: Disks, how: Reading) -> Found:
    """The joints of a crop's maps [K, h, w] and [2 K, h, w] of that shape, in its pixels.

    A ValueError if the decoding is none of the two that vote.
    """
    finder = head.finder(how)
    if isinstance(finder, HoughVotes):
        return _hough(logits, offset, finder, how)
    if isinstance(finder, OksKernel):
        return _oks(logits, offset, shape, finder, how)
    raise ValueError(f'decoding = {how.decoding!r}: only "hough" and "hough_oks" go to ONNX')


def _hough(logits: Value, offset: Value, finder: HoughVotes, how: Reading) -> Found:
    """Votes from every pixel (paper, eq. 1); what falls outside goes to a margin."""
    graph: Graph = logits.graph
    height, width = how.grid
    joints = len(how.sigmas)
    heat = resize(logits.Unsqueeze([0]), [height, width]).Sigmoid().Reshape([joints, -1])
    full = resize(offset.Unsqueeze([0]), [height, width]).Reshape([joints, 2, -1])
    target = full + np.stack(np.meshgrid(np.arange(width), np.arange(height))).reshape(
        1, 2, -1
    ).astype(np.float32)
    # The pixel below a target along each axis, counted from the margin's, and the two's shares.
    cells, shares = [], []
    for axis, side in enumerate((width, height)):
        position = target.at(axis, axis=1).Max(-1.0).Min(float(side))
        low = position.Floor()
        cells.append(low.as_int() + 1)
        shares.append((1.0 - (position - low), position - low))
    first = cells[1] * (width + 3) + cells[0]
    corners = [(i, j) for i in (0, 1) for j in (0, 1)]
    votes = graph.concat(*(heat * shares[1][i] * shares[0][j] for i, j in corners), axis=1)
    places = graph.concat(*(first + (i * (width + 3) + j) for i, j in corners), axis=1)
    empty = graph.constant(0.0).Expand([joints, (height + 3) * (width + 3)])
    total = empty.ScatterElements(places, votes, axis=1, reduction="add")
    total = total.Reshape([joints, height + 3, width + 3])
    inside = total.Slice([1, 1], [height + 1, width + 1], [1, 2]).Reshape([joints, -1])
    best = inside.ArgMax(axis=1, keepdims=0).Unsqueeze([1])
    points = graph.concat(best % width, best / width, axis=1).as_float()
    scores = inside.ReduceMax([1], keepdims=0) * (1 / (math.pi * finder.radius**2))
    return Found(points, scores, scores)


def _oks(logits: Value, offset: Value, shape: Grid, finder: OksKernel, how: Reading) -> Found:
    """The top of a grid, then climbing from there; all joints [K] at a time."""
    (height, width), (h, w), joints = how.grid, shape, len(how.sigmas)
    last = np.array([width - 1, height - 1], np.float32)
    columns, rows = (np.linspace(0, end, n, dtype=np.float32) for end, n in zip(last, (w, h)))
    here = np.stack(np.meshgrid(columns, rows)).reshape(1, 2, -1)
    share = np.prod(last) / (max(h - 1, 1) * max(w - 1, 1) * math.pi * finder.radius**2)
    weights = logits.Reshape([joints, -1]).Sigmoid() * float(share)
    weights = weights / weights.ReduceSum([1], keepdims=1).Max(1.0)
    targets = offset.Reshape([joints, 2, -1]) + here
    outside = (targets < 0.0) | (targets > last.reshape(1, 2, 1))
    weights = outside.as_int().ReduceMax([1], keepdims=0).Equal([[0]]).Where(weights, 0.0)
    narrow = 1 / np.array(finder.sigmas, np.float32).reshape(-1, 1, 1)

    def along(axis: int, places: np.ndarray) -> Value:
        """The kernel of each vote along one axis, [K, places, votes]."""
        distance = targets.part(axis, axis + 1, axis=1) - places.reshape(1, -1, 1)
        return _bell(distance * narrow)

    grid_columns, grid_rows = finer(width, w), finer(height, h)
    down = along(1, grid_rows) * weights.Unsqueeze([1])
    felt = down.MatMul(along(0, grid_columns).Transpose(perm=[0, 2, 1]))
    top = felt.Reshape([joints, -1]).ArgMax(axis=1, keepdims=0).Unsqueeze([1])
    graph: Graph = logits.graph
    x = graph.constant(grid_columns).Gather(top % len(grid_columns))
    y = graph.constant(grid_rows).Gather(top / len(grid_columns))
    point = graph.concat(x, y, axis=1)  # [K, 2]

    def votes(point: Value, narrow: Any) -> Value:
        """What each vote counts there, [K, votes]."""
        distance = (targets - point.Unsqueeze([2])) * narrow
        square = (distance * distance).ReduceSum([1], keepdims=0)
        return weights * (square * -0.5).Exp()

    for _ in range(CLIMB):
        counted = votes(point, narrow)
        total = counted.ReduceSum([1], keepdims=1)
        mean = (targets * counted.Unsqueeze([1])).ReduceSum([2], keepdims=0)
        point = (total > 0.0).Where(mean / (total > 0.0).Where(total, 1.0), point)
    scores = votes(point, narrow).ReduceSum([1], keepdims=0)
    close = votes(point, 1 / (CLOSE * finder.radius)).ReduceSum([1], keepdims=0)
    return Found(point, scores, close)


def values_at(maps: Value, points: Value, shape: Grid, how: Reading) -> Value:
    """`g_rmi.pose.heads.disks.values_at`: maps [K, h, w] of that shape at points [K, 2], as [K]."""
    last = np.array([[how.grid.width - 1, how.grid.height - 1]], np.float32)
    cells = np.array([[shape.width - 1, shape.height - 1]], np.float32)
    places = (points * (1 / last)).Max(0.0).Min(1.0) * cells

    def shares(axis: int, count: int) -> Value:
        """Of each position along one axis, [K, count]."""
        away = places.part(axis, axis + 1, axis=1) - np.arange(count, dtype=np.float32)[None]
        return (1.0 - away.Abs()).Max(0.0)

    across = (maps * shares(0, shape.width).Unsqueeze([1])).ReduceSum([2], keepdims=0)
    return (across * shares(1, shape.height)).ReduceSum([1], keepdims=0)


def _bell(x: Value) -> Value:
    return (x * x * -0.5).Exp()
