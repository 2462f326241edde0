"""Network maps to keypoints and scores (paper, section 3.2.3)."""

import math
import typing
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Real

from g_rmi.config import Method
from g_rmi.ops.hough import gaussian_vote, hough_vote, mean_shift
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.peaks import Peaks, bounded_peaks, has_cells
from g_rmi.types import Poses

# Pixels on each side of a peak that the sub-pixel refinement looks at.
_REACH = 2
# What `oks_spread` needs: the root of a person's area (COCO's: of the mask) as a share of the root
# of the area of the crop around their box, the median of COCO's people; and how much narrower than
# OKS the kernel is, since AP also asks for OKS .95. From half of OKS to all of it little changes.
_PERSON, _NARROWER = 0.56, 0.75
# Parts of each side of the crop, at whose ends the top is first looked for: hardly wider than the
# narrowest kernel. Then steps to the top, to far less than a pixel unless votes disagree.
_PARTS, _CLIMB = 30, 8
# What is close to a joint, in R: the kernel of the pose's score. From .1 to .2 little changes.
_CLOSE = 0.15


def decode(
    heatmap_logits: Float[ArrayLike, "h w K"],
    offset: Float[ArrayLike, "h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    method: Method = "hough",
    refine: bool = False,
    spread: Float[ArrayLike, " K"] | None = None,
) -> Poses:
    """Keypoints and scores of one crop.

        l_k = argmax_x f_k(x)      s = 1/K sum_k max_x f_k(x)

    On CPUs the maxima of f_k are found by branch and bound (`g_rmi.pose.peaks`), elsewhere by
    voting from every position; they are the same.

    "hough_oks", which is not the paper's, takes a vote for a place where the joint may be: l_k is
    where the OKS to be expected over all votes is greatest, and the joint's score is that OKS, for
    an OKS as narrow as `spread`. In f_k, OKS's Gaussian takes the place of the bilinear kernel,
    and the sum runs over the maps' own grid, whose positions stand for the pixels around them;
    what the votes lack in 1 is the chance that there is no joint, and more than 1 is made 1. Votes
    for a place outside the crop are dropped. Votes that agree give the paper's joints; scattered
    ones are no longer outvoted by a few that happen to hit one pixel. The pose's score stays the
    paper's, how well votes agree: the mean over the joints of what lies close to l_k. A box on
    nobody has a place of fair expected OKS for most joints, but no votes that agree.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows; the maps are up-sampled to the crop first.
      width: Crop columns.
      radius: R in crop pixels.
      method: "hough" is the paper's, "hough_oks" see above. For comparison, "argmax" takes f_k to
        be the heatmap itself, and "argmax_offset" adds the offset found at its maximum.
      refine: Move each keypoint to the centroid of f_k on the 5 x 5 pixels around the maximum, at
        most half a pixel away. A bilinear vote balances around its target, so votes that agree are
        located exactly.
      spread: Standard deviation of each joint's kernel in crop pixels, for "hough_oks":
        `oks_spread`.

    Returns:
      The pose, in crop pixels. Equal peaks go by the lowest row, then column. A joint whose maps
      are not finite has a nan score, and so has its pose.

    Raises:
      ValueError: An unknown method, `refine` together with one that is off the pixel grid anyway
        ("hough_oks", "argmax_offset"), or "hough_oks" without `spread`.
    """
    if method not in typing.get_args(Method):
        raise ValueError(f"method = {method!r}: must be one of {typing.get_args(Method)}")
    if refine and not refinable(method):
        raise ValueError(f'refine = True: method = "{method}" has no peak to refine, "hough" has')
    logits, offset, finite = _finite(heatmap_logits, offset)
    if method == "hough_oks":
        if spread is None:
            raise ValueError('spread = None: method = "hough_oks" needs the width of its kernels')
        keypoints, *scores = _kernel_peaks(logits, offset, height, width, radius, spread)
        scores, agreement = (jnp.where(finite, score, jnp.nan) for score in scores)
        return Poses(keypoints, scores, jnp.sum(agreement) / max(len(agreement), 1))
    reach = _REACH if refine else 0
    if method == "hough":
        peaks = _vote_peaks(logits, offset, height, width, radius, reach)
    else:
        heatmap = jax.nn.sigmoid(resize_align_corners(logits, height=height, width=width))
        peaks = _peaks(jnp.moveaxis(heatmap, -1, 0), reach)
    keypoints = peaks.points.astype(jnp.float32)
    if refine:
        keypoints += _centroid(peaks.patches)
    if method == "argmax_offset":
        x, y = peaks.points.T
        keypoints += _resize_offset(offset, height, width)[y, x, jnp.arange(len(x))]
    scores = jnp.where(finite, peaks.patches[:, reach, reach], jnp.nan)
    return Poses(keypoints, scores, jnp.sum(scores) / max(len(scores), 1))


def decode_batch(
    heatmap_logits: Float[ArrayLike, "B h w K"],
    offset: Float[ArrayLike, "B h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    method: Method = "hough",
    refine: bool = False,
    spread: Float[ArrayLike, " K"] | None = None,
) -> Poses:
    """`decode` for a batch of crops.

    On CPUs the crops go one after the other, as the work depends on each crop's maps; elsewhere
    side by side. `jax.vmap(decode)` does the same.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.
      method: As in `decode`.
      refine: As in `decode`.
      spread: As in `decode`.

    Returns:
      The poses, each in the pixels of its crop.
    """
    options = {
        "height": height, "width": width, "radius": radius, "method": method, "refine": refine
    }  # fmt: skip
    return jax.vmap(partial(decode, **options, spread=spread))(heatmap_logits, offset)


def refinable(method: Method | None) -> bool:
    """Whether the method finds peaks on the pixel grid, which `refine` can move off it."""
    return method in ("hough", "argmax")


def worth_drawing(method: Method) -> float:
    """Score from which on a joint is worth drawing.

    An expected OKS is what it says; of the other methods few votes meet in a short training.
    """
    return 0.3 if method == "hough_oks" else 0.02


def oks_spread(
    sigmas: Sequence[float] | Real[np.ndarray, " K"],
    *,
    height: int,
    width: int,
    box_scale: float,
) -> Float32[np.ndarray, " K"]:
    """Width of the kernels of "hough_oks" for somebody whose box fills a crop as boxes mostly do.

    Args:
      sigmas: OKS fall-offs, `Skeleton.sigmas`.
      height: Crop rows.
      width: Crop columns.
      box_scale: How much larger than the extended box the crop is.

    Returns:
      Standard deviations in crop pixels: 2 sigma_k s, with s the root of the person's area, and
      somewhat less.
    """
    person = _PERSON * math.sqrt(height * width) / box_scale
    return (_NARROWER * person * 2 * np.asarray(sigmas, np.float32)).astype(np.float32)


def vote_maps(
    heatmap_logits: Float[ArrayLike, "h w K"],
    offset: Float[ArrayLike, "h w K 2"],
    *,
    height: int,
    width: int,
    radius: float,
    spread: Float[ArrayLike, " K"] | None = None,
) -> Float[Array, "height width K"]:
    """The whole vote maps f_k at the crop's resolution: what `decode` takes the maxima of.

    Args:
      heatmap_logits: Heatmap logits at the network's stride.
      offset: F_k as `(x, y)` in crop pixels, at the network's stride.
      height: Crop rows.
      width: Crop columns.
      radius: R in crop pixels.
      spread: Width of each joint's kernel, for the maps of "hough_oks"; None is the paper's kernel.

    Returns:
      f_k.
    """
    logits, offset = (jnp.asarray(m, jnp.float32) for m in (heatmap_logits, offset))
    if spread is None:
        maps = _vote_maps_by_joint(logits, offset, height, width, radius)
    else:
        weights, targets = _places(logits, offset, height, width, radius)
        rows, columns = (np.arange(size, dtype=np.float32) for size in (height, width))

        def vote(weights, targets, sigma):
            return gaussian_vote(weights, targets, rows=rows, columns=columns, sigma=sigma)

        maps = jax.vmap(vote)(weights, targets, jnp.asarray(spread, jnp.float32))
    return jnp.moveaxis(maps, 0, -1)


def _vote_maps_by_joint(logits, offset, height, width, radius) -> Float[Array, "K height width"]:
    """Joint by joint, so that only one joint's up-sampled maps exist at a time."""

    def vote(maps):
        logits, offset = maps
        heatmap = jax.nn.sigmoid(
            resize_align_corners(logits[..., None], height=height, width=width)
        )
        full = resize_align_corners(offset, height=height, width=width)
        return hough_vote(heatmap, full[:, :, None], radius=radius)[..., 0]

    return lax.map(vote, (jnp.moveaxis(logits, 2, 0), jnp.moveaxis(offset, 2, 0)))


def _vote_peaks(logits, offset, height, width, radius, reach) -> Peaks:
    def full(logits, offset):
        return _peaks(_vote_maps_by_joint(logits, offset, height, width, radius), reach)

    if not has_cells(logits.shape, height=height, width=width):
        return full(logits, offset)

    # One crop after the other, else every crop would wait for the one with the most votes.
    @sequential_vmap
    def bounded(logits, offset):
        size = {"height": height, "width": width}
        return bounded_peaks(logits, offset, **size, radius=radius, reach=reach)

    return lax.platform_dependent(logits, offset, cpu=bounded, default=full)


def _places(logits, offset, height, width, radius):
    """What each position says, for "hough_oks": weights [K, h * w] and places [K, h * w, 2].

    The weights of a joint sum up to 1 at most; a place outside the crop has none.
    """
    h, w, joints = logits.shape
    last = np.array([width - 1, height - 1], np.float32)
    columns, rows = (np.linspace(0, end, n, dtype=np.float32) for end, n in zip(last, (w, h)))
    here = np.stack(np.meshgrid(columns, rows), axis=-1)
    pixels = (height - 1) * (width - 1) / (max(h - 1, 1) * max(w - 1, 1))
    share = pixels / (math.pi * radius**2)
    weights = share * jax.nn.sigmoid(jnp.moveaxis(logits, 2, 0)).reshape(joints, h * w)
    weights /= jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
    targets = (here[None] + jnp.moveaxis(offset, 2, 0)).reshape(joints, h * w, 2)
    inside = jnp.all((targets >= 0) & (targets <= last[None, None]), axis=2)
    return jnp.where(inside, weights, 0.0), targets


def _kernel_peaks(logits, offset, height, width, radius, spread):
    """Maxima [K, 2] of the sums of Gaussian votes, their values, and a narrow kernel's there."""
    h, w, joints = logits.shape
    columns, rows = _finer(width, w), _finer(height, h)

    def joint(votes):
        weights, targets, sigma = votes
        felt = gaussian_vote(weights, targets, rows=rows, columns=columns, sigma=sigma)
        y, x = jnp.unravel_index(jnp.argmax(felt), felt.shape)
        start = jnp.stack([jnp.asarray(columns)[x], jnp.asarray(rows)[y]])
        top, score = mean_shift(start, weights, targets, sigma=sigma, steps=_CLIMB)
        there = {"rows": top[1:], "columns": top[:1], "sigma": _CLOSE * radius}
        return top, score, gaussian_vote(weights, targets, **there)[0, 0]

    def crop(logits, offset, spread):
        return lax.map(joint, (*_places(logits, offset, height, width, radius), spread))

    spread = jnp.broadcast_to(jnp.asarray(spread, jnp.float32), (joints,))
    # On CPUs one crop after the other: their products of few rows are slow in batches.
    one_by_one = sequential_vmap(crop)
    return lax.platform_dependent(logits, offset, spread, cpu=one_by_one, default=crop)


def _finer(size: int, count: int) -> Float32[np.ndarray, " m"]:
    """A map's `count` positions along a side, and as many between as make `_PARTS` parts."""
    between = max(1, -(-_PARTS // max(count - 1, 1)))
    return np.linspace(0, size - 1, (count - 1) * between + 1, dtype=np.float32)


def _finite(logits, offset) -> tuple[Array, Array, Bool[Array, " K"]]:
    """Float32 maps with the joints that hold a nan or infinity zeroed, and which do not."""
    logits, offset = jnp.asarray(logits, jnp.float32), jnp.asarray(offset, jnp.float32)
    finite = jnp.isfinite(logits).all((0, 1)) & jnp.isfinite(offset).all((0, 1, 3))
    logits = jnp.where(finite[None, None], logits, 0.0)
    return logits, jnp.where(finite[None, None, :, None], offset, 0.0), finite


def _resize_offset(offset, height, width) -> Float[Array, "height width K 2"]:
    joints = offset.shape[2]
    flat = offset.reshape(*offset.shape[:2], 2 * joints)
    return resize_align_corners(flat, height=height, width=width).reshape(height, width, joints, 2)


def _peaks(maps: Float[Array, "K height width"], reach: int) -> Peaks:
    """Maxima of whole maps, the lowest index among equals."""
    joints, height, width = maps.shape
    index = jnp.argmax(maps.reshape(joints, height * width), axis=1).astype(jnp.int32)
    x, y = index % width, index // width
    side = 2 * reach + 1

    def patch(image, y, x):
        return lax.dynamic_slice(jnp.pad(image, reach), (y, x), (side, side))

    return Peaks(jnp.stack([x, y], axis=-1), jax.vmap(patch)(maps, y, x))


def _centroid(patches: Float[Array, "K side side"]) -> Float[Array, "K 2"]:
    """Centroid (x, y) of each patch relative to its middle, at most half a pixel away."""
    steps = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
    mass = jnp.sum(patches, axis=(1, 2))
    x = jnp.sum(patches * steps[None, None, :], axis=(1, 2))
    y = jnp.sum(patches * steps[None, :, None], axis=(1, 2))
    moment = jnp.stack([x, y], axis=-1)
    return jnp.clip(moment / jnp.maximum(mass, 1e-30)[:, None], -0.5, 0.5)
