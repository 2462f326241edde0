"""SSD's network: blocks 1-3 of a backbone, ever coarser maps after them, a predictor for each."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from g_rmi.detector.ssd.anchors import anchor_sides
from g_rmi.detector.ssd.config import SSDConfig
from g_rmi.nn.backbone import picture_mask
from g_rmi.nn.conv import Conv
from g_rmi.nn.norm import Norm
from g_rmi.types import Grid

_INIT = nn.initializers.truncated_normal(0.03)


class SSDOutputs(NamedTuple):
    """Logits of "a person" and box deltas; anchors as in `picture_anchors`.

    Of several classes, each has a logit, and all have one box.
    """

    logits: Float[Array, "B A *C"]
    deltas: Float[Array, "B A 4"]


class SSDNetwork(nn.Module):
    """All of SSD but anchors, losses and suppression."""

    config: SSDConfig
    classes: int = 0  # 0: people, without an axis for them

    @nn.compact
    def __call__(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"], *, train: bool = False
    ) -> tuple[SSDOutputs, list[Grid]]:
        """What the predictors say, float32, and the rows and columns of the maps."""
        c = self.config
        stride, dtype = c.output_stride, jnp.dtype(c.dtype)
        trunk = c.features(blocks=3, name="trunk")
        x = trunk(c.normalise(image), train=train, size=size)["block3"]
        maps = [x]
        for i, channels in enumerate(c.added_channels, 1):
            channels = max(2, int(channels * c.backbone.relative_width))
            x = self._unit(x, channels // 2, 1, 1, f"added{i}_reduce", size, stride, train)
            stride *= 2
            x = self._unit(x, channels, 3, 2, f"added{i}", size, stride, train)
            maps.append(x)
        logits, deltas = [], []
        for i, (x, sides) in enumerate(zip(maps, anchor_sides(c), strict=True)):
            options = {"use_bias": True, "dtype": dtype, "kernel_init": _INIT}
            count = len(sides) * max(1, self.classes)
            each = Conv(count, 3, name=f"class{i}", **options)(x).astype(jnp.float32)
            axis = (self.classes,) if self.classes else ()
            logits.append(each.reshape(len(x), -1, *axis))
            each = Conv(4 * len(sides), 3, name=f"codes{i}", **options)(x).astype(jnp.float32)
            deltas.append(each.reshape(len(x), -1, 4))
        outputs = SSDOutputs(jnp.concatenate(logits, 1), jnp.concatenate(deltas, 1))
        return outputs, [Grid(*x.shape[1:3]) for x in maps]

    def _unit(
        self,
        x: Float[Array, "B h w C"],
        channels: int,
        kernel: int,
        step: int,
        name: str,
        size: Int[Array, "B 2"],
        stride: int,
        train: bool,
    ) -> Float[Array, "B i j D"]:
        """Convolution, norm, ReLU; 0 beside the pictures, where a result is at `stride`."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        # Only the trunk can have statistics from elsewhere.
        norm = "batch" if c.norm == "frozen" else c.norm
        x = Conv(channels, kernel, step, dtype=dtype, kernel_init=_INIT, name=f"{name}_conv")(x)
        x = nn.relu(Norm(norm, dtype, name=f"{name}_norm")(x, train=train))
        mask = picture_mask(size, x.shape[1:3], stride=stride)
        return jnp.where(mask, x, jnp.zeros((), x.dtype))
