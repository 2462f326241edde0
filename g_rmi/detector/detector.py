"""What a detector is, and what all of them share: selection and the look into the mirror."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, PyTree

from g_rmi.ops.boxes import clip_boxes, decode_boxes
from g_rmi.ops.nms import box_nms
from g_rmi.types import Detections


@runtime_checkable
class Detector(Protocol):
    """A person detector: `g_rmi.training.task.Task`, and pictures to people.

    It may find several classes, whose names it has in the order of their numbers; none: people. The
    config has `canvas`, the shorter and longer side of the canvas that pictures are fitted to,
    and `detections`, the most people of a picture.
    """

    stage: ClassVar[str] = "detector"

    @property
    def config(self) -> Any:
        """Of the network, its targets, losses and decoding; frozen."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, if there are several."""

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

    def backbone(self, variables: dict) -> dict:
        """The variables of the backbone alone, as `with_backbone` takes them."""

    def with_backbone(self, variables: dict, backbone: dict) -> dict:
        """`variables` with an imported backbone (`g_rmi.pretrained`)."""


class Candidates(NamedTuple):
    """What may be people: regions (anchors or proposals) and what the network says of them."""

    scores: Float[Array, "*B N"]
    deltas: Float[Array, "*B N 4"]
    regions: Float[Array, "*B N 4"]  # canvas pixels
    usable: Bool[Array, "*B N"]
    classes: Int[Array, "*B N"] | None = None  # where there are several


def each_class(
    scores: Float[Array, "B N C"],
    deltas: Float[Array, "B N 4"],
    regions: Float[Array, "B N 4"],
    usable: Bool[Array, "B N"],
) -> Candidates:
    """Every region as a candidate for every class."""
    each = partial(jnp.repeat, repeats=scores.shape[2], axis=1)
    numbers = jnp.arange(scores.shape[2], dtype=jnp.int32)
    classes = jnp.broadcast_to(numbers[None, None], scores.shape)
    scores, classes = (x.reshape(len(x), -1) for x in (scores, classes))
    return Candidates(scores, each(deltas), each(regions), each(usable), classes)


# Pictures on canvases, and their sizes, to what may be people there.
Look = Callable[[Num[Array, "B H W 3"], Int[Array, "B 2"]], Candidates]


def look_and_select(
    look: Look,
    image: Num[Array, "B H W 3"],
    size: Int[Array, "B 2"],
    *,
    flip_test: bool,
    **options: Any,
) -> Detections:
    """`Detector.predict` with what one look gives; `options` are those of `select`."""
    seen = look(image, size)
    if flip_test:
        there = look(mirror_pictures(image, size), size)
        regions, deltas = mirror_boxes(there.regions, size), mirror_deltas(there.deltas)
        there = there._replace(regions=regions, deltas=deltas)
        seen = jax.tree.map(lambda *x: jnp.concatenate(x, 1), seen, there)
    return jax.vmap(partial(select, **options))(seen, size)


def select(
    seen: Candidates,
    size: Int[Array, " 2"],
    *,
    count: int,
    iou: float,
    candidates: int | None = None,
) -> Detections:
    """The people of one picture: boxes inside it, NMS (in each class), then the best `count`.

    Only the best `candidates` go into the NMS; None: all.
    """
    if candidates is not None:
        index, usable = best(seen.scores, seen.usable, candidates)
        seen = jax.tree.map(lambda x: x[index], seen)._replace(usable=usable)
    scores, deltas, regions, usable, classes = seen
    boxes = clip_boxes(decode_boxes(deltas, regions), size)
    usable = usable & (boxes[:, 2:] > boxes[:, :2]).all(-1)
    keep = box_nms(boxes, scores, usable, threshold=iou, limit=count, classes=classes)
    index, valid = best(scores, keep, count)
    return Detections(
        jnp.where(valid[:, None], boxes[index], 0.0),
        jnp.where(valid, scores[index], 0.0),
        valid,
        None if classes is None else jnp.where(valid, classes[index], 0),
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


Places = tuple[tuple[str, ...], ...]
"""Where a network's variables have the units of the backbone, such as (("trunk",),)."""


def backbone_of(variables: dict, places: Places) -> dict:
    """`Detector.backbone` of a network that has the backbone in some places."""
    flat = flatten_dict(variables)
    found = {
        (kind, *path[len(place) :]): value
        for (kind, *path), value in flat.items()
        for place in places
        if tuple(path[: len(place)]) == place
    }
    return unflatten_dict(found)


def with_backbone(variables: dict, backbone: dict, places: Places) -> dict:
    """`Detector.with_backbone` of a network that has the backbone in some places.

    Units that nobody has a place for are left out, those that are not given stay.
    """
    given, filled = flatten_dict(backbone), flatten_dict(variables)
    for kind, *path in list(filled):
        for place in places:
            unit = (kind, *path[len(place) :])
            if tuple(path[: len(place)]) == place and unit in given:
                filled[kind, *path] = given[unit]
    return unflatten_dict(filled)
