"""Settings that every network on a backbone shares.

A new backbone is a file in this folder and the name of its settings in the line below.
"""

import dataclasses
from typing import Any, Literal

from flax import linen as nn
from jax import numpy as jnp
from jaxtyping import Array, Float, Num

from g_rmi.nn.backbone import normalise
from g_rmi.nn.efficientnet import EfficientNetLiteConfig
from g_rmi.nn.resnet import ResNetConfig

Backbone = ResNetConfig | EfficientNetLiteConfig


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """A backbone, and how it and what stands on it are computed."""

    backbone: Backbone = ResNetConfig()
    # Stride of the backbone's last block; dilation keeps it low.
    output_stride: Literal[8, 16, 32] = 8
    # "batch" (synchronised over the mesh), "frozen" (imported statistics) or "group".
    norm: Literal["batch", "frozen", "group"] = "batch"
    # Type of the network's arithmetic; parameters, targets and losses stay float32.
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False  # Recompute each residual unit in the backward pass instead of storing it.

    def features(self, **options: Any) -> nn.Module:
        """The backbone's linen module; `options` are further ones of `Backbone.features`."""
        own = {"output_stride": self.output_stride, **self._arithmetic}
        return self.backbone.features(**own, **options)

    def block4(self, **options: Any) -> nn.Module:
        """Its last block alone; `options` are further ones of `Backbone.block4`."""
        return self.backbone.block4(**self._arithmetic, **options)

    def normalise(self, image: Num[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """RGB in 0..255 to what the backbone takes."""
        return normalise(image, self.backbone.statistics)

    @property
    def _arithmetic(self) -> dict[str, Any]:
        return {"norm": self.norm, "dtype": jnp.dtype(self.dtype), "remat": self.remat}
