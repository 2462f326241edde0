"""What a detector is, and what all of them share: selection and the look into the mirror."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, PyTree

from g_rmi.ops.boxes import clip_boxes, decode_boxes
from g_rmi.ops.nms import box_nms
from g_rmi.types import Detections


@runtime_checkable
class Detector(Protocol):
    """A person detector: `g_rmi.training.task.Task`, and pictures to people.

    The config has `canvas`, the shorter and longer side of the canvas that pictures are fitted to,
    and `detections`, the most people of a picture.
    """

    stage: ClassVar[str] = "detector"

    @property
    def config(self) -> Any:
        """Of the network, its targets, losses and decoding; frozen."""

    def init(self, key: PRNGKeyArray) -> dict:
        """Fresh variables: {"params": ..., "batch_stats": ...}."""

    def loss(
        self,
        params: PyTree,
        model_state: dict,
        batch: Any,
        key: PRNGKeyArray,
        *,
        train: bool,
        step: Int[Array, ""] | int = 0,
    ) -> Any:
        """See `g_rmi.training.task.Task`; the batch is a `g_rmi.types.DetectionBatch`."""

    def predict(
        self,
        variables: dict,
        image: Num[Array, "B H W 3"],
        size: Int[Array, "B 2"],
        *,
        flip_test: bool = False,
    ) -> Detections:
        """Finds people: [B, `detections`] rows, boxes in canvas pixels.

        `image` is RGB canvases in 0..255, `size` rows and columns of the picture on each; what lies
        beside it never changes a result. `flip_test` looks at the mirrored pictures, too, with one
        suppression for what both show.
        """

    def resnet(self, variables: dict) -> dict:
        """The variables of the ResNet alone, as `with_resnet` takes them."""

    def with_resnet(self, variables: dict, resnet: dict) -> dict:
        """`variables` with an imported ResNet (`g_rmi.pretrained`)."""


def select(
    deltas: Float[Array, "N 4"],
    regions: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    usable: Bool[Array, " N"],
    size: Int[Array, " 2"],
    *,
    count: int,
    iou: float,
) -> Detections:
    """The boxes that deltas make of regions, inside a picture; NMS, then the best `count`."""
    boxes = clip_boxes(decode_boxes(deltas, regions), size)
    usable = usable & (boxes[:, 2:] > boxes[:, :2]).all(-1)
    keep = box_nms(boxes, scores, usable, threshold=iou, limit=count)
    index, valid = best(scores, keep, count)
    return Detections(
        jnp.where(valid[:, None], boxes[index], 0.0), jnp.where(valid, scores[index], 0.0), valid
    )


def best(
    scores: Float[Array, " N"], usable: Bool[Array, " N"], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Indices of the `count` highest scores, best first, ties by the lowest index; which count.

    A NaN never counts, nor takes another's place.
    """
    some = min(count, len(scores))
    top, index = lax.top_k(jnp.where(usable & ~jnp.isnan(scores), scores, -jnp.inf), some)
    rest = (0, count - some)
    return jnp.pad(index, rest), jnp.pad(top > -jnp.inf, rest)


def mirror_pictures(image: Num[Array, "B H W 3"], size: Int[Array, "B 2"]) -> Num[Array, "B H W 3"]:
    """Exchanges left and right of the picture in the upper left corner of each canvas."""
    width = image.shape[2]
    columns = (size[:, 1:] - 1 - jnp.arange(width)[None]) % width
    return jnp.take_along_axis(image, columns[:, None, :, None], axis=2)


def mirror_boxes(boxes: Float[Array, "B N 4"], size: Int[Array, "B 2"]) -> Float[Array, "B N 4"]:
    """Boxes in mirrored pictures, as they lie in the pictures themselves."""
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    width = size[:, 1:].astype(x0.dtype)
    return jnp.stack([width - x1, y0, width - x0, y1], axis=-1)


def mirror_deltas(deltas: Float[Array, "B N 4"]) -> Float[Array, "B N 4"]:
    """Box deltas seen in the mirror, as they are relative to the mirrored boxes."""
    return deltas * jnp.array([-1.0, 1.0, 1.0, 1.0])[None, None]
