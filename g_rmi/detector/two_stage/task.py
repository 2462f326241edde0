"""A two-stage detector as the trainer and the programs see it: init, loss, predict."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from g_rmi.detector.detector import (
    Candidates,
    Places,
    backbone_of,
    each_class,
    look_and_select,
    with_backbone,
)
from g_rmi.detector.losses import (
    class_loss,
    class_losses,
    localisation_loss,
    localisation_losses,
    objectness_loss,
)
from g_rmi.detector.proposals import BoxOutputs, Proposals, RPNOutputs, canvas_anchors, propose
from g_rmi.detector.targets import (
    Targets,
    all_targets,
    hardest,
    jitter_boxes,
    label,
    sample_targets,
)
from g_rmi.detector.two_stage.config import TwoStageConfig
from g_rmi.detector.two_stage.network import TwoStageNetwork
from g_rmi.metrics import Mean, masked_mean
from g_rmi.ops.boxes import clip_boxes
from g_rmi.types import DetectionBatch, Detections

_BACKBONE: Places = (("trunk",), ("box_head", "block4"))


@dataclasses.dataclass(frozen=True)
class TwoStage:
    """All but the network of a `g_rmi.detector.detector.Detector` that proposes regions."""

    config: TwoStageConfig
    classes: tuple[str, ...] = ()
    stage: ClassVar[str] = "detector"

    @property
    def network(self) -> TwoStageNetwork:
        """The linen module."""
        raise NotImplementedError

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""
        side = 4 * self.config.output_stride  # no parameter depends on it
        image = jnp.zeros((1, side, side, 3), jnp.uint8)
        size = jnp.full((1, 2), side, jnp.int32)
        return dict(self.network.init(key, image, size, jnp.zeros((1, 1, 4), jnp.float32)))

    def backbone(self, variables: dict) -> dict:
        """The variables of the backbone alone, as `with_backbone` takes them."""
        return backbone_of(variables, _BACKBONE)

    def with_backbone(self, variables: dict, backbone: dict) -> dict:
        """`variables` with an imported backbone (`g_rmi.pretrained`), block 4 in the box head."""
        return with_backbone(variables, backbone, _BACKBONE)

    def loss(
        self,
        params: dict,
        model_state: dict,
        batch: DetectionBatch,
        key: PRNGKeyArray,
        *,
        train: bool,
        step: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Mean]]]:
        """Objectness, class, and twice localisation of both stages.

        Each term is that of one picture's sample; then the weighted mean over pictures.

        Returns:
          The loss, the new batch statistics and the terms as metrics.
        """
        del step  # there is no schedule
        c = self.config
        run = partial(self.network.apply, mutable=list(model_state), train=train)
        (features, rpn), state = run(
            {"params": params, **model_state}, batch.image, batch.size, method="propose"
        )
        anchors, usable = canvas_anchors(c, batch.image, batch.size)
        keys = jax.random.split(key, (2, batch.image.shape[0]))
        matched = jax.vmap(self._rpn_targets, (0, None, 0, 0))(keys[0], anchors, usable, batch)
        proposals = self._proposals(jax.lax.stop_gradient(rpn), anchors, usable, batch.size)
        regions, drawn = jax.vmap(self._box_targets)(keys[1], proposals, batch)
        outputs, state = run({"params": params, **state}, features, regions, method="classify")
        if c.hard_examples:
            outputs, drawn = jax.vmap(self._hardest)(outputs, drawn)

        def example(rpn, matched, outputs, drawn):
            huber = partial(localisation_loss, delta=c.huber_delta)
            return {
                "objectness": objectness_loss(rpn.objectness[matched.index], matched),
                "proposal": huber(rpn.deltas[matched.index], matched),
                "class": class_loss(outputs.logits, drawn),
                "box": huber(outputs.deltas, drawn),
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
        """Finds people: `Detector.predict`."""
        look, c = partial(self._look, variables), self.config
        options = {"count": c.detections, "iou": c.box_nms_iou}
        return look_and_select(look, image, size, flip_test=flip_test, **options)

    def _look(self, variables: dict, image: Array, size: Array) -> Candidates:
        """Both steps of the network, with its own proposals between them."""
        run = partial(self.network.apply, variables)
        features, rpn = run(image, size, method="propose")  # type: ignore[not-iterable]
        anchors, usable = canvas_anchors(self.config, image, size)
        proposals = self._proposals(rpn, anchors, usable, size)  # type: ignore[bad-argument-type]
        outputs: Any = run(features, proposals.boxes, method="classify")
        if self.classes:
            scores = jax.nn.softmax(outputs.logits)[..., 1:]
            return each_class(scores, outputs.deltas, *proposals)
        return Candidates(person_scores(outputs.logits), outputs.deltas, *proposals)

    def _proposals(self, rpn: RPNOutputs, anchors: Array, usable: Array, size: Array) -> Proposals:
        best = partial(propose, config=self.config)
        return jax.vmap(best, in_axes=(0, 0, None, 0, 0))(*rpn, anchors, usable, size)

    @property
    def _rpn_targets(self) -> Callable[..., Targets]:
        """`sample_targets` for the anchors of one picture."""
        c = self.config
        return partial(
            sample_targets,
            positive=c.rpn_positive,
            negative=c.rpn_negative,
            force=True,
            size=c.rpn_samples,
            positive_share=c.rpn_positive_share,
            even=c.rpn_balanced,
        )

    def _box_targets(
        self, key: Array, proposals: Proposals, truth: DetectionBatch
    ) -> tuple[Float[Array, "S 4"], Targets]:
        """Regions of one picture. The annotated boxes are among them: proposals begin poor."""
        c, annotated = self.config, truth.boxes
        if c.box_jitter:
            key, draw = jax.random.split(key)
            annotated = jitter_boxes(draw, annotated, deviation=c.box_jitter)
            annotated = clip_boxes(annotated, truth.size)
        regions = jnp.concatenate([proposals.boxes, annotated])
        usable = jnp.concatenate([proposals.valid, truth.person])
        options = {"positive": c.box_positive, "negative": c.box_positive, "force": False}
        if c.hard_examples:  # all are looked into, then the worst are chosen
            return regions, all_targets(label(regions, usable, truth, **options), regions, truth)
        share = {"size": c.box_samples, "positive_share": c.box_positive_share}
        targets = sample_targets(key, regions, usable, truth, **options, **share)
        return regions[targets.index], targets

    def _hardest(self, outputs: BoxOutputs, targets: Targets) -> tuple[BoxOutputs, Targets]:
        """Online hard example mining on one picture; which rows are hard has no gradient."""
        losses = class_losses(outputs.logits, targets.person, targets.classes)
        losses += localisation_losses(outputs.deltas, targets, delta=self.config.huber_delta)
        index, valid = hardest(
            jax.lax.stop_gradient(losses), targets.valid, self.config.hard_examples
        )
        outputs, targets = jax.tree.map(lambda x: x[index], (outputs, targets))
        return outputs, targets._replace(valid=valid)


def person_scores(logits: Float[Array, "*B R 2"]) -> Float[Array, "*B R"]:
    """Probabilities of a person, against background."""
    return jax.nn.softmax(logits)[..., 1]
