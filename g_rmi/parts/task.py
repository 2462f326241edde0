"""The bottom-up stage as the trainer and the programs see it: init, loss, predict."""

import dataclasses
import typing
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from g_rmi.metrics import Mean, masked_mean
from g_rmi.nn.losses import logistic
from g_rmi.ops.pair_costs import FEATURES, PairModel
from g_rmi.ops.parts import PartTargets, part_targets
from g_rmi.parts.config import PartsConfig
from g_rmi.parts.decode import Decoding, PartMaps, Problem, hulls, people, problem, solve
from g_rmi.pose.heads.head import Maps
from g_rmi.pose.heads.parts import square, vector_loss
from g_rmi.pose.network import PoseNetwork
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import PartsBatch, Poses


@dataclasses.dataclass(frozen=True)
class PartsTask:
    """Trains and runs the network of a config on whole pictures.

    Among its variables, "pairs" holds the regressions (`PairModel`), which training leaves alone
    and `g_rmi.parts.regression` fits afterwards; before that, no pair is known.
    """

    config: PartsConfig
    skeleton: Skeleton = COCO
    stage: ClassVar[str] = "parts"

    @property
    def network(self) -> PoseNetwork:
        """The linen module."""
        return PoseNetwork(self.config, self.skeleton)

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ..., "statistics": ..., "pairs": ...}."""
        side = 4 * self.config.output_stride + 1  # no parameter depends on it
        variables = dict(self.network.init(key, jnp.zeros((1, side, side, 3), jnp.uint8)))
        return variables | {"pairs": as_variables(no_pairs(len(self.skeleton)))}

    def backbone(self, variables: dict) -> dict:
        """The variables of the backbone alone, as `with_backbone` takes them."""
        return {name: tree["trunk"] for name, tree in variables.items() if "trunk" in tree}

    def with_backbone(self, variables: dict, backbone: dict) -> dict:
        """`variables` with an imported backbone (`g_rmi.pretrained`)."""
        return {
            name: {**tree, "trunk": {**tree["trunk"], **backbone[name]}}
            if name in backbone
            else tree
            for name, tree in variables.items()
        }

    def loss(
        self,
        params: dict,
        model_state: dict,
        batch: PartsBatch,
        key: PRNGKeyArray,
        *,
        train: bool,
        step: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Mean]]]:
        """The weighted terms, a mean over pictures; new batch statistics; terms as metrics."""
        del key, step  # nothing is drawn, nor changes with the steps
        state = {name: tree for name, tree in model_state.items() if name != "pairs"}
        maps, new_state = self.network.apply(
            {"params": params, **state}, batch.image, train=train, mutable=list(state)
        )
        terms = jax.vmap(partial(picture_losses, config=self.config))(maps, batch)
        weights = self.config.head.weights
        metrics = {name: masked_mean(term, batch.weight) for name, term in terms.items()}
        total = jnp.sum(jnp.stack([weights[name] * term for name, term in terms.items()]), axis=0)
        metrics["loss"] = loss = masked_mean(total, batch.weight)
        state = {**model_state, **dict(new_state)}
        return loss.total / jnp.maximum(loss.count, 1e-6), (state, metrics)

    def decoding(self, wanted: str | None) -> str:
        """The solver: as wanted, as the config says for None; a ValueError names the nearest."""
        known = typing.get_args(typing.get_type_hints(Decoding)["solver"])
        if wanted not in (None, *known):
            raise ValueError(f"decoding {wanted!r}: the parts have {', '.join(known)}")
        return wanted or self.config.decoding.solver

    def problems(
        self, variables: dict, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"]
    ) -> Problem:
        """Candidates of canvases and their costs, in canvas pixels."""
        network = {name: tree for name, tree in variables.items() if name != "pairs"}
        maps: Maps = self.network.apply(network, image)  # type: ignore[bad-assignment]
        stride = _stride(image.shape, maps["score"].shape)
        typical = typical_offsets(variables, len(self.skeleton))

        def one(maps, size):
            usable = on_picture(maps["score"].shape, size, stride)
            read = PartMaps(maps["score"], maps["offset"], maps["pairwise"])
            model = as_model(variables["pairs"], len(self.skeleton))
            how = {"stride": stride, "decoding": self.config.decoding, "typical": typical}
            return problem(read, usable, model, **how)

        return jax.vmap(one)({name: maps[name] for name in PartMaps._fields}, size)

    def predict(
        self,
        variables: dict,
        image: Num[Array, "B H W 3"],
        size: Int[Array, "B 2"],
        decoding: str | None = None,
    ) -> tuple[Poses, Float[Array, "B P 4"], Bool[Array, "B P"]]:
        """People of canvases, best first, the boxes around their joints, and which rows are people.

        All in canvas pixels. `image` is RGB in 0..255, `size` rows and columns of the picture on
        each canvas; candidates beside it do not count. `decoding` is another solver than the
        config's.
        """
        solver: Any = self.decoding(decoding)
        how = dataclasses.replace(self.config.decoding, solver=solver)

        def one(problem):
            labels = solve(problem, self.skeleton, decoding=how)
            poses, found = people(problem, labels, decoding=how)
            return poses, hulls(poses.keypoints, found), found.any(axis=1)

        return jax.vmap(one)(self.problems(variables, image, size))


def typical_offsets(variables: dict, joints: int) -> Float[Array, "K K 2"]:
    """The mean offsets from joint a to joint b of the training set in pixels, 0 on the diagonal."""
    if joints < 2:  # no pairs, no statistics
        return jnp.zeros((joints, joints, 2))
    means = jnp.asarray(variables["statistics"]["pairs"]["mean"]).reshape(-1, 2)
    return square(means, joints, 0.0)


def as_variables(model: PairModel) -> dict[str, np.ndarray]:
    """Regressions as variables: vectors, which are averaged and saved in float32."""
    return {name: np.asarray(x, np.float32).ravel() for name, x in model._asdict().items()}


def as_model(variables: dict[str, Any], joints: int) -> PairModel:
    """The regressions that `as_variables` has made variables of."""
    pairs = (joints, joints)
    shapes = {"weights": (*pairs, FEATURES), "bias": pairs, "known": pairs}
    model = {name: jnp.asarray(variables[name]).reshape(shape) for name, shape in shapes.items()}
    return PairModel(**model | {"known": model["known"] > 0.5})


def no_pairs(joints: int) -> PairModel:
    """The regressions before they are fitted."""
    pairs = (joints, joints)
    weights, bias = np.zeros((*pairs, FEATURES), np.float32), np.zeros(pairs, np.float32)
    on_host: Any = (weights, bias, np.zeros(pairs, bool))
    return PairModel(*on_host)


def picture_losses(
    maps: Maps, batch: PartsBatch, *, config: PartsConfig
) -> dict[str, Float[Array, ""]]:
    """The terms of one picture: logistic of scores, Huber of standardised vectors.

    Each is a mean over what counts (DeeperCut). Nothing is taught where there may be people who are
    not labelled: in regions to ignore, and in pictures that are not complete but for the boxes of
    labelled people. Disks of labelled joints count everywhere.
    """
    head, shape = config.head, maps["score"].shape
    stride = _stride((1, *batch.image.shape), (1, *shape))
    targets = targets_of(batch, shape[:2], stride=stride, radius=head.radius)
    counts = teaches(batch, shape, stride)[..., None] | targets.inside
    counts &= batch.labelled[None, None]
    positions = jnp.maximum(jnp.sum(counts, dtype=jnp.float32), 1.0)
    terms = {
        name: jnp.sum(logistic(maps[name], targets.score), where=counts) / positions
        for name in ("score", "intermediate")
        if name in maps
    }
    inside = targets.inside & batch.labelled[None, None]
    error = (maps["offset"] - stride * targets.offset) / head.offset_std
    terms["offset"] = vector_loss(error, inside)
    error = (maps["pairwise"] - stride * targets.pairwise) / maps["pairwise_std"][None, None]
    return terms | {"pairwise": vector_loss(error, targets.known)}


def targets_of(
    batch: PartsBatch, grid: tuple[int, ...], *, stride: float, radius: float
) -> PartTargets:
    """`part_targets` of everybody in one picture, vectors in cells of the map."""
    visible = batch.visible & batch.labelled[None]
    size = {"height": grid[0], "width": grid[1]}
    return part_targets(batch.keypoints / stride, visible, **size, radius=radius / stride)


def teaches(batch: PartsBatch, shape: tuple[int, ...], stride: float) -> Bool[Array, "H W"]:
    """Cells on the picture where who is not labelled is not there."""
    y = stride * jnp.arange(shape[0], dtype=jnp.float32)[:, None, None]
    x = stride * jnp.arange(shape[1], dtype=jnp.float32)[None, :, None]
    # A box begins half a pixel before the first centre.
    x0, y0, x1, y1 = (batch.boxes[None, None, :, i] - 0.5 for i in range(4))
    within = (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
    person = batch.visible.any(axis=-1)[None, None]
    known = batch.complete | jnp.any(within & person, axis=-1)
    hidden = jnp.any(within & batch.ignore[None, None], axis=-1)
    return on_picture(shape, batch.size, stride) & known & ~hidden


def on_picture(shape: tuple[int, ...], size: Int[Array, " 2"], stride: float) -> Bool[Array, "H W"]:
    """Cells of a map whose centres lie on the picture in the canvas's corner."""
    rows, columns = (stride * jnp.arange(n, dtype=jnp.float32) for n in shape[:2])
    height, width = (size[i].astype(jnp.float32) for i in range(2))
    return (rows < height)[:, None] & (columns < width)[None]


def _stride(image: tuple[int, ...], maps: tuple[int, ...]) -> float:
    """Pixels per cell of maps that lie align-corners on their canvas."""
    return (image[1] - 1) / (maps[1] - 1)
