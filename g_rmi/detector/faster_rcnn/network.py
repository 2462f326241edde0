"""Faster R-CNN's network: backbone, region proposals, and its block 4 on each region."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.detector.proposals import BoxOutputs
from g_rmi.detector.two_stage.network import TwoStageNetwork
from g_rmi.ops.image import crop_boxes
from g_rmi.ops.roi import roi_align


class BoxHead(nn.Module):
    """Block 4 at stride 1, mean over the cells, two linear layers."""

    config: FasterRCNNConfig
    classes: int

    @nn.compact
    def __call__(self, regions: Float[Array, "R h w C"], *, train: bool = False) -> BoxOutputs:
        """Classifies regions of features of block 3 and refines their boxes."""
        c = self.config
        x = c.block4(name="block4")(regions.astype(c.dtype), train=train)
        x = x.astype(jnp.float32).mean((1, 2))
        logits = nn.Dense(1 + self.classes, kernel_init=nn.initializers.normal(0.01), name="class")(
            x
        )
        deltas = nn.Dense(4, kernel_init=nn.initializers.normal(0.001), name="codes")(x)
        return BoxOutputs(logits, deltas)


class DetectorNetwork(TwoStageNetwork):
    """Faster R-CNN's network: regions are cut out of the features, block 4 runs on each."""

    config: FasterRCNNConfig

    def make_head(self) -> BoxHead:
        """Block 4, and what follows it."""
        return BoxHead(self.config, self.classes)

    def shared(
        self, features: Float[Array, "B h w C"], size: Int[Array, "B 2"], *, train: bool
    ) -> Float[Array, "B h w C"]:
        """The features themselves, zero beside the pictures."""
        del size, train
        return features

    def classify(
        self, shared: Float[Array, "B h w C"], boxes: Float[Array, "B R 4"], *, train: bool = False
    ) -> BoxOutputs:
        """Second step: all regions of all pictures are one batch."""
        regions = jax.vmap(partial(crop_regions, config=self.config))(shared, boxes)
        outputs = self.box_head(regions.reshape(-1, *regions.shape[2:]), train=train)
        return BoxOutputs(*(x.reshape(*boxes.shape[:2], -1) for x in outputs))


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
