"""The region proposal network (Ren et al. 2015) over the features of block 3."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from g_rmi.nn.conv import Conv


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
