"""Gaussian heatmaps: the head of most pose networks, for comparison with the paper's."""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g_rmi.config import require, require_positive
from g_rmi.nn.conv import project
from g_rmi.ops.heatmaps import gaussian_targets
from g_rmi.pose.fields import Field, resize
from g_rmi.pose.heads.head import Making, Maps, Reading, check_decoding
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses

# How a maximum is placed between positions.
Between = Literal["dark", "quarter", "argmax"]

# Of a heatmap, before the logarithm is taken.
_LEAST = 1e-4


class GaussianTargets(NamedTuple):
    """Of one crop: a Gaussian around each joint of the centred person, and which joints count."""

    heatmap: Float[Array, "H W K"]
    labelled: Bool[Array, " K"]


@dataclasses.dataclass(frozen=True)
class GaussianHeatmaps:
    """One heatmap for each joint, by the mean squared error (Tompson et al., 2014).

    Attributes:
      kind: The name of this head; `--head` chooses another.
      sigma: Standard deviation of the Gaussians, in crop pixels.
      loss_stride: Grid of the loss in crop pixels, best the maps' own stride.
      decoding: How the maximum is placed between the maps' positions where nothing else is asked
        for: "dark" by the Taylor expansion of the logarithm (Zhang et al., CVPR 2020), "quarter" by
        a quarter of a position towards the greater neighbour; "argmax" leaves it there.
    """

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = 8.0
    loss_stride: int = 4
    decoding: Between = "dark"

    def __post_init__(self):
        require_positive(self, "sigma")
        require(self.loss_stride in (1, 2, 4, 8), "loss_stride", self.loss_stride, "1, 2, 4 or 8")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The heatmaps."""
        return (Field("heatmap", meaning="how close is it?"),)

    @property
    def weights(self) -> dict[str, float]:
        """There is one term."""
        return {"heatmap": 1.0}

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """A 1x1 convolution."""
        joints = len(how.skeleton)
        return {"heatmap": project(features["final"], joints, name="heatmap", dtype=how.dtype)}

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> GaussianTargets:
        """Targets on the grid of the loss."""
        del skeleton
        stride, visible = self.loss_stride, crop.visible & crop.labelled
        size = grid.every(stride)._asdict()
        points, sigma = crop.keypoints / stride, self.sigma / stride
        return GaussianTargets(
            gaussian_targets(points, visible, **size, sigma=sigma), crop.labelled
        )

    def losses(
        self, maps: Maps, targets: GaussianTargets, grid: Grid
    ) -> dict[str, Float[Array, ""]]:
        """The sum over labelled joints and grid positions, divided by the constant K H W."""
        del grid  # that of the targets
        error = resize(maps["heatmap"], Grid(*targets.heatmap.shape[:2])) - targets.heatmap
        total = jnp.sum(jnp.where(targets.labelled[None, None], error**2, 0.0))
        return {"heatmap": total / targets.heatmap.size}

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The heatmaps, up-sampled."""
        return resize(jnp.asarray(maps["heatmap"], jnp.float32), how.grid)

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """The maxima, between positions; see `maxima`."""
        return maxima(maps["heatmap"], how.grid, check_decoding(self, how.decoding))

    def drawn_from(self, decoding: str) -> float:
        """A quarter of what a sure joint has."""
        return 0.25


def maxima(heatmap: Float[Array, "h w K"], grid: Grid, decoding: str) -> Poses:
    """The maxima of heatmaps, between positions; their values are scores, their mean the pose's.

    In the pixels of a crop of that grid. A joint whose map is not finite has a nan score, and so
    has its pose.
    """
    heatmap = jnp.asarray(heatmap, jnp.float32)
    finite = jnp.isfinite(heatmap).all((0, 1))
    heatmap = jnp.where(finite[None, None], heatmap, 0.0)
    h, w, joints = heatmap.shape
    index = jnp.argmax(heatmap.reshape(h * w, joints), axis=0).astype(jnp.int32)
    cells = jnp.stack([index % w, index // w], axis=-1)
    around = _around(heatmap, cells)
    points = cells.astype(jnp.float32)
    if decoding != "argmax":
        step = _taylor(around) if decoding == "dark" else _quarter(around)
        last = np.array([w - 1, h - 1], np.int32)[None]
        points += jnp.where((cells > 0) & (cells < last), step, 0.0)  # else none beside it
    stride = [(grid.width - 1) / max(w - 1, 1), (grid.height - 1) / max(h - 1, 1)]
    scores = jnp.where(finite, around[:, 1, 1], jnp.nan)
    points *= np.array(stride, np.float32)[None]
    return Poses(points, scores, jnp.sum(scores) / max(joints, 1))


def _around(heatmap: Float[Array, "h w K"], cells: Int[Array, "K 2"]) -> Float[Array, "K 3 3"]:
    """Each joint's heatmap at its cell `(x, y)` and the eight beside it."""
    padded = jnp.pad(heatmap, ((1, 1), (1, 1), (0, 0)), mode="edge")
    steps = np.arange(3, dtype=np.int32)
    rows = cells[:, 1, None, None] + steps[None, :, None]
    columns = cells[:, 0, None, None] + steps[None, None, :]
    return padded[rows, columns, jnp.arange(len(cells))[:, None, None]]


def _quarter(around: Float[Array, "K 3 3"]) -> Float[Array, "K 2"]:
    """A quarter of a cell towards the greater neighbour."""
    x, y = around[:, 1, 2] - around[:, 1, 0], around[:, 2, 1] - around[:, 0, 1]
    return 0.25 * jnp.sign(jnp.stack([x, y], axis=-1))


def _taylor(around: Float[Array, "K 3 3"]) -> Float[Array, "K 2"]:
    """From the cell to the top of the parabola through the logarithms, a cell away at most.

    Of a Gaussian the logarithm is that parabola.
    """
    log = jnp.log(jnp.maximum(around, _LEAST))
    x = (log[:, 1, 2] - log[:, 1, 0]) / 2
    y = (log[:, 2, 1] - log[:, 0, 1]) / 2
    xx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0]
    yy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1]
    xy = (log[:, 2, 2] - log[:, 2, 0] - log[:, 0, 2] + log[:, 0, 0]) / 4
    determinant = xx * yy - xy**2
    has_top = (determinant > 1e-9) & (xx < 0)
    step = jnp.stack([xy * y - yy * x, xy * x - xx * y], axis=-1)
    step /= jnp.where(has_top, determinant, 1.0)[:, None]
    return jnp.where(has_top[:, None], jnp.clip(step, -1.0, 1.0), 0.0)
