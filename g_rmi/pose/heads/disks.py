"""The head of the paper: disks around the joints, and offsets inside them (section 3.2.2)."""

import dataclasses
import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.nn.conv import RARE, project
from g_rmi.nn.losses import huber, logistic
from g_rmi.ops.heatmaps import disk_targets
from g_rmi.ops.image import sample_points
from g_rmi.pose.fields import Field, resize
from g_rmi.pose.heads.finders import Finder, HoughVotes, Maximum, OksKernel, kernel_sigmas
from g_rmi.pose.heads.head import Making, Maps, Reading, check_decoding
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses


class DiskTargets(NamedTuple):
    """Targets of one crop, on a grid of H x W positions.

    `elsewhere` is inside a disk of somebody else's joint k and of none of the centred person's:
    left out of the auxiliary loss.
    """

    heatmap: Float[Array, "H W K"]  # 1 within R of the centred person's joint, else 0
    offset: Float[Array, "H W K 2"]  # F_k(x) = l_k - x, in crop pixels
    inside: Bool[Array, "H W K"]  # where the offset counts: the disk
    elsewhere: Bool[Array, "H W K"]
    labelled: Bool[Array, " K"]  # the joint takes part in the losses
    visibility: Float[Array, "H W K"]  # 1 everywhere where one sees the joint, else 0
    visibility_known: Bool[Array, " K"]


