"""SSD as the trainer and the programs see it: init, loss, predict."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from g_rmi.detector.detector import best, mirror_boxes, mirror_deltas, mirror_pictures, select
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


@dataclasses.dataclass(frozen=True)
class SSD:
    """Trains and runs the SSD of a config; see `g_rmi.detector.detector.Detector`."""

    config: SSDConfig
    stage: ClassVar[str] = "detector"

    @property
    def network(self) -> SSDNetwork:
        """The linen module."""
        return SSDNetwork(self.config)

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""
        side = 4 * self.config.output_stride  # no parameter depends on it
        size = jnp.full((1, 2), side, jnp.int32)
        return dict(self.network.init(key, jnp.zeros((1, side, side, 3), jnp.uint8), size))

    def resnet(self, variables: dict) -> dict:
        """The variables of the ResNet alone, as `with_resnet` takes them; there is no block 4."""
        return {name: tree["trunk"] for name, tree in variables.items()}

    def with_resnet(self, variables: dict, resnet: dict) -> dict:
        """`variables` with blocks 1-3 of an imported ResNet (`g_rmi.pretrained`)."""
        filled = dict(variables)
        for name, tree in resnet.items():
            trunk = {unit: value for unit, value in tree.items() if not unit.startswith("block4")}
            filled[name] = {**variables[name], "trunk": trunk}
        return filled

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
        seen = self._look(variables, image, size)
        if flip_test:
            mirrored = self._look(variables, mirror_pictures(image, size), size)
            logits, deltas, anchors, usable = mirrored
            there = logits, mirror_deltas(deltas), mirror_boxes(anchors, size), usable
            seen = jax.tree.map(lambda *x: jnp.concatenate(x, 1), seen, there)
        logits, deltas, anchors, usable = seen
        decode = jax.vmap(partial(detect, config=self.config))
        return decode(logits, deltas, anchors, usable, size)

    def _look(
        self, variables: dict, image: Array, size: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Logits, deltas, anchors, and which are on the picture."""
        outputs, grids = self.network.apply(variables, image, size)  # type: ignore[not-iterable]
        anchors, usable = picture_anchors(self.config, grids, size)  # type: ignore[bad-argument-type]
        return outputs.logits, outputs.deltas, anchors, usable


def picture_loss(
    logits: Float[Array, " A"],
    deltas: Float[Array, "A 4"],
    anchors: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    truth: DetectionBatch,
    *,
    config: SSDConfig,
) -> dict[str, Float[Array, ""]]:
    """Sums over a picture's anchors.

    Logistic loss of the positive ones and of the hardest negatives, Huber loss of the positive; how
    many there are of both, and how many people no anchor learns from.
    """
    c = config
    large = (truth.boxes[:, 2:] - truth.boxes[:, :2] >= _MIN_SIDE).all(-1)
    truth = truth._replace(person=truth.person & large)
    options = {"positive": c.positive, "negative": c.positive, "claim": True}
    labels = label(anchors, usable, truth, window=truth.size, **options)
    targets = all_targets(labels, anchors, truth)
    losses = logistic(logits, targets.person.astype(jnp.float32))
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


def detect(
    logits: Float[Array, " A"],
    deltas: Float[Array, "A 4"],
    anchors: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    size: Int[Array, " 2"],
    *,
    config: SSDConfig,
) -> Detections:
    """People on one picture: the best anchors, decoded, after suppression."""
    index, valid = best(logits, usable, config.candidates)
    scores = jax.nn.sigmoid(logits[index])
    options = {"count": config.detections, "iou": config.box_iou}
    return select(deltas[index], anchors[index], scores, valid, size, **options)
