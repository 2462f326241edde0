"""The pose stage as the trainer and the evaluators see it: init, loss, predict."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, PyTree

from g_rmi.geometry import Affine
from g_rmi.metrics import Mean, masked_mean
from g_rmi.pose import views
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.head import Maps, Reading, Teacher, check_decoding, frozen_parts
from g_rmi.pose.network import PoseNetwork
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import Grid, PoseBatch, Poses


@dataclasses.dataclass(frozen=True)
class PoseTask:
    """Trains and runs the pose network of a config on a skeleton."""

    config: PoseConfig
    skeleton: Skeleton = COCO
    # Of a network for several classes, if the skeleton is that of one: that of all of them, and
    # where its joints begin there; see `of_class`.
    whole: Skeleton | None = None
    first: int = 0
    stage: ClassVar[str] = "pose"

    @property
    def network(self) -> PoseNetwork:
        """The linen module."""
        return PoseNetwork(self.config, self.whole or self.skeleton)

    def of_class(self, name: str) -> "PoseTask":
        """The same network to find one of its skeleton's classes: only those joints are read."""
        own, block = self.skeleton.of_class(name), self.skeleton.blocks[name]
        return PoseTask(self.config, own, self.skeleton, block.start)

    @property
    def grid(self) -> Grid:
        """Of a crop."""
        return self.config.grid

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of parameters that a training leaves as they are."""
        return frozen_parts(self.config.head)

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""
        return dict(self.network.init(key, jnp.zeros((1, *self.grid, 3), jnp.uint8)))

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

    def targets(self, batch: PoseBatch) -> PyTree:
        """What the head's maps of a batch should say."""
        given = {"grid": self.grid, "skeleton": self.skeleton}
        return jax.vmap(partial(self.config.head.targets, **given))(batch)

    def loss(
        self,
        params: dict,
        model_state: dict,
        batch: PoseBatch,
        key: PRNGKeyArray,
        *,
        train: bool,
        step: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Mean]]]:
        """The head's loss, a weighted mean over rows; new batch statistics; terms as metrics."""
        head, targets = self.config.head, self.targets(batch)
        maps, new_state = self.network.apply(
            {"params": params, **model_state},
            batch.image,
            train=train,
            teacher=Teacher(targets, key, step),
            mutable=list(model_state),
        )
        terms = jax.vmap(partial(head.losses, grid=self.grid))(maps, targets)
        metrics = {name: masked_mean(term, batch.weight) for name, term in terms.items()}
        weighted = [head.weights[name] * term for name, term in terms.items()]
        total = jnp.sum(jnp.stack(weighted), axis=0)
        metrics["loss"] = loss = masked_mean(total, batch.weight)
        # A batch of nothing but filling rows has loss 0, not nan.
        return loss.total / jnp.maximum(loss.count, 1e-6), (dict(new_state), metrics)

    def predict(
        self,
        variables: dict,
        image: Num[Array, "B *views H W 3"],
        *,
        flip_test: bool = False,
        turns: Sequence[Affine] = (),
        truth: PyTree = None,
    ) -> dict[str, Float[Array, "B h w ..."]]:
        """Coarse maps of RGB crops in 0..255: the head's `fields`, by name.

        They are averaged with those of the mirrored crops in the flip test, and of further views,
        which stand behind each crop: `turns` maps its pixels to theirs (`g_rmi.pose.views`). The
        head's targets of the crops are the `truth` for heads that ask for it. A ValueError if crops
        have other views than `turns`, or more than one where there is a truth.
        """
        if truth is not None and (flip_test or turns):
            raise ValueError("the truth about a crop is not that about its other views")
        if truth is not None and self.whole is not None:
            raise ValueError("the truth about one class is not that about all")
        several = (1 + len(turns),) if turns else ()
        if image.shape[1:-3] != several:
            wanted = f"[B, {''.join(f'{size}, ' for size in several)}H, W, 3]"
            raise ValueError(
                f"image of shape {image.shape}: {len(turns)} turned views take {wanted}"
            )
        if turns:
            image = jnp.concatenate(jnp.unstack(image, axis=1))
        seen = [views.STRAIGHT, *turns]
        if flip_test:
            image = jnp.concatenate([image, image[..., ::-1, :]])
            seen += [views.mirrored(view, width=self.grid.width) for view in seen]
        maps: Maps = self.network.apply(  # type: ignore[bad-assignment]
            variables, image, teacher=None if truth is None else Teacher(truth)
        )
        whole, fields = self.whole or self.skeleton, self.config.head.fields
        maps = views.merge(maps, seen, fields, flip=whole.flip_index, grid=self.grid)
        return maps if self.whole is None else self.block(maps)

    def block(self, maps: Maps) -> dict[str, Float[Array, "B h w ..."]]:
        """Of the maps of all classes those of the one that this task finds."""
        joints = slice(self.first, self.first + len(self.skeleton))
        return {
            field.name: maps[field.name][
                (..., *(joints,) * field.joints, *(slice(None),) * field.vector)
            ]
            for field in self.config.head.fields
        }

    def decoding(self, wanted: str | None) -> str:
        """How maps are read: as wanted, as the config says for None; see `check_decoding`."""
        return check_decoding(self.config.head, wanted)

    def reading(self, decoding: str | None = None) -> Reading:
        """What the head needs to know to read maps; raises as `decoding` does."""
        scale, decoding = self.config.box_scale, self.decoding(decoding)
        return Reading(self.grid, self.skeleton.sigmas, scale, decoding)

    def decode(self, maps: Maps, decoding: str | None = None) -> Poses:
        """The poses of a batch of maps, each in the pixels of its crop."""
        return jax.vmap(partial(self.config.head.decode, how=self.reading(decoding)))(maps)
