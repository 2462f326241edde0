"""The pose stage as the trainer and the evaluators see it: init, loss, predict."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray

from g_rmi.config import PoseConfig
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.losses import heatmap_loss, offset_loss
from g_rmi.pose.model import PoseMaps, PoseNetwork
from g_rmi.pose.targets import PoseTargets, pose_targets
from g_rmi.pose.turn import merge
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.training.metrics import Mean, masked_mean
from g_rmi.types import PoseBatch


@dataclasses.dataclass(frozen=True)
class PoseTask:
    """Trains and runs the pose network of a config on a skeleton."""

    config: PoseConfig
    skeleton: Skeleton = COCO

    @property
    def network(self) -> PoseNetwork:
        """The linen module."""
        return PoseNetwork(self.config, len(self.skeleton))

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""
        image = jnp.zeros((1, self.config.crop_height, self.config.crop_width, 3), jnp.uint8)
        return dict(self.network.init(key, image))

    def resnet(self, variables: dict) -> dict:
        """The variables of the ResNet alone, as `with_resnet` takes them."""
        return {name: tree["trunk"] for name, tree in variables.items()}

    def with_resnet(self, variables: dict, resnet: dict) -> dict:
        """`variables` with the trunk of an imported ResNet (`g_rmi.pretrained`)."""
        return {
            name: {**tree, "trunk": resnet[name]} if name in resnet else tree
            for name, tree in variables.items()
        }

    def targets(self, batch: PoseBatch) -> PoseTargets:
        """Targets of a batch on the grid of the losses."""
        c = self.config
        targets = partial(
            pose_targets,
            height=c.crop_height,
            width=c.crop_width,
            radius=c.radius,
            stride=c.loss_stride,
        )
        return jax.vmap(targets)(
            batch.keypoints,
            batch.visible,
            batch.labelled,
            batch.other_keypoints,
            batch.other_visible,
        )

    def loss(
        self, params: dict, model_state: dict, batch: PoseBatch, key: PRNGKeyArray, *, train: bool
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Mean]]]:
        """The paper's loss: 4 heatmap + 1 offset, plus the auxiliary heatmap head.

        Every term is a sum over labelled joints and grid positions divided by the constant
        K H W, so that the terms keep the paper's proportions whatever is labelled; then the
        weighted mean over the rows of the batch.

        Returns:
          The loss, the new batch statistics and the terms as metrics.
        """
        del key  # The network draws no random numbers.
        maps, new_state = self.network.apply(
            {"params": params, **model_state}, batch.image, train=train, mutable=list(model_state)
        )
        targets = self.targets(batch)
        _, rows, columns, k = targets.heatmap.shape
        c = self.config

        def example(heatmap, offset, auxiliary, target: PoseTargets):
            resize = partial(resize_align_corners, height=rows, width=columns)
            labelled = jnp.broadcast_to(target.labelled[None, None], (rows, columns, k))
            offset = resize(offset.reshape(*offset.shape[:2], -1)).reshape(rows, columns, k, 2)
            terms = {
                "heatmap": heatmap_loss(resize(heatmap), target.heatmap, labelled),
                "offset": offset_loss(
                    offset, target.offset, target.inside & labelled, delta=c.huber_delta
                ),
            }
            if auxiliary is not None:
                include = labelled & ~target.elsewhere
                terms["auxiliary"] = heatmap_loss(resize(auxiliary), target.heatmap, include)
            return {name: term / (rows * columns * k) for name, term in terms.items()}

        terms = jax.vmap(example)(maps.heatmap, maps.offset, maps.auxiliary, targets)
        weights = {
            "heatmap": c.heatmap_weight,
            "offset": c.offset_weight,
            "auxiliary": c.auxiliary_weight,
        }
        total = jnp.sum(jnp.stack([weights[name] * term for name, term in terms.items()]), axis=0)
        metrics = {name: masked_mean(term, batch.weight) for name, term in terms.items()}
        metrics["loss"] = loss = masked_mean(total, batch.weight)
        # A batch of nothing but filling rows has loss 0, not nan.
        return loss.total / jnp.maximum(loss.count, 1e-6), (dict(new_state), metrics)

    def predict(
        self,
        variables: dict,
        image: Num[Array, "B *views H W 3"],
        *,
        flip_test: bool = False,
        turn_test: bool = False,
    ) -> PoseMaps:
        """Coarse maps of crops.

        Args:
          variables: Parameters and statistics.
          image: RGB crops in 0..255; for the turn test each with its turned views
            (`g_rmi.pose.turn.turns`) behind it.
          flip_test: Average the maps with those of the mirrored crops.
          turn_test: Average the maps with those of the turned views.

        Returns:
          Maps without the auxiliary head.

        Raises:
          ValueError: Crops without views for the turn test, or with views without it.
        """
        if image.ndim != 4 + turn_test or (turn_test and image.shape[1] != 3):
            wanted = "[B, 3, H, W, 3]" if turn_test else "[B, H, W, 3]"
            raise ValueError(
                f"image of shape {image.shape}: turn_test = {turn_test} takes {wanted}"
            )
        views = jnp.concatenate(jnp.unstack(image, axis=1)) if turn_test else image
        maps: PoseMaps = self.network.apply(variables, views)  # type: ignore[bad-assignment]
        if turn_test:
            maps = merge(maps, height=self.config.crop_height, width=self.config.crop_width)
        if not flip_test:
            return maps
        mirrored = image[..., ::-1, :]
        if turn_test:
            # Clockwise in the picture is counterclockwise in its mirror image.
            mirrored = mirrored[:, np.array([0, 2, 1])]
        mirrored = self.predict(variables, mirrored, turn_test=turn_test)
        order = self.skeleton.flip_index
        heatmap = mirrored.heatmap[:, :, ::-1, order]
        offset = mirrored.offset[:, :, ::-1, order] * jnp.array([-1.0, 1.0])[(None,) * 4]
        return PoseMaps((maps.heatmap + heatmap) / 2, (maps.offset + offset) / 2, None)
