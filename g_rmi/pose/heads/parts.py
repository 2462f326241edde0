"""DeeperCut's head: part scores, offsets, and offsets from each part to all others.

Insafutdinov et al., ECCV 2016, sections 3 and 4. Here it reads the one person of a crop; the maps
serve to tell people apart as well (`g_rmi.ops.parts`).
"""

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.nn.conv import RARE, ConvTranspose, project
from g_rmi.nn.losses import huber, logistic
from g_rmi.ops.parts import pair_statistics, part_targets
from g_rmi.pose.fields import Field, resize
from g_rmi.pose.heads.disks import finite_maps
from g_rmi.pose.heads.finders import Maximum
from g_rmi.pose.heads.head import Making, Maps, Reading, check_decoding
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses


class CropPartTargets(NamedTuple):
    """`PartTargets` of the centred person, vectors in crop pixels, and which joints count."""

    score: Float[Array, "H W K"]
    offset: Float[Array, "H W K 2"]
    pairwise: Float[Array, "H W K K 2"]
    inside: Bool[Array, "H W K"]
    known: Bool[Array, "H W K K"]
    labelled: Bool[Array, " K"]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Score maps, location refinement and pairwise offsets, as in DeeperCut.

    From the authors' released training code: radius, offset scale, weights, Huber losses of single
    coordinates in standard deviations, each averaged over the positions where it counts. Choices of
    ours: in a crop only the centred person has parts, as for every head here; the intermediate maps
    come from the unit with which the first half of the layers ends (the authors': the twelfth of
    block 3). Sources differ: the Caffe release adds maps read off block 2, the TensorFlow one does
    not (`skip`).

    Attributes:
      kind: The name of this head; `--head` chooses another.
      radius: Of a part's disk, in crop pixels (17 x .8453, for people some 340 pixels high).
      offset_std: Standard deviation of the offsets inside the disk, in crop pixels.
      offset_weight: Weight of the offsets' Huber loss.
      pairwise_weight: Weight of the same for offsets to the other joints; 0 leaves them out.
      intermediate_weight: Weight of the score maps in the middle of the network; 0 for none.
      skip: Add maps read off the backbone's block of the same resolution, where features coarser
        than stride 8 are enlarged.
      loss_stride: Grid of the losses in crop pixels, best the maps' own stride.
      decoding: How maps become joints where nothing else is asked for: "argmax_offset" moves the
        maximum of the score by the offset found there, "argmax" does not.
    """

    kind: Literal["parts"] = "parts"
    radius: float = 14.37
    offset_std: float = 7.2801
    offset_weight: float = 0.05
    pairwise_weight: float = 0.05
    intermediate_weight: float = 1.0
    skip: bool = True
    loss_stride: int = 8
    decoding: Literal["argmax_offset", "argmax"] = "argmax_offset"

    def __post_init__(self):
        require(self.loss_stride in (1, 2, 4, 8), "loss_stride", self.loss_stride, "1, 2, 4 or 8")
        require_positive(self, "radius", "offset_std")
        weights = "offset_weight", "pairwise_weight", "intermediate_weight"
        require_numbers(self, 0, None, *weights)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Score logits, offsets to the joint, and if wanted from joint a's place to joint b."""
        fields = (
            Field("score", logits=True, meaning="is it here?"),
            Field("offset", vector=True, meaning="where exactly?"),
        )
        pairwise = Field("pairwise", joints=2, vector=True, meaning="where are the others?")
        return (*fields, pairwise) if self.pairwise_weight else fields

    @property
    def weights(self) -> dict[str, float]:
        """The authors', for maps and for their standardised vectors."""
        return {
            "score": 1.0,
            "offset": self.offset_weight,
            "pairwise": self.pairwise_weight,
            "intermediate": self.intermediate_weight,
        }

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """One transposed convolution each, from features of stride 16 to maps of stride 8."""
        joints = len(how.skeleton)
        read = partial(_read, features, skip=self.skip, dtype=how.dtype)
        offset = read("final", 2 * joints, name="offset")
        maps = {
            "score": read("final", joints, name="score", bias_init=RARE),
            "offset": self.offset_std * offset.reshape(*offset.shape[:-1], joints, 2),
        }
        if self.pairwise_weight:
            maps |= self._pairwise(joints, offset.shape[:-1], read)
        if self.intermediate_weight and how.train:
            maps["intermediate"] = read("middle", joints, name="intermediate", bias_init=RARE)
        return maps

    def _pairwise(self, joints: int, shape: tuple[int, ...], read: Any) -> dict[str, Array]:
        """Offsets between joints, and their deviations; nothing is learned for a single joint."""
        if joints < 2:  # neither a convolution nor a checkpoint has arrays without numbers
            one = 1, 1, 2
            return {
                "pairwise": jnp.zeros((*shape, *one)),
                "pairwise_std": jnp.ones((shape[0], *one)),
            }
        pairs = joints * (joints - 1)
        standardised = read("final", 2 * pairs, name="pairwise").reshape(*shape, pairs, 2)
        pixels, std = Pixels(joints, name="pairs")(standardised)
        return {"pairwise": pixels, "pairwise_std": std}

    def statistics(
        self, keypoints: Float[np.ndarray, "N K 2"], visible: Bool[np.ndarray, "N K"]
    ) -> dict[str, Any]:
        """Mean and deviation of the offsets between joints, of the training set."""
        joints = keypoints.shape[1]
        if not self.pairwise_weight or joints < 2:
            return {}
        pairs = ~np.eye(joints, dtype=bool)  # row by row, as in `square`
        mean, std = (
            values[pairs].astype(np.float32).ravel()
            for values in pair_statistics(keypoints, visible)
        )
        return {"statistics": {"pairs": {"mean": mean, "std": std}}}

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> CropPartTargets:
        """Targets of the centred person on the grid of the losses."""
        del skeleton
        stride = self.loss_stride
        people = (crop.keypoints / stride)[None], (crop.visible & crop.labelled)[None]
        size = grid.every(stride)._asdict()
        found = part_targets(*people, **size, radius=self.radius / stride)
        vectors = {"offset": found.offset * stride, "pairwise": found.pairwise * stride}
        return CropPartTargets(*found._replace(**vectors), crop.labelled)

    def losses(
        self, maps: Maps, targets: CropPartTargets, grid: Grid
    ) -> dict[str, Float[Array, ""]]:
        """Logistic losses over K H W; Huber losses of vectors over what counts of each."""
        del grid  # that of the targets
        size = Grid(*targets.score.shape[:2])
        full = {name: resize(maps[name], size) for name in maps if name != "pairwise_std"}
        terms = {
            name: jnp.sum(logistic(full[name], targets.score), where=targets.labelled[None, None])
            / targets.score.size
            for name in ("score", "intermediate")
            if name in maps
        }
        inside = targets.inside & targets.labelled[None, None]
        error = (full["offset"] - targets.offset) / self.offset_std
        terms["offset"] = vector_loss(error, inside)
        if "pairwise" in maps:
            error = full["pairwise"] - targets.pairwise
            terms["pairwise"] = vector_loss(error / maps["pairwise_std"][None, None], targets.known)
        return terms

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The scores, up-sampled."""
        logits, offset, _ = finite_maps(maps["score"], maps["offset"])
        return Maximum().whole(logits, offset, how.grid)

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """The places of the greatest scores, and these; their mean is the pose's.

        A joint whose maps are not finite has a nan score, and so has its pose.
        """
        moved = check_decoding(self, how.decoding) == "argmax_offset"
        logits, offset, finite = finite_maps(maps["score"], maps["offset"])
        points, scores, _ = Maximum(moved).find(logits, offset, how.grid)
        scores = jnp.where(finite, scores, jnp.nan)
        return Poses(points, scores, jnp.sum(scores) / max(len(scores), 1))

    def drawn_from(self, decoding: str) -> float:
        """The score from which on the authors' demonstration takes parts."""
        return 0.2


