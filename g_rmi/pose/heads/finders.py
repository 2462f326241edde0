"""Where a joint is, given heatmap and offsets: three ways to find it (paper, section 3.2.3).

Each sees the finite coarse maps of one crop: heatmap logits, and F_k as `(x, y)` in crop pixels.
`whole` is the score of each joint at each pixel, `find` the places of the greatest.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Float32, Real

from g_rmi.ops.hough import gaussian_vote, hough_vote, mean_shift
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.fields import resize
from g_rmi.pose.heads.peaks import Peaks, bounded_peaks, has_cells
from g_rmi.types import Grid

# What `kernel_sigmas` needs: the root of a person's area (COCO's: of the mask) as a share of the
# root of the area of the crop around their box, the median of COCO's people; and how much narrower
# than OKS the kernel is, since AP also asks for OKS .95. From half of OKS to all of it little
# changes.
_PERSON, _NARROWER = 0.56, 0.75
# Parts of each side of the crop, at whose ends the top is first looked for: hardly wider than the
# narrowest kernel. Then steps to the top, to far less than a pixel unless votes disagree.
_PARTS, CLIMB = 30, 8
# What is close to a joint, in R: the kernel of the pose's score. From .1 to .2 little changes.
CLOSE = 0.15

Logits = Float[Array, "h w K"]
Offset = Float[Array, "h w K 2"]
Whole = Float[Array, "height width K"]


class Found(NamedTuple):
    """The joints of one crop in its pixels, their scores, and what each adds to the pose's.

    Equal maxima go by the lowest row, then column.
    """

    points: Float[Array, "K 2"]
    scores: Float[Array, " K"]
    agreement: Float[Array, " K"]


@dataclasses.dataclass(frozen=True)
class HoughVotes:
    """The paper's: l_k = argmax_x f_k(x), the maps being up-sampled to the crop first.

    On CPUs the maxima of f_k are found by branch and bound (`g_rmi.pose.heads.peaks`), elsewhere by
    voting from every position; they are the same.
    """

    radius: float  # R in crop pixels

    def whole(self, logits: Logits, offset: Offset, grid: Grid) -> Whole:
        """f_k."""
        return jnp.moveaxis(self._by_joint(logits, offset, grid), 0, -1)

    def find(self, logits: Logits, offset: Offset, grid: Grid) -> Found:
        """The maxima of f_k."""

        def full(logits, offset):
            return _maxima(self._by_joint(logits, offset, grid))

        # One crop after the other, else every crop would wait for the one with the most votes.
        @sequential_vmap
        def bounded(logits, offset):
            return bounded_peaks(logits, offset, grid, radius=self.radius)

        if has_cells(logits.shape, grid):
            points, values = lax.platform_dependent(logits, offset, cpu=bounded, default=full)
        else:
            points, values = full(logits, offset)
        return Found(points.astype(jnp.float32), values, values)

    def _by_joint(self, logits, offset, grid) -> Float[Array, "K height width"]:
        """Joint by joint, so that only one joint's up-sampled maps exist at a time."""
        size = grid._asdict()

        def vote(maps):
            logits, offset = maps
            heatmap = jax.nn.sigmoid(resize_align_corners(logits[..., None], **size))
            full = resize_align_corners(offset, **size)
            return hough_vote(heatmap, full[:, :, None], radius=self.radius)[..., 0]

        return lax.map(vote, (jnp.moveaxis(logits, 2, 0), jnp.moveaxis(offset, 2, 0)))


