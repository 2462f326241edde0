"""Faster R-CNN's network: trunk, region proposals, and block 4 of the ResNet on each region."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.proposals import RPN, RPNOutputs
from g_rmi.nn.resnet import Block4, ResNet, normalise
from g_rmi.ops.image import crop_boxes
from g_rmi.ops.roi import roi_align


class BoxOutputs(NamedTuple):
    """One row per region.

    Attributes:
      logits: Of background and person.
      codes: Of the person's box relative to the region.
    """

    logits: Float[Array, "R 2"]
    codes: Float[Array, "R 4"]


class BoxHead(nn.Module):
    """Block 4 at stride 1, mean over the cells, two linear layers."""

    config: FasterRCNNConfig

    @nn.compact
    def __call__(self, regions: Float[Array, "R h w C"], *, train: bool = False) -> BoxOutputs:
        """Classifies regions of features of block 3 and refines their boxes."""
        c = self.config
        dtype = jnp.dtype(c.dtype)
        block4 = Block4(c.depth, c.width, c.norm, dtype, c.remat, name="block4")
        x = block4(regions.astype(dtype), train=train).astype(jnp.float32).mean((1, 2))
        logits = nn.Dense(2, kernel_init=nn.initializers.normal(0.01), name="class")(x)
        codes = nn.Dense(4, kernel_init=nn.initializers.normal(0.001), name="codes")(x)
        return BoxOutputs(logits, codes)


class DetectorNetwork(nn.Module):
    """Faster R-CNN's network in two steps; choosing regions between them is no part of it."""

    config: FasterRCNNConfig

    def setup(self):
        """Makes the three parts."""
        c = self.config
        dtype = jnp.dtype(c.dtype)
        self.trunk = ResNet(
            depth=c.depth,
            output_stride=c.output_stride,
            width=c.width,
            stem_width=c.stem_width or None,
            norm=c.norm,
            dtype=dtype,
            remat=c.remat,
            blocks=3,
        )
        anchors = len(c.anchor_scales) * len(c.anchor_ratios)
        self.rpn = RPN(anchors, c.rpn_channels, c.rpn_dilation, dtype)
        self.box_head = BoxHead(c)

    def propose(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"], *, train: bool = False
    ) -> tuple[Float[Array, "B h w C"], RPNOutputs]:
        """First step: features of block 3, zero beside the pictures, and what the RPN says.

        Args:
          image: RGB canvases in 0..255.
          size: Rows and columns of the picture on each.
          train: Batch statistics as in training.
        """
        features = self.trunk(normalise(image), train=train, size=size)["block3"]
        return features, self.rpn(features)

    def classify(
        self,
        features: Float[Array, "B h w C"],
        boxes: Float[Array, "B R 4"],
        *,
        train: bool = False,
    ) -> BoxOutputs:
        """Second step: class and box of regions; `boxes` in canvas pixels, outputs [B R ...]."""
        regions = jax.vmap(partial(crop_regions, config=self.config))(features, boxes)
        outputs = self.box_head(regions.reshape(-1, *regions.shape[2:]), train=train)
        batch, count = boxes.shape[:2]
        return BoxOutputs(*(x.reshape(batch, count, -1) for x in outputs))

    def __call__(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"], boxes: Float[Array, "B R 4"]
    ) -> tuple[RPNOutputs, BoxOutputs]:
        """Both steps with given regions."""
        features, rpn = self.propose(image, size)
        return rpn, self.classify(features, boxes)


def crop_regions(
    features: Float[Array, "h w C"], boxes: Float[Array, "R 4"], *, config: FasterRCNNConfig
) -> Float[Array, "R s s C"]:
    """Cuts regions out of a feature map, `roi_size / 2` cells wide and high.

    Args:
      features: Cell (i, j) lies on canvas pixel (stride * j, stride * i).
      boxes: In canvas pixels.
      config: Says how.

    Returns:
      The regions, float32.
    """
    stride = config.output_stride
    if config.roi == "align":
        # Half-pixel sampling sees the centre of cell (i, j) at (j + .5, i + .5).
        return roi_align(
            features,
            boxes + stride / 2,
            output_size=config.roi_size // 2,
            spatial_scale=1 / stride,
            sampling_ratio=2,
        )
    size = config.roi_size
    crops = crop_boxes(features, boxes / stride, height=size, width=size)
    count, _, _, channels = crops.shape
    return crops.reshape(count, size // 2, 2, size // 2, 2, channels).max((2, 4))
