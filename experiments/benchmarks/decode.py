"""Decoding: from coarse maps to 17 keypoints and scores, against votes from every position.

    python -m experiments.benchmarks.decode [--maps FILE.npz] [--height H --width W --radius R]

Rivals: a numba loop (where numba is installed) that casts the votes of one crop on one core, given
the up-sampled maps for free; the same from the coarse maps; `hough_vote` likewise given the
up-sampled maps; the whole vote maps from coarse ones and their argmax; and `decode`. Prints medians
over crops, ratios, and on how many joints and crops `decode` has the maximum of the whole maps.

Maps: made ones by default; FILE holds `heatmap` [N, h, w, K] (logits) and `offset` [N, h, w, K, 2]
(crop pixels) of a real network.
"""

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float

from experiments.benchmarks.timing import machine, time_interleaved
from g_rmi.ops.hough import hough_vote
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.heads.finders import HoughVotes, OksKernel, kernel_sigmas
from g_rmi.pose.heads.head import Grid as Size
from g_rmi.skeleton import COCO


class Maps(NamedTuple):
    """Coarse maps of N crops."""

    logits: Float[np.ndarray, "N h w K"]
    offset: Float[np.ndarray, "N h w K 2"]


class Grid(NamedTuple):
    """The crop."""

    height: int
    width: int
    radius: float

    @property
    def size(self) -> Size:
        """Rows and columns alone."""
        return Size(self.height, self.width)


