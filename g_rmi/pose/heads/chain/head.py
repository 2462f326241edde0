"""Joints one after another, each given those before it (Gkioxari, Toshev & Jaitly, ECCV 2016)."""

import dataclasses
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from g_rmi.config import nearest, require, require_numbers, require_positive
from g_rmi.pose.fields import Field, resize
from g_rmi.pose.heads.chain import positions
from g_rmi.pose.heads.chain.forcing import draw_truth, truth_share
from g_rmi.pose.heads.chain.network import ChainNetwork, Truth
from g_rmi.pose.heads.gaussian import GaussianHeatmaps
from g_rmi.pose.heads.head import Making, Maps, Reading, check_decoding
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses


class ChainTargets(NamedTuple):
    """Of one crop: where the joints are, in crop pixels, and which are there and count."""

    keypoints: Float[Array, "K 2"]  # 0 where not known
    known: Bool[Array, " K"]


@dataclasses.dataclass(frozen=True)
class Chain:
    """A softmax over all positions for each joint, given the joints before it.

    P(y | image) = prod_t P(y_t | image, y_0 ... y_{t-1}). No code of the authors is known: the
    factorisation, the decoder's kind and weights of their own for each joint are the article's,
    sizes and the layers for fed maps are second-hand, the spread of the target, the schedule of
    the truth and the order of the joints from memory.

    There is no answer "absent": a joint that is not labelled, not visible or outside the crop has
    no loss, and where the truth is fed, an empty map and a flag that says so.

    Attributes:
      kind: The name of this head; `--head` chooses another.
      channels: Of states and fed maps; the article's 64.
      decoder_channels: Of the layers between a state and its map.
      doublings: How often a decoder doubles the features' resolution: twice in the article, from
        stride 32 to 8.
      feedback: What of a joint's map the later joints see: "peak" the best cell, "map" all
        probabilities, through which gradients pass, "none" nothing, which is the article's
        baseline: every joint by itself.
      truth_steps: Steps within which what is fed in training goes linearly from always the truth to
        always what was found; 0: always the truth.
      order: The joints' names, first to last; none for the order of the keypoint set. The article
        goes from the joints that are found best to those found worst.
      reverse: Last to first.
      beams: Hypotheses at prediction; 1 takes the best cell at each step.
      oracle: At prediction feed the truth, which must be given (`PoseTask.predict`): what a chain
        could gain at most.
      target_sigma: Spread of the target around the joint, in crop pixels; one cell if it is far
        less than a cell.
      decoding: Where a joint is: "dark" at the top of the parabola through the logarithms around
        the best cell, "expectation" at the mean over its 3x3 cells, "argmax" in it.
    """

    kind: Literal["chain"] = "chain"
    channels: int = 64
    decoder_channels: int = 32
    doublings: int = 2
    feedback: Literal["peak", "map", "none"] = "peak"
    truth_steps: int = 0
    order: tuple[str, ...] = ()
    reverse: bool = False
    beams: int = 1
    oracle: bool = False
    target_sigma: float = 8.0
    decoding: Literal["dark", "expectation", "argmax"] = "dark"

    def __post_init__(self):
        require_positive(self, "channels", "decoder_channels", "beams", "target_sigma")
        require_numbers(self, 0, None, "doublings", "truth_steps")
        if self.feedback != "peak":
            require(self.beams == 1, "beams", self.beams, '1 without the feedback "peak"')
        if self.oracle:
            require(self.beams == 1, "beams", self.beams, "1 with an oracle")
        if self.feedback == "none":
            require(not self.oracle, "oracle", self.oracle, 'False with the feedback "none"')

    @property
    def fields(self) -> tuple[Field, ...]:
        """Of each joint the probabilities of all positions."""
        return (Field("probability", meaning="how likely is it here?"),)

    @property
    def weights(self) -> dict[str, float]:
        """There is one term."""
        return {"divergence": 1.0}

    def joint_order(self, skeleton: Skeleton) -> tuple[int, ...]:
        """The joints' numbers, first to last; a ValueError if `order` is not one of the set."""
        index = {name: i for i, name in enumerate(skeleton.names)}
        for name in self.order:
            if name not in index:
                raise ValueError(f"order: no joint {name!r}{nearest(name, index)}")
        names = self.order or skeleton.names
        if len(set(names)) != len(names) or len(names) != len(index):
            missing = sorted(set(index) - set(names)) or "nothing"
            raise ValueError(f"order: must name every joint once; missing: {missing}")
        order = tuple(index[name] for name in names)
        return order[::-1] if self.reverse else order

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """Probabilities; in training also their "logits"."""
        network = ChainNetwork(
            order=self.joint_order(how.skeleton),
            channels=self.channels,
            decoder_channels=self.decoder_channels,
            doublings=self.doublings,
            feedback=self.feedback,
            norm=how.norm,
            dtype=how.dtype,
            name="chain",
        )
        final = features["final"]
        cells = (2**self.doublings * (side - 1) + 1 for side in final.shape[1:3])
        truth = self._truth(how, Grid(*cells))
        beams = 1 if how.train else self.beams
        maps = network(final, truth=truth, beams=beams, train=how.train)
        logits, p = (jnp.moveaxis(each, 1, -1) for each in maps)
        return {"probability": p, "logits": logits} if how.train else {"probability": p}

    def _truth(self, how: Making, size: Grid) -> Truth | None:
        """What may be fed, and where it is."""
        if self.feedback == "none" or not (how.train or self.oracle):
            return None
        if how.teacher is None:
            if how.train:  # a network without a task
                return None
            raise ValueError("oracle = True: needs to be given the truth")
        targets, key, step = how.teacher
        points = jax.vmap(partial(positions.on_map, crop=how.grid, size=size))(targets.keypoints)
        if self.feedback == "peak":
            number, inside = jax.vmap(partial(positions.cells, size=size))(points)
            maps = positions.one_hot(number, size)
            known = targets.known & inside
        else:
            maps, known = jax.vmap(partial(self._target, size=size, grid=how.grid))(targets)
        told = jnp.ones_like(known)
        if how.train:
            assert key is not None  # a step of training has one
            told = draw_truth(key, truth_share(step, self.truth_steps), known.shape)
        return Truth(maps, known, told)

    def _target(
        self, targets: ChainTargets, size: Grid, grid: Grid
    ) -> tuple[Float[Array, "K H W"], Bool[Array, " K"]]:
        """The distribution of each joint over a map's cells, and which joints have a cell there."""
        points = positions.on_map(targets.keypoints, grid, size)
        stride = max(grid.height - 1, 1) / max(size.height - 1, 1)
        wanted = positions.distributions(points, size, sigma=self.target_sigma / stride)
        return wanted, targets.known & positions.cells(points, size)[1]

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> ChainTargets:
        """The places of the joints that are labelled and in the crop's picture."""
        del grid, skeleton
        known = crop.visible & crop.labelled & jnp.isfinite(crop.keypoints).all(axis=-1)
        return ChainTargets(jnp.where(known[:, None], crop.keypoints, 0.0), known)

    def losses(self, maps: Maps, targets: ChainTargets, grid: Grid) -> dict[str, Float[Array, ""]]:
        """The divergence of the logits from the targets, divided by the constant K."""
        logits = jnp.moveaxis(maps["logits"], -1, 0)
        wanted, known = self._target(targets, Grid(*logits.shape[1:]), grid)
        return {"divergence": positions.divergence(logits, wanted, known) / max(len(logits), 1)}

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The probability that the joint is within a cell of here, up-sampled."""
        p = jnp.asarray(maps["probability"], jnp.float32)
        return resize(_nearby(p), how.grid)

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """The best cells, or near them; the score is the probability to be within a cell of that.

        A joint whose map is not finite has a nan score, and so has its pose.
        """
        decoding = check_decoding(self, how.decoding)
        p = jnp.asarray(maps["probability"], jnp.float32)
        greatest = jnp.max(p, axis=(0, 1), keepdims=True)
        by = how._replace(decoding="dark" if decoding == "dark" else "argmax")
        shares = {"heatmap": p / jnp.where(greatest > 0, greatest, 1.0)}
        points, best, *_ = GaussianHeatmaps().decode(shares, by)
        p = jnp.where(jnp.isfinite(best)[None, None], p, 0.0)
        h, w, joints = p.shape
        index = jnp.argmax(p.reshape(h * w, joints), axis=0)
        cell = jnp.moveaxis(positions.one_hot(index, Grid(h, w)), 0, -1)
        near = jnp.where(_nearby(cell) > 0, p, 0.0)
        mass = jnp.sum(near, axis=(0, 1))
        if decoding == "expectation":
            rows, columns = (jnp.linspace(0.0, side - 1, n) for side, n in zip(how.grid, (h, w)))
            sums = (
                jnp.einsum(f"hwk,{axis}->k", near, along, precision="highest")
                for axis, along in (("w", columns), ("h", rows))
            )
            points = jnp.stack(list(sums), axis=-1) / jnp.where(mass > 0, mass, 1.0)[:, None]
        scores = jnp.where(jnp.isfinite(best), mass, jnp.nan)
        return Poses(points, scores, jnp.sum(scores) / max(joints, 1))

    def drawn_from(self, decoding: str) -> float:
        """A joint that is rather here than elsewhere."""
        return 0.25


def _nearby(p: Float[Array, "h w K"]) -> Float[Array, "h w K"]:
    """Sums over 3x3 cells."""
    p = jnp.pad(p, ((1, 1), (1, 1), (0, 0)))
    p = p[:-2] + p[1:-1] + p[2:]
    return p[:, :-2] + p[:, 1:-1] + p[:, 2:]