class Pixels(nn.Module):
    """From standardised offsets between joints to crop pixels.

    By the mean and deviation of each ordered pair over the training set, which are variables of the
    network: saved, published and taken over with its weights. Before they are set, 0 and 1.
    """

    joints: int

    @nn.compact
    def __call__(
        self, standardised: Float[Array, "B h w P 2"]
    ) -> tuple[Float[Array, "B h w K K 2"], Float[Array, "B K K 2"]]:
        """The offsets, 0 on the diagonal, and the deviations for each crop, 1 there."""
        pairs = self.joints * (self.joints - 1)
        # Vectors, which weights files keep in float32.
        mean = self.variable("statistics", "mean", jnp.zeros, (2 * pairs,), jnp.float32)
        std = self.variable("statistics", "std", jnp.ones, (2 * pairs,), jnp.float32)
        mean, std = (jnp.asarray(v.value).reshape(pairs, 2) for v in (mean, std))
        pixels = standardised * std[None, None, None] + mean[None, None, None]
        deviations = jnp.broadcast_to(std[None], (standardised.shape[0], pairs, 2))
        return square(pixels, self.joints, 0.0), square(deviations, self.joints, 1.0)


def square(
    values: Float[Array, "*N P 2"], joints: int, diagonal: float
) -> Float[Array, "*N K K 2"]:
    """Values of all ordered pairs (a, b), a != b, row by row, as a square with that diagonal.

    The pair (a, b) is at (K - 1) a + b - [a < b].
    """
    if joints < 2:
        return jnp.full((*values.shape[:-2], joints, joints, 2), diagonal, values.dtype)
    # After the first place of the diagonal, which is 0 in a K x K matrix read row by row, K others
    # lie between each two of its places. So it is put in by shapes: CPUs scatter slowly.
    *rest, pairs, _ = values.shape
    blocks = values.reshape(*rest, pairs // joints, joints, 2)
    to = [(0, 0)] * len(rest)
    blocks = jnp.pad(blocks, (*to, (0, 0), (0, 1), (0, 0)), constant_values=diagonal)
    flat = blocks.reshape(*rest, joints**2 - 1, 2)
    flat = jnp.pad(flat, (*to, (1, 0), (0, 0)), constant_values=diagonal)
    return flat.reshape(*rest, joints, joints, 2)


def vector_loss(error: Float[Array, "*grid 2"], include: Bool[Array, "*grid"]) -> Float[Array, ""]:
    """Mean Huber loss (linear from 1 on) of the coordinates of the included errors; 0 of none."""
    total = jnp.sum(huber(jnp.abs(error), 1.0), where=include[..., None])
    return total / jnp.maximum(2.0 * jnp.sum(include, dtype=jnp.float32), 1.0)


def _read(
    features: Maps,
    source: str,
    channels: int,
    *,
    name: str,
    skip: bool,
    dtype: jnp.dtype,
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros,
) -> Float[Array, "B h w channels"]:
    """Float32 maps off features, twice their resolution if they are coarser than stride 8."""
    x, fine = features[source], features["block2"]
    options: Any = {"name": name, "dtype": dtype, "bias_init": bias_init}
    if x.shape[1] >= fine.shape[1] or x.shape[2] >= fine.shape[2]:
        return project(x, channels, **options)
    options |= {"use_bias": True, "kernel_init": nn.initializers.normal(0.01)}
    maps = ConvTranspose(channels, **options)(x).astype(jnp.float32)
    if not skip:
        return maps
    same = next(b for b in ("block2", "block3") if features[b].shape[1:3] == maps.shape[1:3])
    return maps + project(features[same], channels, name=f"{name}_skip", dtype=dtype)
