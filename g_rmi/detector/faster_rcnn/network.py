"""Faster R-CNN's network: backbone, region proposals, and block 4 of the ResNet on each region."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.proposals import BoxOutputs, RPNOutputs, make_rpn
from g_rmi.nn.resnet import Block4, normalise
from g_rmi.ops.image import crop_boxes
from g_rmi.ops.roi import roi_align


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
        deltas = nn.Dense(4, kernel_init=nn.initializers.normal(0.001), name="codes")(x)
        return BoxOutputs(logits, deltas)


class DetectorNetwork(nn.Module):
    """Faster R-CNN's network in two steps; choosing regions between them is no part of it."""

    config: FasterRCNNConfig

    def setup(self):
        """Makes the three parts."""
        c = self.config
        self.trunk = c.backbone(blocks=3)  # as checkpoints know it
        self.rpn = make_rpn(c)
        self.box_head = BoxHead(c)

    def propose(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"], *, train: bool = False
    ) -> tuple[Float[Array, "B h w C"], RPNOutputs]:
        """First step: features of block 3, zero beside the pictures, and what the RPN says."""
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
    """Cuts boxes (canvas pixels) out of a feature map, float32, `roi_size / 2` cells a side.

    Cell (i, j) of the map lies on canvas pixel (stride * j, stride * i).
    """
    stride, size = config.output_stride, config.roi_size
    if config.roi == "align":
        # Half-pixel sampling sees the centre of cell (i, j) at (j + .5, i + .5).
        options = {"output_size": size // 2, "spatial_scale": 1 / stride, "sampling_ratio": 2}
        return roi_align(features, boxes + stride / 2, **options)
    crops = crop_boxes(features, boxes / stride, height=size, width=size)
    count, _, _, channels = crops.shape
    return crops.reshape(count, size // 2, 2, size // 2, 2, channels).max((2, 4))
