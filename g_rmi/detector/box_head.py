"""The second stage: block 4 of the ResNet on each region, then class and box."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from g_rmi.config import DetectorConfig
from g_rmi.nn.resnet import Block4


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

    config: DetectorConfig

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
