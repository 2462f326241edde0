"""EfficientNet-Lite: inverted residuals with depthwise convolutions, for small machines.

Tan and Le (2019), "EfficientNet", in Google's variant for phones (2020): ReLU6 instead of swish, no
squeeze-and-excitation, a stem that does not grow. Units as in MobileNetV2 (Sandler et al. 2018).
"""

import dataclasses
import math
from collections import OrderedDict
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from g_rmi.nn.backbone import OUTPUT_STRIDES, ImageStatistics, masked, picture_mask
from g_rmi.nn.conv import Conv, DepthwiseConv
from g_rmi.nn.norm import Norm

STEM_WIDTH = 32
# The authors' epsilon; many channels vary so little that another one is another network.
EPSILON = 1e-3


class Stage(NamedTuple):
    """Units of a kind, of Lite0; `block` is of ours, one for each stride from 4 on."""

    block: int
    size: int  # of the depthwise kernel
    stride: int  # of the first unit
    expansion: int
    channels: int
    repeats: int


STAGES = (
    Stage(block=1, size=3, stride=1, expansion=1, channels=16, repeats=1),
    Stage(block=1, size=3, stride=2, expansion=6, channels=24, repeats=2),
    Stage(block=2, size=5, stride=2, expansion=6, channels=40, repeats=2),
    Stage(block=3, size=3, stride=2, expansion=6, channels=80, repeats=3),
    Stage(block=3, size=5, stride=1, expansion=6, channels=112, repeats=3),
    Stage(block=4, size=5, stride=2, expansion=6, channels=192, repeats=4),
    Stage(block=4, size=3, stride=1, expansion=6, channels=320, repeats=1),
)
# Ends with layer 24 of 48 of Lite0, half of them: the place of the auxiliary head.
MIDDLE = STAGES[3]


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteConfig:
    """An EfficientNet-Lite's size: 0 is 1.0 x 1.0, 1 is 1.0 x 1.1, 2 is 1.1 x 1.2 (width x depth).

    See `g_rmi.nn.backbone.Backbone`.
    """

    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    width: float = 1.0  # Channels, as a multiple of EfficientNet-Lite0's.
    depth: float = 1.0  # Units of a stage, as a multiple of EfficientNet-Lite0's.

    statistics: ClassVar[ImageStatistics] = ImageStatistics((127 / 255,) * 3, (128 / 255,) * 3)

    def __post_init__(self):
        for name in ("width", "depth"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} = {getattr(self, name)}: must be positive")

    def __str__(self) -> str:
        return f"EfficientNet-Lite {self.width:g} x {self.depth:g}"

    @property
    def relative_width(self) -> float:
        """Detectors add as much as on a ResNet, as in Huang et al. (2017) on narrow backbones."""
        return self.width

    def features(self, **options: Any) -> "EfficientNetLite":
        """`options` are the other ones of `EfficientNetLite`."""
        return EfficientNetLite(self.width, self.depth, **options)

    def block4(self, **options: Any) -> "Block4":
        """`options` are the other ones of `Block4`."""
        return Block4(self.width, self.depth, **options)


class Unit(NamedTuple):
    """One unit of a network."""

    name: str
    stage: Stage
    stride: int
    channels: int


def units(width: float, depth: float) -> list[Unit]:
    """All of a network; the first and the last stage are not repeated more often."""
    found, counts = [], {}
    for stage in STAGES:
        alone = stage in (STAGES[0], STAGES[-1])
        for repeat in range(stage.repeats if alone else math.ceil(depth * stage.repeats)):
            unit = counts[stage.block] = counts.get(stage.block, -1) + 1
            name = f"block{stage.block}_unit{unit}"
            stride = 1 if repeat else stage.stride
            found.append(Unit(name, stage, stride, scaled(stage.channels, width)))
    return found


