"""SSD as the trainer and the programs see it: init, loss, predict."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from g_rmi.detector.detector import (
    Candidates,
    Places,
    backbone_of,
    each_class,
    look_and_select,
    with_backbone,
)
from g_rmi.detector.losses import localisation_losses
from g_rmi.detector.ssd.anchors import picture_anchors
from g_rmi.detector.ssd.config import SSDConfig
from g_rmi.detector.ssd.network import SSDNetwork
from g_rmi.detector.targets import all_targets, label
from g_rmi.metrics import Mean, masked_mean
from g_rmi.nn.losses import logistic
from g_rmi.ops.sampling import hard_negatives
from g_rmi.types import DetectionBatch, Detections

# People whose sides are shorter, in canvas pixels, are not learnt: their deltas would be huge.
_MIN_SIDE = 1.0
_BACKBONE: Places = (("trunk",),)


@dataclasses.dataclass(frozen=True)
class SSD:
    """Trains and runs the SSD of a config; see `g_rmi.detector.detector.Detector`."""

    config: SSDConfig
    classes: tuple[str, ...] = ()
    stage: ClassVar[str] = "detector"

    @property
    def network(self) -> SSDNetwork:
        """The linen module."""
        return SSDNetwork(self.config, len(self.classes))

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""
        side = 4 * self.config.output_stride  # no parameter depends on it
        size = jnp.full((1, 2), side, jnp.int32)
        return dict(self.network.init(key, jnp.zeros((1, side, side, 3), jnp.uint8), size))

    def backbone(self, variables: dict) -> dict:
        """The backbone's variables, as `with_backbone` takes them; there is no block 4."""
        return backbone_of(variables, _BACKBONE)

    def with_backbone(self, variables: dict, backbone: dict) -> dict:
        """`variables` with blocks 1-3 of an imported backbone (`g_rmi.pretrained`)."""
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
        """Class and box, summed over a batch and divided by its positive anchors, 1 at least.

        Of accumulated micro-batches, each without positive anchors counts as having one.

        Returns:
          The loss, the new batch statistics and the terms as metrics.
        """
        del key, step  # nothing is drawn or follows a schedule
        c = self.config
        (outputs, grids), state = self.network.apply(
            {"params": params, **model_state},
            batch.image,
            batch.size,
            mutable=list(model_state),
            train=train,
        )
        anchors, usable = picture_anchors(c, grids, batch.size)
        rows = outputs.logits, outputs.deltas, anchors, usable, batch
        terms = jax.vmap(partial(picture_loss, config=c))(*rows)
        metrics = {name: masked_mean(term, batch.weight) for name, term in terms.items()}
        pictures, positives = metrics["positives"].count, metrics["positives"].total
        count = jnp.where(pictures > 0, jnp.maximum(positives, 1.0), 0.0)
        classes, boxes = metrics["class"].total, metrics["box"].total
        total = c.class_weight * classes + c.localisation_weight * boxes
        sums = {"class": classes, "box": boxes, "loss": total}
        metrics |= {name: Mean(value, count) for name, value in sums.items()}
        return total / jnp.maximum(count, 1e-6), (dict(state), metrics)

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
        options = {"candidates": c.candidates, "count": c.detections, "iou": c.box_nms_iou}
        return look_and_select(look, image, size, flip_test=flip_test, **options)

    def _look(self, variables: dict, image: Array, size: Array) -> Candidates:
        """Every anchor."""
        outputs, grids = self.network.apply(variables, image, size)  # type: ignore[not-iterable]
        anchors, usable = picture_anchors(self.config, grids, size)  # type: ignore[bad-argument-type]
        make = each_class if self.classes else Candidates
        return make(jax.nn.sigmoid(outputs.logits), outputs.deltas, anchors, usable)


def picture_loss(
    logits: Float[Array, " A *C"],
    deltas: Float[Array, "A 4"],
    anchors: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    truth: DetectionBatch,
    *,
    config: SSDConfig,
) -> dict[str, Float[Array, ""]]:
    """Sums over a picture's anchors.

    Logistic loss of the positive ones and of the hardest negatives (its sum over classes), Huber
    loss of the positive; how many there are of both, and how many people no anchor learns from.
    """
    c = config
    large = (truth.boxes[:, 2:] - truth.boxes[:, :2] >= _MIN_SIDE).all(-1)
    truth = truth._replace(person=truth.person & large)
    options = {"positive": c.positive, "negative": c.positive, "claim": True}
    labels = label(anchors, usable, truth, window=truth.size, **options)
    targets = all_targets(labels, anchors, truth)
    right = targets.person.astype(jnp.float32)
    if targets.classes is None:
        losses = logistic(logits, right)
    else:
        own = jax.nn.one_hot(targets.classes, logits.shape[1])
        losses = logistic(logits, own * right[:, None]).sum(1)
    positives = targets.person.sum().astype(jnp.float32)
    wanted = jnp.maximum(c.negatives_per_positive * positives, float(c.min_negatives))
    mined = hard_negatives(jax.lax.stop_gradient(losses), labels.negative, wanted)
    boxes = localisation_losses(deltas, targets, delta=c.huber_delta)
    learnt = jnp.zeros(len(truth.person), bool).at[labels.index].max(targets.person)
    return {
        "class": jnp.sum(losses, where=targets.person | mined),
        "box": boxes.sum(),
        "positives": positives,
        "negatives": mined.sum().astype(jnp.float32),
        "people_missed": (truth.person & ~learnt).sum().astype(jnp.float32),
    }
