"""Region proposals (Ren et al. 2015): a network over the features of block 3, its best boxes."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Num

from g_rmi.detector.detector import best, select
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.nn.conv import Conv
from g_rmi.nn.resnet import picture_mask
from g_rmi.ops.anchors import anchor_boxes
from g_rmi.ops.boxes import clip_boxes, decode_boxes


class RPNOutputs(NamedTuple):
    """One row per anchor, in the order of `g_rmi.ops.anchors.anchor_boxes`.

    Attributes:
      objectness: Logits of "a person".
      codes: Of the person's box relative to the anchor.
    """

    objectness: Float[Array, "B A"]
    codes: Float[Array, "B A 4"]


class RPN(nn.Module):
    """A 3x3 convolution, atrous in the paper, then two 1x1 convolutions.

    Attributes:
      anchors: Per position.
      channels: Of the 3x3 convolution.
      dilation: Of the same.
      dtype: Type of the arithmetic; the outputs are float32.
    """

    anchors: int
    channels: int
    dilation: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "B h w C"]) -> RPNOutputs:
        """Scores and codes of every anchor."""
        x = Conv(
            self.channels,
            3,
            dilation=self.dilation,
            use_bias=True,
            dtype=self.dtype,
            name="conv",
        )(features)
        x = nn.relu(x)
        small = nn.initializers.normal(0.01)
        # Few anchors are people: starting from p = .01 spares the first steps.
        rare = nn.initializers.constant(-4.6)
        objectness = Conv(
            self.anchors,
            1,
            use_bias=True,
            dtype=self.dtype,
            kernel_init=small,
            bias_init=rare,
            name="objectness",
        )(x)
        codes = Conv(
            4 * self.anchors,
            1,
            use_bias=True,
            dtype=self.dtype,
            kernel_init=small,
            name="codes",
        )(x)
        batch = features.shape[0]
        return RPNOutputs(
            objectness.astype(jnp.float32).reshape(batch, -1),
            codes.astype(jnp.float32).reshape(batch, -1, 4),
        )


class Proposals(NamedTuple):
    """Regions that may hold a person, best first.

    Attributes:
      boxes: In canvas pixels, inside the picture; zeros where not valid.
      valid: The row is a proposal.
    """

    boxes: Float[Array, "P 4"]
    valid: Bool[Array, " P"]


def canvas_anchors(
    config: FasterRCNNConfig, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"]
) -> tuple[Float[Array, "A 4"], Bool[Array, "B A"]]:
    """The anchors of a canvas, and which of them have their centre on the picture.

    Args:
      config: Stride, scales and ratios.
      image: Canvases, of which only the shape counts.
      size: Rows and columns of the picture on each canvas.
    """
    height, width = ((n - 1) // config.output_stride + 1 for n in image.shape[1:3])
    anchors = anchor_boxes(
        height=height,
        width=width,
        stride=config.output_stride,
        base=config.anchor_base,
        scales=config.anchor_scales,
        ratios=config.anchor_ratios,
    )
    mask = picture_mask(size, height=height, width=width, stride=config.output_stride)
    each = len(config.anchor_scales) * len(config.anchor_ratios)
    return anchors, jnp.repeat(mask.reshape(len(size), -1), each, axis=1)


def propose(
    objectness: Float[Array, " A"],
    codes: Float[Array, "A 4"],
    anchors: Float[Array, "A 4"],
    usable: Bool[Array, " A"],
    size: Int[Array, " 2"],
    *,
    config: FasterRCNNConfig,
) -> Proposals:
    """The region proposal network's best boxes after suppression (paper: 300, IoU .7).

    Args:
      objectness: Logits.
      codes: Boxes relative to the anchors.
      anchors: In canvas pixels.
      usable: Anchors on the picture.
      size: Rows and columns of the picture.
      config: Numbers and threshold.
    """
    index, valid = best(objectness, usable, config.candidates)
    boxes = clip_boxes(decode_boxes(codes[index], anchors[index]), size)
    valid &= (boxes[:, 2:] > boxes[:, :2]).all(-1)
    found = select(boxes, objectness[index], valid, count=config.proposals, iou=config.proposal_iou)
    return Proposals(found.boxes, found.valid)