def scaled(channels: int, width: float) -> int:
    """A multiple of 8 near `width * channels`, never less than 90 % of it."""
    wanted = width * channels
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise one, 1x1 to few; a shortcut where sizes agree."""

    channels: int
    size: int
    expansion: int
    stride: int = 1
    dilation: int = 1
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool, mask: Bool[Array, "B H W 1"] | None = None
    ) -> Float[Array, "B h w D"]:
        """Maps `x` to `channels`; to the depthwise convolution, what `mask` leaves out is 0."""

        def normed(y, name):
            return Norm(self.norm, self.dtype, epsilon=EPSILON, name=name)(y, train=train)

        y = x
        if self.expansion > 1:
            wide = self.expansion * x.shape[-1]
            y = Conv(wide, 1, dtype=self.dtype, name="expand")(y)
            y = nn.relu6(normed(y, "norm0"))
        options = {"dtype": self.dtype, "name": "depthwise"}
        y = DepthwiseConv(self.size, self.stride, self.dilation, **options)(masked(y, mask))
        y = nn.relu6(normed(y, "norm1"))
        y = normed(Conv(self.channels, 1, dtype=self.dtype, name="project")(y), "norm2")
        return x + y if x.shape == y.shape else y


class Block4(nn.Module):
    """The last block by itself at stride 1, for features of block 3."""

    width: float = 1.0
    depth: float = 1.0
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    dilation: int = 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        *,
        train: bool = False,
        mask: Bool[Array, "B H W 1"] | None = None,
    ) -> Float[Array, "B H W D"]:
        """Maps features of block 3 to those of block 4; what `mask` leaves out is padding, 0."""
        for unit in units(self.width, self.depth):
            if unit.stage.block == 4:
                x = _module(unit, self, 1, self.dilation)(x, train, mask)
        return masked(x, mask)


class EfficientNetLite(nn.Module):
    """The backbone of both stages, without its last 1x1 convolution and the classifier.

    Padding is alike on both sides, so that maps stay on the align-corners grid; below stride 32
    dilation takes the place of strides, as in `g_rmi.nn.resnet.ResNet`. Settings as in
    `EfficientNetLiteConfig` and `g_rmi.nn.network.NetworkConfig`; `blocks` says how many of the
    four are built.
    """

    width: float = 1.0
    depth: float = 1.0
    output_stride: int = 32
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    blocks: int = 4

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "B H W 3"],
        *,
        train: bool = False,
        size: Int[Array, "B 2"] | None = None,
    ) -> dict[str, Float[Array, "B _ _ _"]]:
        """Computes the features of normalised RGB images: what `g_rmi.nn.resnet.ResNet` returns.

        Raises:
          ValueError: `output_stride` is not one of the choices.
        """
        if self.output_stride not in OUTPUT_STRIDES:
            choices = ", ".join(map(str, OUTPUT_STRIDES))
            raise ValueError(f"output_stride = {self.output_stride}: must be one of {choices}")

        def mask(x, stride):
            return None if size is None else picture_mask(size, x.shape[1:3], stride=stride)

        x = jnp.asarray(x, self.dtype)
        x = Conv(STEM_WIDTH, 3, 2, dtype=self.dtype, name="conv1")(masked(x, mask(x, 1)))
        x = Norm(self.norm, self.dtype, epsilon=EPSILON, name="norm1")(x, train=train)
        x = middle = stem = masked(nn.relu6(x), mask(x, 2))
        blocks = {}
        reached, dilation = 2, 1
        for unit in units(self.width, self.depth):
            if unit.stage.block > self.blocks:
                break
            stride = unit.stride if reached * unit.stride <= self.output_stride else 1
            # As in PyTorch, the first unit of a dilated block still has the dilation before it.
            first, dilation = dilation, dilation * unit.stride // stride
            before, reached = reached, reached * stride
            x = _module(unit, self, stride, first)(x, train, mask(x, before))
            blocks[f"block{unit.stage.block}"] = x = masked(x, mask(x, reached))
            if unit.stage == MIDDLE:
                middle = x
        # A plain dict would leave `jit` sorted by key.
        return OrderedDict(stem=stem, middle=middle, **blocks)


def _module(unit: Unit, network: Block4 | EfficientNetLite, stride: int, dilation: int) -> Any:
    """The module of a unit, to be called inside the network."""
    kind = InvertedResidual
    if network.remat:
        kind = nn.remat(InvertedResidual, static_argnums=(2,))
    return kind(
        unit.channels,
        unit.stage.size,
        unit.stage.expansion,
        stride,
        dilation,
        network.norm,
        network.dtype,
        name=unit.name,
    )