@dataclasses.dataclass(frozen=True)
class OksKernel:
    """Not the paper's: where the OKS to be expected over all votes is greatest.

    A vote is taken for a place where the joint may be. In f_k, OKS's Gaussian takes the place of
    the bilinear kernel, and the sum runs over the maps' own grid, whose positions stand for the
    pixels around them. The weights of a joint sum to at most 1; the rest is the probability that
    there is none. Votes for a place outside the crop are dropped. Votes that agree give the paper's
    joints; scattered ones are no longer outvoted by a few that happen to hit one pixel.

    A joint's score is its expected OKS. The pose's score stays the paper's, how well votes agree:
    the mean over the joints of what lies close to l_k. A box on nobody has a place of fair expected
    OKS for most joints, but no votes that agree.
    """

    radius: float  # R in crop pixels
    sigmas: tuple[float, ...]  # of each joint's kernel: `kernel_sigmas`

    def whole(self, logits: Logits, offset: Offset, grid: Grid) -> Whole:
        """The expected OKS at each pixel."""
        rows, columns = (np.arange(size, dtype=np.float32) for size in grid)

        def vote(weights, targets, sigma):
            return gaussian_vote(weights, targets, rows=rows, columns=columns, sigma=sigma)

        sigmas = jnp.asarray(self.sigmas, jnp.float32)
        return jnp.moveaxis(jax.vmap(vote)(*self._votes(logits, offset, grid), sigmas), 0, -1)

    def find(self, logits: Logits, offset: Offset, grid: Grid) -> Found:
        """The maxima, to far less than a pixel."""
        h, w = logits.shape[:2]
        rows, columns = finer(grid.height, h), finer(grid.width, w)

        def joint(votes):
            weights, targets, sigma = votes
            felt = gaussian_vote(weights, targets, rows=rows, columns=columns, sigma=sigma)
            y, x = jnp.unravel_index(jnp.argmax(felt), felt.shape)
            start = jnp.stack([jnp.asarray(columns)[x], jnp.asarray(rows)[y]])
            top, score = mean_shift(start, weights, targets, sigma=sigma, steps=CLIMB)
            there = {"rows": top[1:], "columns": top[:1], "sigma": CLOSE * self.radius}
            return top, score, gaussian_vote(weights, targets, **there)[0, 0]

        def crop(logits, offset):
            sigmas = jnp.asarray(self.sigmas, jnp.float32)
            return lax.map(joint, (*self._votes(logits, offset, grid), sigmas))

        # On CPUs one crop after the other: their products of few rows are slow in batches.
        one_by_one = sequential_vmap(crop)
        return Found(*lax.platform_dependent(logits, offset, cpu=one_by_one, default=crop))

    def _votes(self, logits, offset, grid):
        """What each position says: weights [K, h * w] and places [K, h * w, 2]."""
        h, w, joints = logits.shape
        height, width = grid
        last = np.array([width - 1, height - 1], np.float32)
        columns, rows = (np.linspace(0, end, n, dtype=np.float32) for end, n in zip(last, (w, h)))
        here = np.stack(np.meshgrid(columns, rows), axis=-1)
        pixels = (height - 1) * (width - 1) / (max(h - 1, 1) * max(w - 1, 1))
        share = pixels / (math.pi * self.radius**2)
        weights = share * jax.nn.sigmoid(jnp.moveaxis(logits, 2, 0)).reshape(joints, h * w)
        weights /= jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
        targets = (here[None] + jnp.moveaxis(offset, 2, 0)).reshape(joints, h * w, 2)
        inside = jnp.all((targets >= 0) & (targets <= last[None, None]), axis=2)
        return jnp.where(inside, weights, 0.0), targets


@dataclasses.dataclass(frozen=True)
class Maximum:
    """For comparison: the heatmap's maximum, without voting; `moved` by the offset found there."""

    moved: bool = False

    def whole(self, logits: Logits, offset: Offset, grid: Grid) -> Whole:
        """The heatmap, up-sampled."""
        return jax.nn.sigmoid(resize_align_corners(logits, **grid._asdict()))

    def find(self, logits: Logits, offset: Offset, grid: Grid) -> Found:
        """The maxima of the heatmap."""
        peaks = _maxima(jnp.moveaxis(self.whole(logits, offset, grid), -1, 0))
        points = peaks.points.astype(jnp.float32)
        if self.moved:
            x, y = peaks.points.T
            points += resize(offset, grid)[y, x, jnp.arange(len(x))]
        return Found(points, peaks.values, peaks.values)


Finder = HoughVotes | OksKernel | Maximum


def kernel_sigmas(
    sigmas: Sequence[float] | Real[np.ndarray, " K"], grid: Grid, *, box_scale: float
) -> Float32[np.ndarray, " K"]:
    """Width of the kernels of `OksKernel` for somebody whose box fills a crop as boxes mostly do.

    Standard deviations in crop pixels: 2 sigma_k s, with s the root of the person's area, and
    somewhat less. See `Reading` for the arguments.
    """
    person = _PERSON * math.sqrt(grid.height * grid.width) / box_scale
    return (_NARROWER * person * 2 * np.asarray(sigmas, np.float32)).astype(np.float32)


def finer(size: int, count: int) -> Float32[np.ndarray, " m"]:
    """A map's `count` positions along a side, and as many between as make `_PARTS` parts."""
    between = max(1, -(-_PARTS // max(count - 1, 1)))
    return np.linspace(0, size - 1, (count - 1) * between + 1, dtype=np.float32)


def _maxima(maps: Float[Array, "K height width"]) -> Peaks:
    """Maxima of whole maps, the lowest index among equals."""
    joints, height, width = maps.shape
    flat = maps.reshape(joints, height * width)
    index = jnp.argmax(flat, axis=1).astype(jnp.int32)
    points = jnp.stack([index % width, index // width], axis=-1)
    return Peaks(points, flat[jnp.arange(joints), index])
