"""Part detection, then regression of heatmaps from what was detected.

Bulat and Tzimiropoulos, "Human pose estimation via convolutional part heatmap regression", ECCV
2016.
"""

import dataclasses
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.nn.conv import RARE, Conv, project
from g_rmi.nn.hourglass import Hourglass
from g_rmi.nn.losses import logistic
from g_rmi.nn.norm import Norm
from g_rmi.nn.resnet import EXPANSION, Unit
from g_rmi.nn.rewrites import max_pool
from g_rmi.ops.heatmaps import disk_targets, gaussian_targets
from g_rmi.pose.fields import Field, resize
from g_rmi.pose.heads.gaussian import Between, maxima
from g_rmi.pose.heads.head import Making, Maps, Reading, check_decoding
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses


class CascadeTargets(NamedTuple):
    """Of the centred person: disks around the joints one sees, Gaussians around all of them."""

    detection: Float[Array, "H W K"]
    heatmap: Float[Array, "H W K"]
    labelled: Bool[Array, " K"]


@dataclasses.dataclass(frozen=True)
class Cascade:
    """A detector of visible parts whose maps lead a regression of all joints.

    Where a part is hidden the detector is unsure, and the regression leans on the other parts. It
    is trained in three steps, each from the weights of the one before (`--init`): `--trains
    detection`, `--trains regression`, `--trains both`. No training code is public. From memory of
    the article, unconfirmed: the radius, the standard deviation, hidden parts as negatives of the
    detector, an hourglass of four levels and 256 channels. Choices of ours: losses are averaged
    over positions and joints; the detector's maps are up-sampled bilinearly; the regression's stay
    at stride 4.

    Attributes:
      kind: The name of this head; `--head` chooses another.
      trains: What a training changes. "detection" leaves the regression out, and joints are read
        off the detector's maps; "regression" keeps trunk and detector as they are.
      regression_sees: The detector's probabilities beside the picture, beside the trunk's features
        (the sources do not agree) or alone; or, for comparison, the picture without a detector.
      radius: Of the detector's disks, in crop pixels.
      sigma: Standard deviation of the regression's Gaussians, in crop pixels.
      detection_weight: Weight of the logistic loss.
      regression_weight: Weight of the squared error.
      hourglass_channels: Of its maps, a multiple of 4.
      hourglass_levels: How often it halves them, at most.
      loss_stride: Grid of the losses in crop pixels, best the maps' own stride.
      decoding: How a maximum is placed between positions; as for the head "gaussian".
    """

    kind: Literal["cascade"] = "cascade"
    trains: Literal["both", "detection", "regression"] = "both"
    regression_sees: Literal["parts+picture", "parts+features", "parts", "picture"] = (
        "parts+picture"
    )
    radius: float = 10.0
    sigma: float = 5.0
    detection_weight: float = 1.0
    regression_weight: float = 1.0
    hourglass_channels: int = 256
    hourglass_levels: int = 4
    loss_stride: int = 4
    decoding: Between = "dark"

    def __post_init__(self):
        require(self.loss_stride in (1, 2, 4, 8), "loss_stride", self.loss_stride, "1, 2, 4 or 8")
        require_positive(self, "radius", "sigma")
        require_numbers(self, 0, None, "detection_weight", "regression_weight", "hourglass_levels")
        channels = self.hourglass_channels
        require(channels > 0 and channels % 4 == 0, "hourglass_channels", channels, "4, 8, 12, ...")
        if not self._detects and self.trains == "detection":
            raise ValueError('trains = "detection": without parts in regression_sees there is none')

    @property
    def _detects(self) -> bool:
        return self.regression_sees != "picture"

    @property
    def _regresses(self) -> bool:
        return self.trains != "detection"

    @property
    def frozen(self) -> tuple[str, ...]:
        """All but the regression while it is trained; the trunk if nothing reads it."""
        if self.trains == "regression" or not self._detects:
            return ("trunk", "top_down", "detection")
        return ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """Logits of the detector, and the regressed heatmaps."""
        detection = Field("detection", logits=True, meaning="does one see it here?")
        heatmap = Field("heatmap", meaning="how close is it?")
        return (detection,) * self._detects + (heatmap,) * self._regresses

    @property
    def weights(self) -> dict[str, float]:
        """Of both subnetworks."""
        return {"detection": self.detection_weight, "heatmap": self.regression_weight}

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """A 1x1 convolution for the detector; the regression is `Regression`."""
        joints, final = len(how.skeleton), features["final"]
        maps, seen = {}, []
        if self.frozen:
            final = lax.stop_gradient(final)
        if self._detects:
            logits = project(final, joints, name="detection", dtype=how.dtype, bias_init=RARE)
            maps["detection"] = lax.stop_gradient(logits) if self.frozen else logits
            seen.append(jax.nn.sigmoid(maps["detection"]))
        if not self._regresses:
            return maps
        # What lies beside the maps gives the resolution.
        beside = {"parts+features": final}.get(self.regression_sees, features["picture"])
        size = Grid(*beside.shape[1:3])
        seen = [jax.vmap(partial(resize, grid=size))(x) for x in seen]
        if self.regression_sees != "parts":
            seen.append(beside.astype(jnp.float32))
        regression = Regression(
            joints,
            self.hourglass_channels,
            self.hourglass_levels,
            norm="batch" if how.norm == "frozen" else how.norm,  # there is nothing to import
            dtype=how.dtype,
            shrinks=beside is not final,
            name="regression",
        )
        maps["heatmap"] = regression(jnp.concatenate(seen, axis=-1), train=how.train)
        return maps

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> CascadeTargets:
        """Targets on the grid of the losses."""
        del skeleton
        stride, there = self.loss_stride, crop.visible & crop.labelled
        points, size = crop.keypoints / stride, grid.every(stride)._asdict()
        return CascadeTargets(
            disk_targets(points, there & ~crop.occluded, **size, radius=self.radius / stride)[0],
            gaussian_targets(points, there, **size, sigma=self.sigma / stride),
            crop.labelled,
        )

    def losses(
        self, maps: Maps, targets: CascadeTargets, grid: Grid
    ) -> dict[str, Float[Array, ""]]:
        """Sums over labelled joints and grid positions, divided by the constant K H W."""
        del grid  # that of the targets
        size, labelled = Grid(*targets.heatmap.shape[:2]), targets.labelled[None, None]
        terms = {}
        if self._detects and self.trains != "regression":
            terms["detection"] = logistic(resize(maps["detection"], size), targets.detection)
        if self._regresses:
            terms["heatmap"] = (resize(maps["heatmap"], size) - targets.heatmap) ** 2
        return {
            name: jnp.sum(term, where=labelled) / targets.heatmap.size
            for name, term in terms.items()
        }

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The regressed heatmaps, or else the detector's probabilities, up-sampled."""
        return resize(self._read(maps), how.grid)

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """The maxima of the regressed heatmaps, or else of the detector's probabilities."""
        return maxima(self._read(maps), how.grid, check_decoding(self, how.decoding))

    def drawn_from(self, decoding: str) -> float:
        """A quarter of what a sure joint has."""
        return 0.25

    def _read(self, maps: Maps) -> Float[Array, "h w K"]:
        if self._regresses:
            return jnp.asarray(maps["heatmap"], jnp.float32)
        return jax.nn.sigmoid(jnp.asarray(maps["detection"], jnp.float32))


class Regression(nn.Module):
    """An hourglass that reads maps and pictures, and writes heatmaps."""

    joints: int
    channels: int
    levels: int
    norm: str
    dtype: jnp.dtype
    shrinks: bool  # its inputs are as large as the crop: to stride 4 first

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], *, train: bool = False
    ) -> Float[Array, "B h w K"]:
        """Heatmaps at the inputs' resolution, or a quarter of it."""
        options = {"norm": self.norm, "dtype": self.dtype}
        if self.shrinks:
            x = Conv(self.channels // 4, 7, 2, dtype=self.dtype, name="stem")(x)
            x = max_pool(nn.relu(Norm(self.norm, self.dtype, name="stem_norm")(x, train=train)))
        x = x.astype(self.dtype)  # of a shortcut without a convolution
        x = Unit(self.channels // EXPANSION, **options, name="before")(x, train)
        hourglass = Hourglass(self.channels, self.levels, **options, name="hourglass")
        x = hourglass(x, train=train)
        x = Unit(self.channels // EXPANSION, **options, name="after")(x, train)
        return project(x, self.joints, name="heatmap", dtype=self.dtype)