@dataclasses.dataclass(frozen=True)
class Disks:
    """Heatmaps of disks, offsets, and an auxiliary heatmap at an intermediate layer.

    Attributes:
      kind: The name of this head; `--head` chooses another.
      radius: R: disk radius of the heatmap targets and of the vote kernel, in crop pixels.
      heatmap_weight: Weight of the logistic loss.
      offset_weight: Weight of the Huber loss on the offsets.
      auxiliary_weight: Weight of the intermediate heatmap; 0 leaves it out.
      visibility_weight: Weight of the logistic loss of whether one sees a joint, COCO's v of 2, or
        something hides it, v of 1; 0 leaves these maps out, as the paper does.
      huber_delta: Where the Huber loss turns linear, in crop pixels.
      loss_stride: Grid of the losses in crop pixels: 1 is the paper's full resolution; the maps'
        own stride saves the up-sampling in training.
      decoding: How maps become joints where nothing else is asked for: "hough" is the paper's,
        "hough_oks" votes with the kernel of OKS. For comparison, "argmax" takes the heatmap's
        maximum, "argmax_offset" adds the offset that is found there.
    """

    kind: Literal["disks"] = "disks"
    radius: float = 25.0
    heatmap_weight: float = 4.0
    offset_weight: float = 1.0
    auxiliary_weight: float = 4.0
    visibility_weight: float = 0.0
    huber_delta: float = 1.0
    loss_stride: int = 1
    decoding: Literal["hough", "hough_oks", "argmax", "argmax_offset"] = "hough"

    def __post_init__(self):
        require(self.loss_stride in (1, 2, 4, 8), "loss_stride", self.loss_stride, "1, 2, 4 or 8")
        require_positive(self, "radius", "huber_delta")
        weights = "heatmap_weight", "offset_weight", "auxiliary_weight", "visibility_weight"
        require_numbers(self, 0, None, *weights)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Heatmap logits, offsets F_k from here to joint k, and whether one sees it."""
        visibility = Field("visibility", logits=True, meaning="not hidden, if it is here?")
        return (
            Field("heatmap", logits=True, meaning="within R of it?"),
            Field("offset", vector=True, meaning="where, seen from here?"),
            *((visibility,) if self.visibility_weight else ()),
        )

    @property
    def weights(self) -> dict[str, float]:
        """The paper's are 4 : 1."""
        return {
            "heatmap": self.heatmap_weight,
            "offset": self.offset_weight,
            "auxiliary": self.auxiliary_weight,
            "visibility": self.visibility_weight,
        }

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """One 1x1 convolution each."""
        joints, dtype = len(how.skeleton), how.dtype
        disks = partial(project, channels=joints, dtype=dtype, bias_init=RARE)
        offset = project(features["final"], 2 * joints, name="offset", dtype=dtype)
        maps = {
            "heatmap": disks(features["final"], name="heatmap"),
            "offset": offset.reshape(*offset.shape[:-1], joints, 2),
        }
        if self.auxiliary_weight and how.train:
            maps["auxiliary"] = disks(features["middle"], name="auxiliary")
        if self.visibility_weight:
            maps["visibility"] = project(features["final"], joints, name="visibility", dtype=dtype)
        return maps

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> DiskTargets:
        """Targets on the grid of the losses."""
        del skeleton
        stride = self.loss_stride
        disks = partial(disk_targets, **grid.every(stride)._asdict(), radius=self.radius / stride)
        heatmap, offset, inside = disks(crop.keypoints / stride, crop.visible & crop.labelled)
        others = jax.vmap(lambda points, flags: disks(points / stride, flags)[2])
        elsewhere = others(crop.other_keypoints, crop.other_visible).any(axis=0)
        return DiskTargets(
            heatmap,
            offset * stride,
            inside,
            elsewhere & ~inside,
            crop.labelled,
            jnp.broadcast_to(jnp.where(crop.occluded, 0.0, 1.0)[None, None], heatmap.shape),
            crop.visibility_known,
        )

    def losses(self, maps: Maps, targets: DiskTargets, grid: Grid) -> dict[str, Float[Array, ""]]:
        """Sums over labelled joints and grid positions, divided by the constant K H W.

        So the terms keep the paper's proportions whatever is labelled. That of visibility counts
        inside disks alone and is divided by the area of K of them. It is not balanced, though few
        joints are hidden: so its probabilities are true, and balance is a matter of the threshold.
        """
        del grid  # that of the targets
        shape = targets.heatmap.shape
        full = {name: resize(m, Grid(*shape[:2])) for name, m in maps.items()}
        labelled = jnp.broadcast_to(targets.labelled[None, None], shape)
        offset = full["offset"], targets.offset, targets.inside & labelled
        terms = {
            "heatmap": heatmap_loss(full["heatmap"], targets.heatmap, labelled),
            "offset": offset_loss(*offset, delta=self.huber_delta),
        }
        if "auxiliary" in maps:
            include = labelled & ~targets.elsewhere
            terms["auxiliary"] = heatmap_loss(full["auxiliary"], targets.heatmap, include)
        terms = {name: term / targets.heatmap.size for name, term in terms.items()}
        if "visibility" in maps:
            disks = shape[-1] * math.pi * (self.radius / self.loss_stride) ** 2
            known = targets.inside & targets.visibility_known[None, None]
            told = heatmap_loss(full["visibility"], targets.visibility, known)
            terms["visibility"] = told / disks
        return terms

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The vote maps f_k, or what the decoding takes for them."""
        logits, offset, _ = finite_maps(maps["heatmap"], maps["offset"])
        return self.finder(how).whole(logits, offset, how.grid)

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """Keypoints and scores of one crop.

            l_k = argmax_x f_k(x)      s = 1/K sum_k max_x f_k(x)

        A joint whose maps are not finite has a nan score, and so has its pose. Its visibility is
        read where it was found.
        """
        logits, offset, finite = finite_maps(maps["heatmap"], maps["offset"])
        points, *scores = self.finder(how).find(logits, offset, how.grid)
        scores, agreement = (jnp.where(finite, score, jnp.nan) for score in scores)
        visibility = None
        if self.visibility_weight:
            visibility = jax.nn.sigmoid(values_at(maps["visibility"], points, how.grid))
        return Poses(points, scores, jnp.sum(agreement) / max(len(agreement), 1), visibility)

    def drawn_from(self, decoding: str) -> float:
        """An expected OKS is what it says; else few votes meet in a short training."""
        return 0.3 if decoding == "hough_oks" else 0.02

    def finder(self, how: Reading) -> Finder:
        """What finds the joints; a ValueError if the head has no such decoding."""
        decoding = check_decoding(self, how.decoding)
        if decoding == "hough":
            return HoughVotes(self.radius)
        if decoding == "hough_oks":
            sigmas = kernel_sigmas(how.sigmas, how.grid, box_scale=how.box_scale)
            return OksKernel(self.radius, tuple(sigmas.tolist()))
        return Maximum(moved=decoding == "argmax_offset")


def heatmap_loss(
    logits: Float[Array, "*grid K"],
    target: Float[Array, "*grid K"],
    include: Bool[Array, "*grid K"],
) -> Float[Array, ""]:
    """Logistic loss, summed over the included positions and joints."""
    return jnp.sum(logistic(logits, target), where=include)


def offset_loss(
    offset: Float[Array, "*grid K 2"],
    target: Float[Array, "*grid K 2"],
    include: Bool[Array, "*grid K"],
    *,
    delta: float,
) -> Float[Array, ""]:
    """Huber loss of the distance ||F_k(x) - (l_k - x)||, summed over the included positions.

    All in crop pixels; linear from `delta` on, with a zero gradient where the offset is exact.
    """
    square = jnp.sum((offset - target) ** 2, axis=-1)
    # The root's gradient at 0 is infinite; Huber's there is 0. Keep the root away from it.
    distance = jnp.sqrt(jnp.maximum(square, 1e-12))
    return jnp.sum(huber(distance, delta), where=include)


def values_at(
    maps: Float[Array, "h w K"], points: Float[Array, "K 2"], grid: Grid
) -> Float[Array, " K"]:
    """Each joint's map at its point, in pixels of a crop of that grid; outside, at the edge."""
    height, width, _ = maps.shape
    last = jnp.array([grid.width - 1, grid.height - 1], jnp.float32)
    cells = jnp.array([width - 1, height - 1], jnp.float32)
    places = jnp.clip(points / last[None], 0, 1) * cells[None]
    return jax.vmap(sample_points, in_axes=(2, 0))(maps[..., None], places)[:, 0]


def finite_maps(
    logits: Float[Array, "h w K"], offset: Float[Array, "h w K 2"]
) -> tuple[Float[Array, "h w K"], Float[Array, "h w K 2"], Bool[Array, " K"]]:
    """Float32 maps with the joints that hold a nan or infinity zeroed, and which do not."""
    logits, offset = jnp.asarray(logits, jnp.float32), jnp.asarray(offset, jnp.float32)
    finite = jnp.isfinite(logits).all((0, 1)) & jnp.isfinite(offset).all((0, 1, 3))
    logits = jnp.where(finite[None, None], logits, 0.0)
    return logits, jnp.where(finite[None, None, :, None], offset, 0.0), finite