def made_maps(grid: Grid, *, count: int, stride: int = 8, seed: int = 0) -> Maps:
    """What trained networks answer: soft disks, one to three people, offsets that are a bit off."""
    rng = np.random.default_rng(seed)
    size = np.array([grid.width, grid.height])
    across, down = (size - 1) // stride + 1
    positions = stride * np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1)
    crops = []
    for _ in range(count):
        people = rng.integers(1, 4)
        centres = np.concatenate([[size / 2], rng.uniform(0, size, (people - 1, 2))])
        spread = rng.uniform(0.12, 0.25, (people, 1, 1)) * size
        joints = centres[:, None] + spread * rng.normal(size=(people, len(COCO), 2))
        away = joints[:, None, None] - positions[:, :, None]
        distance = np.linalg.norm(away, axis=-1) / grid.radius
        level = rng.uniform(-1, 4, (people, 1, 1, len(COCO))) - 1.5 * np.arange(people).reshape(
            -1, 1, 1, 1
        )
        logits = np.clip(level * 0.5 + 6 * (1 - distance), -7, level).max(axis=0)
        nearest = distance.argmin(axis=0)[None]
        offset = np.take_along_axis(away, nearest[..., None], axis=0)[0]
        # Offsets shrink and scatter beyond the disks, where the loss does not look.
        beyond = np.maximum(distance.min(axis=0), 1)[..., None]
        scatter = grid.radius * 0.08 * beyond * smooth_noise(rng, offset.shape)
        crops.append((logits + 0.3 * smooth_noise(rng, logits.shape), offset / beyond + scatter))
    return Maps(*(np.stack(maps).astype(np.float32) for maps in zip(*crops)))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of unit variance that changes over a few coarse positions."""
    noise = rng.normal(size=shape)
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise / 3


def read_maps(path: Path) -> Maps:
    """Reads a network's maps.

    Raises:
      ValueError: An array is missing.
    """
    with np.load(path) as arrays:
        for name in ("heatmap", "offset"):
            if name not in arrays:
                raise ValueError(f"{path}: no array {name!r}; it has {', '.join(arrays)}")
        return Maps(*(arrays[name].astype(np.float32) for name in ("heatmap", "offset")))


def numba_loops() -> tuple[Callable, Callable] | None:
    """The loops (from up-sampled maps, from coarse maps), joint by joint on one core."""
    try:
        import numba
    except ImportError:
        return None

    @numba.njit(fastmath=True)
    def cast(votes, x, y, weight):
        rows, columns = votes.shape
        x, y = x + np.float32(1), y + np.float32(1)
        if x >= 0 and y >= 0 and x < columns - 1 and y < rows - 1:
            left, upper = int(x), int(y)
            lower_weight = weight * (y - np.float32(upper))
            upper_weight = weight - lower_weight
            share = x - np.float32(left)
            votes[upper, left] += upper_weight * (1 - share)
            votes[upper, left + 1] += upper_weight * share
            votes[upper + 1, left] += lower_weight * (1 - share)
            votes[upper + 1, left + 1] += lower_weight * share

    @numba.njit(fastmath=True)
    def from_full(heatmap, offset):
        joints, height, width = heatmap.shape
        votes = np.zeros((joints, height + 2, width + 2), np.float32)
        for k in range(joints):
            for i in range(height):
                for j in range(width):
                    x = np.float32(j) + offset[k, i, j, 0]
                    y = np.float32(i) + offset[k, i, j, 1]
                    cast(votes[k], x, y, heatmap[k, i, j])
        return votes

    @numba.njit(fastmath=True)
    def from_coarse(logits, target, height, width):
        joints, h, w = logits.shape
        one = np.float32(1)
        down, across = np.float32((h - 1) / (height - 1)), np.float32((w - 1) / (width - 1))
        votes = np.zeros((joints, height + 2, width + 2), np.float32)
        for k in range(joints):
            for i in range(height):
                row = np.float32(i) * down
                a = min(int(row), h - 2)
                v = row - np.float32(a)
                for j in range(width):
                    column = np.float32(j) * across
                    b = min(int(column), w - 2)
                    u = column - np.float32(b)
                    p, q, r, s = (one - v) * (one - u), (one - v) * u, v * (one - u), v * u
                    z = logits[k]
                    logit = p * z[a, b] + q * z[a, b + 1] + r * z[a + 1, b] + s * z[a + 1, b + 1]
                    t = target[k, 0]
                    x = p * t[a, b] + q * t[a, b + 1] + r * t[a + 1, b] + s * t[a + 1, b + 1]
                    t = target[k, 1]
                    y = p * t[a, b] + q * t[a, b + 1] + r * t[a + 1, b] + s * t[a + 1, b + 1]
                    cast(votes[k], x, y, one / (one + math.exp(-logit)))
        return votes

    return from_full, from_coarse


def rivals(maps: Maps, grid: Grid) -> dict[str, Callable]:
    """Calls without arguments; each goes through the crops in the same order."""
    size = {"height": grid.height, "width": grid.width}
    joints = maps.logits.shape[3]

    @jax.jit
    def up_sample(logits, offset):
        flat = resize_align_corners(offset.reshape(*offset.shape[:2], -1), **size)
        heatmap = jax.nn.sigmoid(resize_align_corners(logits, **size))
        return heatmap, flat.reshape(*size.values(), joints, 2)

    def whole(logits, offset):
        votes = HoughVotes(grid.radius).whole(logits, offset, grid.size)
        flat = votes.reshape(-1, joints)
        return jnp.argmax(flat, axis=0), jnp.max(flat, axis=0)

    def over_crops(function, *arrays):
        crops = itertools.cycle(list(zip(*arrays)))
        return lambda: function(*next(crops))

    full = [up_sample(*crop) for crop in zip(*maps)]
    coarse = [[jnp.asarray(m) for m in crop] for crop in zip(*maps)]
    calls = {}
    if loops := numba_loops():
        h, w = maps.logits.shape[1:3]
        steps = [(size - 1) / (n - 1) for size, n in ((grid.width, w), (grid.height, h))]
        positions = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1) * steps
        target = np.moveaxis(maps.offset + positions[None, :, :, None], (3, 4), (1, 2))
        from_full, from_coarse = loops
        by_joint = [[np.moveaxis(np.asarray(m), 2, 0).copy() for m in crop] for crop in full]
        calls["numba, votes alone"] = over_crops(from_full, *zip(*by_joint))
        calls["numba, from coarse maps"] = over_crops(
            partial(from_coarse, height=grid.height, width=grid.width),
            np.ascontiguousarray(np.moveaxis(maps.logits, 3, 1)),
            np.ascontiguousarray(target, np.float32),
        )
    vote = jax.jit(partial(hough_vote, radius=grid.radius))
    calls["hough_vote, votes alone"] = over_crops(vote, *zip(*full))
    calls["whole vote maps"] = over_crops(jax.jit(whole), *zip(*coarse))
    votes = HoughVotes(grid.radius)
    sigmas = kernel_sigmas(np.resize(COCO.sigmas, joints), grid.size, box_scale=1.25)
    kernel = OksKernel(grid.radius, tuple(sigmas.tolist()))
    for name, finder in {"decode": votes, "decode, OKS's kernel": kernel}.items():
        calls[name] = over_crops(jax.jit(partial(finder.find, grid=grid.size)), *zip(*coarse))
    return calls


def agreement(maps: Maps, grid: Grid) -> str:
    """On how many joints and crops `decode` finds the maximum of the whole vote maps."""
    finder = HoughVotes(grid.radius)
    whole, fast = (jax.jit(partial(f, grid=grid.size)) for f in (finder.whole, finder.find))
    same, scores = [], []
    for logits, offset in zip(*maps):
        votes = np.asarray(whole(logits, offset)).reshape(-1, logits.shape[2])
        found = fast(logits, offset)
        x, y = np.asarray(found.points, np.int32).T
        same.append(y * grid.width + x == votes.argmax(axis=0))
        scores.append(np.abs(np.asarray(found.scores) - votes.max(axis=0)).max())
    same = np.stack(same)
    return (
        f"same maximum on {same.sum()} of {same.size} joints, {same.all(axis=1).sum()} of "
        f"{len(same)} crops; scores differ by at most {max(scores):.1e}"
    )


def main(
    *,
    maps: Path | None = None,
    height: int = 353,
    width: int = 257,
    radius: float = 25.0,
    crops: int = 16,
    rounds: int = 48,
    processor_time: bool = False,
) -> None:
    """Times decoding and checks it against the whole vote maps.

    Args:
      maps: An .npz of a network's coarse maps; made ones without it.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.
      crops: Crops to time; all of a file are checked.
      rounds: Turns per rival.
      processor_time: Count processor time instead of wall time, for a busy machine.
    """
    grid = Grid(height, width, radius)
    given = made_maps(grid, count=crops) if maps is None else read_maps(maps)
    timed = Maps(*(array[:: -(-len(array) // crops)] for array in given))
    calls = rivals(timed, grid)
    clock = time.process_time if processor_time else time.perf_counter
    timings = time_interleaved(calls, rounds=rounds, clock=clock)
    unit = "processor time" if processor_time else "wall time"
    print(machine())
    print(f"{height} x {width}, {len(timed.logits)} crops of {maps or 'made maps'}, {unit}")
    print(timings.table(next(iter(calls))))
    print(agreement(given, grid))


if __name__ == "__main__":
    tyro.cli(main)
