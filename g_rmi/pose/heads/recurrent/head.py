"""Keypoint and limb maps, refined by a recurrent block (Belagiannis & Zisserman, FG 2017)."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.ops.heatmaps import gaussian_targets, limb_targets
from g_rmi.pose.fields import Field, resize
from g_rmi.pose.heads.gaussian import GaussianHeatmaps
from g_rmi.pose.heads.head import Making, Maps, Reading
from g_rmi.pose.heads.recurrent.losses import balanced_squares
from g_rmi.pose.heads.recurrent.network import FeedForward, Recurrence
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses

# The article's: how bright the maps are, and what of a Gaussian is background.
PEAK, DARK = 12.0, 1e-18


class RecurrentTargets(NamedTuple):
    """Of one crop: 12 times a Gaussian around each joint and along each limb, and what counts."""

    heatmap: Float[Array, "H W K"]
    limbs: Float[Array, "H W L"]
    labelled: Bool[Array, " K"]
    labelled_limbs: Bool[Array, " L"]


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """Maps that iterations of one block make again, from their last state and early features.

    Sizes, sharing, targets, balance and weights are those of the authors' training code. Ours:
    joints are not moved to whole cells, the loss is divided by K H W, He's initialisation. A joint
    that is labelled as absent teaches nothing here, as in the article.

    Attributes:
      kind: The name of this head; `--head` chooses another.
      trunk: "article" is its feed-forward network, of stride 4, for crops of 249 x 249; "resnet"
        the config's, with or without a pyramid: the block then sees the first features that are as
        fine as the last ones.
      iterations: How often the block runs in training; the article's best is 2.
      read_iteration: Whose maps are read at prediction: 0 the feed-forward ones, -1 the last. It
        changes nothing in training, so that one training has them all.
      channels: Of the block's convolutions; its state has 4 times as many.
      kernels: Sizes of the block's convolutions, odd.
      sigma: Standard deviation of the joints' Gaussians, in crop pixels; the article's is 1.3 cells
        of 4 pixels.
      limb_along: Standard deviation of the limbs' Gaussians along the limb, as a share of its
        length.
      limb_across: Across it, likewise.
      limb_weight: Weight of the limb maps, which only training has; 0 leaves them out.
      loss_stride: Grid of the loss in crop pixels, best the maps' own stride.
      decoding: How the maximum is placed between cells, see the head "gaussian"; the article leaves
        it there, "argmax".
    """

    kind: Literal["recurrent"] = "recurrent"
    trunk: Literal["resnet", "article"] = "resnet"
    iterations: int = 2
    read_iteration: int = -1
    channels: int = 64
    kernels: tuple[int, ...] = (7, 13, 13)
    sigma: float = 5.2
    limb_along: float = 0.15
    limb_across: float = 0.08
    limb_weight: float = 1.0
    loss_stride: int = 4
    decoding: Literal["dark", "quarter", "argmax"] = "dark"

    def __post_init__(self):
        require_positive(self, "channels", "sigma", "limb_along", "limb_across")
        require_numbers(self, 0, None, "iterations", "limb_weight")
        require_numbers(self, -1, self.iterations, "read_iteration")
        require(self.loss_stride in (1, 2, 4, 8), "loss_stride", self.loss_stride, "1, 2, 4 or 8")
        odd = self.kernels and all(size > 0 and size % 2 == 1 for size in self.kernels)
        require(bool(odd), "kernels", self.kernels, "odd numbers")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The keypoint maps of one stage."""
        return (Field("heatmap", meaning="how close is it?"),)

    @property
    def weights(self) -> dict[str, float]:
        """Every stage weighs the same; the last one has no number."""
        stages = ["", *map(str, range(self.iterations))]
        limbs = {f"limbs{stage}": self.limb_weight for stage in stages}
        return {f"heatmap{stage}": 1.0 for stage in stages} | limbs

    def backbone(self, *, norm: str, dtype: jnp.dtype, name: str) -> Any:
        """The article's network, if it is wanted."""
        own = {"channels": self.channels, "norm": norm, "dtype": dtype, "name": name}
        return FeedForward(**own) if self.trunk == "article" else None

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """The last stage's in training, with the others as "heatmap0", ...; else the one to read.

        The same for "limbs", in training alone.
        """
        final, wanted = features["final"], self.iterations
        if not how.train and self.read_iteration >= 0:
            wanted = self.read_iteration
        fine = (x for name, x in features.items() if name != "middle")
        stages = Recurrence(
            joints=len(how.skeleton),
            limbs=len(how.skeleton.limbs) if how.train and self.limb_weight else 0,
            channels=self.channels,
            kernels=self.kernels,
            norm=how.norm,
            dtype=how.dtype,
            name="recurrence",
        )(
            final,
            next(x for x in fine if x.shape[1:3] == final.shape[1:3]),
            iterations=wanted,
            train=how.train,
        )
        maps = stages.pop()
        if how.train:
            for i, stage in enumerate(stages):
                maps |= {f"{name}{i}": x for name, x in stage.items()}
        return maps

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> RecurrentTargets:
        """Targets on the grid of the loss."""
        stride, visible = self.loss_stride, crop.visible & crop.labelled
        given = crop.keypoints / stride, visible
        size = grid.every(stride)._asdict()
        joints = gaussian_targets(*given, **size, sigma=self.sigma / stride)
        widths = {"along": self.limb_along, "across": self.limb_across}
        limbs = limb_targets(*given, limbs=skeleton.limbs, **size, **widths)
        joints, limbs = (jnp.where(x < DARK, 0.0, PEAK * x) for x in (joints, limbs))
        ends = jnp.array(skeleton.limbs, jnp.int32).reshape(-1, 2)
        return RecurrentTargets(joints, limbs, crop.labelled, crop.labelled[ends].all(axis=-1))

    def losses(
        self, maps: Maps, targets: RecurrentTargets, grid: Grid
    ) -> dict[str, Float[Array, ""]]:
        """Balanced squares of each stage's joints and limbs, divided by the constant K H W."""
        del grid  # that of the targets
        joints = targets.heatmap, targets.labelled
        limbs = targets.limbs, targets.labelled_limbs
        size = Grid(*targets.heatmap.shape[:2])
        return {
            name: balanced_squares(resize(x, size), *(limbs if "limbs" in name else joints))
            / targets.heatmap.size
            for name, x in maps.items()
        }

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The heatmaps, up-sampled, as shares of a perfect one's peak."""
        return GaussianHeatmaps().evidence(_shares(maps), how)

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """The maxima, as of the head "gaussian"; a perfect map's score is 1."""
        return GaussianHeatmaps().decode(_shares(maps), how)

    def drawn_from(self, decoding: str) -> float:
        """A quarter of what a sure joint has."""
        return 0.25


def _shares(maps: Maps) -> dict[str, Array]:
    return {"heatmap": jnp.asarray(maps["heatmap"], jnp.float32) / PEAK}
