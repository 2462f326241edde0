"""The pose network: a fully convolutional backbone to the maps of a head (paper, section 3.2.2)."""

from collections import OrderedDict
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from g_rmi.nn.conv import Conv
from g_rmi.nn.norm import Norm
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.config import MapsConfig
from g_rmi.pose.heads.head import Making, Teacher, frozen_parts
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid


class FeaturePyramid(nn.Module):
    """Carries the deepest features up to stride 4, adding each finer block on the way.

    Not in the paper: it gives a small backbone fine maps for less work than dilation.
    """

    features: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, blocks: list[Array], *, train: bool = False) -> Float[Array, "B h w C"]:
        """Merges `blocks`, finest first."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        norm = partial(Norm, self.norm, dtype=self.dtype)
        *finer, x = blocks
        x = conv(1, name="top")(x)
        for level, lateral in reversed(list(enumerate(finer, 1))):
            height, width = lateral.shape[1:3]
            resize = partial(resize_align_corners, height=height, width=width)
            x = jax.vmap(resize)(x).astype(self.dtype)
            x = x + conv(1, name=f"lateral{level}")(lateral)
            x = nn.relu(norm(name=f"norm{level}a")(x, train=train))
            x = conv(3, name=f"merge{level}")(x)
            x = nn.relu(norm(name=f"norm{level}b")(x, train=train))
        return x


class PoseNetwork(nn.Module):
    """Backbone, feature pyramid if there is one, and whatever the head adds."""

    config: MapsConfig
    skeleton: Skeleton

    @nn.compact
    def __call__(
        self,
        image: Num[Array, "B H W 3"],
        *,
        train: bool = False,
        teacher: Teacher | None = None,
    ) -> dict[str, Float[Array, "B h w ..."]]:
        """Maps RGB crops in 0..255 to coarse float32 maps by name: the head's `fields`.

        Cell (i, j) of a map lies on crop pixel (stride * j, stride * i). A `teacher` is for heads
        that look at what they have found.
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        picture = config.normalise(image)
        learns = train and "trunk" not in frozen_parts(config.head)
        features = config.features(name="trunk")(picture, train=learns)
        *_, final = blocks = list(features.values())[-4:]
        if config.fpn_channels:
            # Checkpoints know it by its first name.
            pyramid = FeaturePyramid(config.fpn_channels, config.norm, dtype, name="top_down")
            final = pyramid(blocks, train=learns)
        # Initialisation calls with train=False: all of the head's weights must exist all the same.
        train = train or self.is_initializing()
        grid = Grid(*picture.shape[1:3])
        how = Making(self.skeleton, grid, config.norm, dtype, train, teacher)
        return config.head.maps(OrderedDict(features, final=final, picture=picture), how)
