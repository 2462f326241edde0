"""The detector as the trainer and the evaluators see it: init, loss, predict."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from g_rmi.config import DetectorConfig
from g_rmi.detector.box_head import BoxOutputs
from g_rmi.detector.decode import Proposals, detect, propose
from g_rmi.detector.losses import class_loss, localisation_loss, objectness_loss
from g_rmi.detector.model import DetectorNetwork
from g_rmi.detector.rpn import RPNOutputs
from g_rmi.detector.targets import Targets, jitter_boxes, sample_targets
from g_rmi.nn.resnet import picture_mask
from g_rmi.ops.anchors import anchor_boxes
from g_rmi.ops.boxes import clip_boxes
from g_rmi.training.metrics import Mean, masked_mean
from g_rmi.types import DetectionBatch, Detections


@dataclasses.dataclass(frozen=True)
class DetectorTask:
    """Trains and runs the detector of a config."""

    config: DetectorConfig

    @property
    def network(self) -> DetectorNetwork:
        """The linen module."""
        return DetectorNetwork(self.config)

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""
        side = 4 * self.config.output_stride  # no parameter depends on it
        image = jnp.zeros((1, side, side, 3), jnp.uint8)
        size = jnp.full((1, 2), side, jnp.int32)
        return dict(self.network.init(key, image, size, jnp.zeros((1, 1, 4), jnp.float32)))

    def resnet(self, variables: dict) -> dict:
        """The variables of the ResNet alone, as `with_resnet` takes them."""
        return {
            name: {**tree["trunk"], **tree["box_head"]["block4"]}
            for name, tree in variables.items()
        }

    def with_resnet(self, variables: dict, resnet: dict) -> dict:
        """`variables` with an imported ResNet (`g_rmi.pretrained`), block 4 in the box head."""
        filled = dict(variables)
        for name, tree in resnet.items():
            last = {unit: value for unit, value in tree.items() if unit.startswith("block4")}
            trunk = {unit: value for unit, value in tree.items() if unit not in last}
            head = {**variables[name]["box_head"], "block4": last}
            filled[name] = {**variables[name], "trunk": trunk, "box_head": head}
        return filled

    def loss(
        self,
        params: dict,
        model_state: dict,
        batch: DetectionBatch,
        key: PRNGKeyArray,
        *,
        train: bool,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Mean]]]:
        """Objectness, class, and twice localisation of both stages.

        Each term is that of one picture's sample; then the weighted mean over pictures.

        Returns:
          The loss, the new batch statistics and the terms as metrics.
        """
        c = self.config
        run = partial(self.network.apply, mutable=list(model_state), train=train)
        (features, rpn), state = run(
            {"params": params, **model_state}, batch.image, batch.size, method="propose"
        )
        anchors, usable = self.anchors(batch.image, batch.size)
        keys = jax.random.split(key, (2, batch.image.shape[0]))
        matched = self._rpn_targets(keys[0], anchors, usable, batch)
        proposals = self._proposals(jax.lax.stop_gradient(rpn), anchors, usable, batch.size)
        regions, drawn = jax.vmap(self._box_targets)(
            keys[1], proposals, batch.boxes, batch.person, batch.ignore, batch.size
        )
        outputs, state = run({"params": params, **state}, features, regions, method="classify")

        def example(rpn, matched, outputs, drawn):
            huber = partial(localisation_loss, delta=c.huber_delta)
            return {
                "objectness": objectness_loss(rpn.objectness[matched.index], matched),
                "proposal": huber(rpn.codes[matched.index], matched),
                "class": class_loss(outputs.logits, drawn),
                "box": huber(outputs.codes, drawn),
            }

        terms = jax.vmap(example)(rpn, matched, outputs, drawn)
        total = c.class_weight * (terms["objectness"] + terms["class"])
        total = total + c.localisation_weight * (terms["proposal"] + terms["box"])
        metrics = {name: masked_mean(term, batch.weight) for name, term in terms.items()}
        people = jnp.sum(drawn.person, axis=-1).astype(jnp.float32)
        metrics["people_sampled"] = masked_mean(people, batch.weight)
        metrics["loss"] = loss = masked_mean(total, batch.weight)
        return loss.total / jnp.maximum(loss.count, 1e-6), (dict(state), metrics)

    def predict(
        self,
        variables: dict,
        image: Num[Array, "B H W 3"],
        size: Int[Array, "B 2"],
        *,
        flip_test: bool = False,
    ) -> Detections:
        """Finds people.

        Args:
          variables: Parameters and statistics.
          image: RGB canvases in 0..255; what lies beside the pictures never changes a result.
          size: Rows and columns of the picture on each.
          flip_test: Look at the mirrored pictures, too; one suppression for what both show.

        Returns:
          [B, `detections`] rows, boxes in canvas pixels.
        """
        seen = self._look(variables, image, size)
        if flip_test:
            mirrored = self._look(variables, _mirror_pictures(image, size), size)
            seen = jax.tree.map(
                lambda *x: jnp.concatenate(x, 1), seen, _mirror_regions(*mirrored, size)
            )
        outputs, proposals = seen
        decode = partial(detect, config=self.config)
        return jax.vmap(decode)(*outputs, proposals, size)  # type: ignore[not-iterable]

    def anchors(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"]
    ) -> tuple[Float[Array, "A 4"], Array]:
        """The anchors of a canvas, and which of them have their centre on the picture, [B, A]."""
        c = self.config
        height, width = ((n - 1) // c.output_stride + 1 for n in image.shape[1:3])
        anchors = anchor_boxes(
            height=height,
            width=width,
            stride=c.output_stride,
            base=c.anchor_base,
            scales=c.anchor_scales,
            ratios=c.anchor_ratios,
        )
        mask = picture_mask(size, height=height, width=width, stride=c.output_stride)
        each = len(c.anchor_scales) * len(c.anchor_ratios)
        return anchors, jnp.repeat(mask.reshape(len(size), -1), each, axis=1)

    def _look(self, variables: dict, image: Array, size: Array) -> tuple[BoxOutputs, Proposals]:
        """Both steps of the network, with its own proposals between them."""
        run = partial(self.network.apply, variables)
        features, rpn = run(image, size, method="propose")  # type: ignore[not-iterable]
        proposals = self._proposals(rpn, *self.anchors(image, size), size)  # type: ignore[bad-argument-type]
        outputs = run(features, proposals.boxes, method="classify")
        return outputs, proposals  # type: ignore[bad-return]

    def _proposals(self, rpn: RPNOutputs, anchors: Array, usable: Array, size: Array) -> Proposals:
        best = partial(propose, config=self.config)
        return jax.vmap(best, in_axes=(0, 0, None, 0, 0))(*rpn, anchors, usable, size)

    def _rpn_targets(
        self, keys: Array, anchors: Array, usable: Array, batch: DetectionBatch
    ) -> Targets:
        c = self.config
        targets = partial(
            sample_targets,
            positive=c.rpn_positive,
            negative=c.rpn_negative,
            force=True,
            size=c.rpn_samples,
            positive_share=c.rpn_positive_share,
            even=c.rpn_even,
        )
        return jax.vmap(targets, in_axes=(0, None, 0, 0, 0, 0))(
            keys, anchors, usable, batch.boxes, batch.person, batch.ignore
        )

    def _box_targets(
        self,
        key: Array,
        proposals: Proposals,
        boxes: Array,
        person: Array,
        ignore: Array,
        size: Array,
    ) -> tuple[Float[Array, "S 4"], Targets]:
        """Regions of one picture. The annotated boxes are among them: proposals begin poor."""
        c = self.config
        annotated = boxes
        if c.box_jitter:
            key, draw = jax.random.split(key)
            annotated = clip_boxes(jitter_boxes(draw, boxes, deviation=c.box_jitter), size)
        regions = jnp.concatenate([proposals.boxes, annotated])
        targets = sample_targets(
            key,
            regions,
            jnp.concatenate([proposals.valid, person]),
            boxes,
            person,
            ignore,
            positive=c.box_positive,
            negative=c.box_positive,
            force=False,
            size=c.box_samples,
            positive_share=c.box_positive_share,
        )
        return regions[targets.index], targets


def _mirror_pictures(
    image: Num[Array, "B H W 3"], size: Int[Array, "B 2"]
) -> Num[Array, "B H W 3"]:
    """Exchanges left and right of the picture in the upper left corner of each canvas."""
    width = image.shape[2]
    columns = (size[:, 1:] - 1 - jnp.arange(width)[None]) % width
    return jnp.take_along_axis(image, columns[:, None, :, None], axis=2)


def _mirror_regions(
    outputs: BoxOutputs, proposals: Proposals, size: Int[Array, "B 2"]
) -> tuple[BoxOutputs, Proposals]:
    """What was seen in mirrored pictures, as if in the pictures themselves."""
    x0, y0, x1, y1 = jnp.moveaxis(proposals.boxes, -1, 0)
    width = size[:, 1:].astype(x0.dtype)
    boxes = jnp.stack([width - x1, y0, width - x0, y1], axis=-1)
    to_the_right = jnp.array([-1.0, 1.0, 1.0, 1.0])[None, None]
    return outputs._replace(codes=outputs.codes * to_the_right), proposals._replace(boxes=boxes)
