"""Region proposals (Ren et al. 2015): a network over the features of block 3, its best boxes."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Num

from g_rmi.detector.detector import Candidates, select
from g_rmi.detector.two_stage.config import TwoStageConfig
from g_rmi.nn.backbone import picture_mask
from g_rmi.nn.conv import RARE, Conv, project
from g_rmi.ops.anchors import anchor_boxes
from g_rmi.types import Grid


class RPNOutputs(NamedTuple):
    """Logits of "a person", and box deltas; anchors as in `g_rmi.ops.anchors.anchor_boxes`."""

    objectness: Float[Array, "B A"]
    deltas: Float[Array, "B A 4"]


class RPN(nn.Module):
    """A 3x3 convolution, atrous in the paper, then two 1x1 convolutions."""

    anchors: int  # per position
    channels: int
    dilation: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "B h w C"]) -> RPNOutputs:
        """Scores and deltas of every anchor, float32."""
        options = {"use_bias": True, "dtype": self.dtype, "name": "conv"}
        x = nn.relu(Conv(self.channels, 3, dilation=self.dilation, **options)(features))
        count = self.anchors
        objectness = project(x, count, name="objectness", dtype=self.dtype, bias_init=RARE)
        deltas = project(x, 4 * count, name="codes", dtype=self.dtype)
        batch = features.shape[0]
        return RPNOutputs(objectness.reshape(batch, -1), deltas.reshape(batch, -1, 4))


class BoxOutputs(NamedTuple):
    """Logits of background and person, and the deltas of the person's box, of each region.

    Of several classes, each has a logit, and all have one box.
    """

    logits: Float[Array, "*B R L"]
    deltas: Float[Array, "*B R 4"]


class Proposals(NamedTuple):
    """Regions that may hold a person, best first, in canvas pixels; zeros where not valid."""

    boxes: Float[Array, "P 4"]
    valid: Bool[Array, " P"]


def make_rpn(config: TwoStageConfig) -> RPN:
    """The region proposal network of these settings."""
    anchors = len(config.anchor_scales) * len(config.anchor_ratios)
    return RPN(anchors, config.rpn_channels, config.rpn_dilation, jnp.dtype(config.dtype))


def canvas_anchors(
    config: TwoStageConfig, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"]
) -> tuple[Float[Array, "A 4"], Bool[Array, "B A"]]:
    """The anchors of a canvas, and which have their centre on the picture of that `size`."""
    stride = config.output_stride
    cells = Grid(*image.shape[1:3]).every(stride)
    anchors = anchor_boxes(
        **cells._asdict(),
        stride=stride,
        base=config.anchor_base,
        scales=config.anchor_scales,
        ratios=config.anchor_ratios,
    )
    mask = picture_mask(size, cells, stride=stride)
    each = len(config.anchor_scales) * len(config.anchor_ratios)
    return anchors, jnp.repeat(mask.reshape(len(size), -1), each, axis=1)


def propose(
    objectness: Float[Array, " A"],
    deltas: Float[Array, "A 4"],
    anchors: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    size: Int[Array, " 2"],
    *,
    config: TwoStageConfig,
) -> Proposals:
    """The network's best boxes on one picture after suppression (paper: 300, IoU .7)."""
    seen = Candidates(objectness, deltas, anchors, usable)
    options = {"count": config.proposals, "iou": config.rpn_nms_iou}
    found = select(seen, size, candidates=config.candidates, **options)
    return Proposals(found.boxes, found.valid)
