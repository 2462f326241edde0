"""The pose network: a fully convolutional ResNet to heatmaps and offsets (paper, section 3.2.2)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from g_rmi.config import PoseConfig
from g_rmi.nn.conv import Conv
from g_rmi.nn.norm import Norm
from g_rmi.nn.resnet import ResNet, normalise
from g_rmi.ops.image import resize_align_corners


class PoseMaps(NamedTuple):
    """The network's coarse maps; cell (i, j) lies on crop pixel (stride * j, stride * i).

    Attributes:
      heatmap: Logits of "joint k is within R of here".
      offset: F_k, the vector `(x, y)` from here to joint k, in crop pixels.
      auxiliary: Logits of the intermediate head; None outside training.
    """

    heatmap: Float[Array, "B h w K"]
    offset: Float[Array, "B h w K 2"]
    auxiliary: Float[Array, "B h w K"] | None


class TopDown(nn.Module):
    """Carries the deepest features up to stride 4, adding each finer block on the way.

    Not in the paper: it gives a small trunk fine maps for less work than dilation.
    """

    features: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, blocks: list[Array], *, train: bool = False) -> Float[Array, "B h w C"]:
        """Merges `blocks`, finest first."""
        *finer, x = blocks
        x = Conv(self.features, 1, dtype=self.dtype, name="top")(x)
        for level, lateral in reversed(list(enumerate(finer, 1))):
            height, width = lateral.shape[1:3]
            resize = partial(resize_align_corners, height=height, width=width)
            x = jax.vmap(resize)(x).astype(self.dtype)
            x = x + Conv(self.features, 1, dtype=self.dtype, name=f"lateral{level}")(lateral)
            x = nn.relu(Norm(self.norm, dtype=self.dtype, name=f"norm{level}a")(x, train=train))
            x = Conv(self.features, 3, dtype=self.dtype, name=f"merge{level}")(x)
            x = nn.relu(Norm(self.norm, dtype=self.dtype, name=f"norm{level}b")(x, train=train))
        return x


class PoseNetwork(nn.Module):
    """ResNet, then one 1x1 convolution to K heatmaps and 2K offsets."""

    config: PoseConfig
    num_keypoints: int

    @nn.compact
    def __call__(self, image: Num[Array, "B H W 3"], *, train: bool = False) -> PoseMaps:
        """Maps RGB crops in 0..255 to coarse float32 maps."""
        config, k = self.config, self.num_keypoints
        dtype = jnp.dtype(config.dtype)
        outputs = ResNet(
            depth=config.depth,
            output_stride=config.output_stride,
            width=config.width,
            stem_width=config.stem_width or None,
            norm=config.norm,
            dtype=dtype,
            remat=config.remat,
            name="trunk",
        )(normalise(image), train=train)
        *_, block1, block2, block3, block4 = outputs.values()
        if config.top_down:
            features = TopDown(config.top_down, config.norm, dtype, name="top_down")(
                [block1, block2, block3, block4], train=train
            )
        else:
            features = block4
        # Starting from "nowhere" (p = .01) instead of p = .5 spares the first steps.
        rare = nn.initializers.constant(-4.6)
        small = nn.initializers.normal(0.01)

        def head(features: Array, channels: int, name: str, bias_init: Initializer) -> Array:
            conv = Conv(
                channels,
                1,
                use_bias=True,
                dtype=dtype,
                kernel_init=small,
                bias_init=bias_init,
                name=name,
            )
            return conv(features).astype(jnp.float32)

        heatmap = head(features, k, "heatmap", rare)
        offset = head(features, 2 * k, "offset", nn.initializers.zeros)
        auxiliary = None
        # Initialisation calls with train=False: the head's weights must exist all the same.
        if config.auxiliary_weight and (train or self.is_initializing()):
            auxiliary = head(outputs["middle"], k, "auxiliary", rare)
        return PoseMaps(heatmap, offset.reshape(*offset.shape[:-1], k, 2), auxiliary)
