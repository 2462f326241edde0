"""Fully convolutional residual networks (He et al. 2016) with a choice of output stride."""

import dataclasses
from collections import OrderedDict
from typing import Any, ClassVar, Literal

import numpy as np
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from g_rmi.nn.backbone import IMAGENET, OUTPUT_STRIDES, ImageStatistics, masked, picture_mask
from g_rmi.nn.conv import Conv
from g_rmi.nn.norm import Norm
from g_rmi.nn.rewrites import max_pool

# Units of blocks 1-4; depth = conv1 + three convolutions a unit + the classifier (not built here).
UNITS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# A unit's output has four times the channels of its 3x3 convolution.
EXPANSION = 4


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """A ResNet's size; see `g_rmi.nn.backbone.Backbone`."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[26, 50, 101, 152] = 101  # ResNet depth: 101 or 50 as in the paper, 26 for CPUs.
    width: int = 64  # Channels of the ResNet's first block; 64 is the standard.
    stem_width: int = 0  # Channels of its stem; 0 for as many as `width`.

    statistics: ClassVar[ImageStatistics] = IMAGENET

    def __post_init__(self):
        for name, least in (("width", 1), ("stem_width", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: must be {least} or more")

    def __str__(self) -> str:
        return f"ResNet-{self.depth}"

    @property
    def relative_width(self) -> float:
        """1 at the standard width."""
        return self.width / 64

    def features(self, **options: Any) -> "ResNet":
        """`options` are the other ones of `ResNet`."""
        stem = self.stem_width or None
        return ResNet(depth=self.depth, width=self.width, stem_width=stem, **options)

    def block4(self, **options: Any) -> "Block4":
        """`options` are the other ones of `Block4`."""
        return Block4(self.depth, self.width, **options)


def middle_unit(depth: int) -> int:
    """The unit of block 3, counted from 0, with which the first half of the layers ends.

    For depth 101, half is layer 50, the paper's place for the auxiliary head: conv1 (1), block 1
    (9) and block 2 (12) come before, so the ninth unit ends with layer 49, the tenth with 52.
    """
    before = 1 + 3 * (UNITS[depth][0] + UNITS[depth][1])
    return max(0, (depth // 2 - before) // 3 - 1)


class Unit(nn.Module):
    """Bottleneck unit: 1x1, 3x3, 1x1 convolutions around a shortcut.

    Width, stride ("v1.5") and dilation are those of the 3x3 convolution.
    """

    width: int
    stride: int = 1
    dilation: int = 1
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool, mask: Bool[Array, "B H W 1"] | None = None
    ) -> Float[Array, "B h w D"]:
        """Maps `x` to 4 * width channels; to the 3x3 convolution, what `mask` leaves out is 0."""
        dtype, features = self.dtype, EXPANSION * self.width
        y = Conv(self.width, 1, dtype=dtype, name="conv1")(x)
        y = nn.relu(Norm(self.norm, dtype, name="norm1")(y, train=train))
        y = masked(y, mask)
        y = Conv(self.width, 3, self.stride, self.dilation, dtype=dtype, name="conv2")(y)
        y = nn.relu(Norm(self.norm, dtype, name="norm2")(y, train=train))
        y = Conv(features, 1, dtype=dtype, name="conv3")(y)
        # A unit that starts as the identity makes deep networks trainable from the first step.
        zeros = nn.initializers.zeros_init()
        y = Norm(self.norm, dtype, scale_init=zeros, name="norm3")(y, train=train)
        if self.stride > 1 or x.shape[-1] != features:
            x = Conv(features, 1, self.stride, dtype=dtype, name="shortcut_conv")(x)
            x = Norm(self.norm, dtype, name="shortcut_norm")(x, train=train)
        return nn.relu(y + x)


class Block4(nn.Module):
    """The last block by itself at stride 1, for features of block 3; all as in `ResNet`."""

    depth: int
    width: int = 64
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
        unit_class = nn.remat(Unit, static_argnums=(2,)) if self.remat else Unit
        for unit in range(UNITS[self.depth][3]):
            options = {"dilation": self.dilation, "norm": self.norm, "dtype": self.dtype}
            x = unit_class(8 * self.width, **options, name=f"block4_unit{unit}")(x, train, mask)
        return masked(x, mask)


class ResNet(nn.Module):
    """The backbone of both stages, without the classifier.

    Padding, strides and dilations are those of PyTorch's ResNets ("v1.5"; below stride 32 its
    `replace_stride_with_dilation`), so imported weights give the same features.

    Settings as in `ResNetConfig` and `g_rmi.nn.network.NetworkConfig`. The width, that of the 3x3
    convolutions of block 1, doubles from block to block; a `stem_width` of None is as many.
    `blocks` says how many of the four are built.
    """

    depth: int
    output_stride: int = 32
    width: int = 64
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    blocks: int = 4
    stem_width: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "B H W 3"],
        *,
        train: bool = False,
        size: Int[Array, "B 2"] | None = None,
    ) -> dict[str, Float[Array, "B _ _ _"]]:
        """Computes the features of normalised RGB images.

        `size` is rows and columns of each picture in the upper left corner of `x`. What lies beside
        it is padding: features are those of the picture alone, and 0 on the padding (group norm and
        the statistics of a batch still see it). None: everything is picture.

        Returns:
          In this order: "stem" at stride 2 (before the max-pool), "middle" (see `middle_unit`), and
          the blocks that are built, "block1" to "block4", at strides 4, 8, 16 and 32 or
          `output_stride` if that is less. At stride s, position i is centred on input pixel s * i
          and there are (H - 1) // s + 1 rows.

        Raises:
          ValueError: `depth` or `output_stride` is not one of the choices.
        """
        for name, choices in (("depth", UNITS), ("output_stride", OUTPUT_STRIDES)):
            value, texts = getattr(self, name), map(str, choices)
            if value not in choices:
                raise ValueError(f"{name} = {value}: must be one of {', '.join(texts)}")

        def mask(x, stride):
            return None if size is None else picture_mask(size, x.shape[1:3], stride=stride)

        x = jnp.asarray(x, self.dtype)
        x = masked(x, mask(x, 1))
        x = Conv(self.stem_width or self.width, 7, 2, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(Norm(self.norm, self.dtype, name="norm1")(x, train=train))
        x = stem = masked(x, mask(x, 2))
        x = max_pool(x)
        unit_class = nn.remat(Unit, static_argnums=(2,)) if self.remat else Unit
        blocks, middle = {}, x
        reached, dilation = 4, 1
        for block, units in enumerate(UNITS[self.depth][: self.blocks], 1):
            wanted = 1 if block == 1 else 2
            stride = wanted if reached * wanted <= self.output_stride else 1
            # As in PyTorch, the first unit of a dilated block still has the dilation before it.
            first, dilation = dilation, dilation * wanted // stride
            before, reached = reached, reached * stride
            for unit in range(units):
                inside = mask(x, before if unit == 0 else reached)
                x = unit_class(
                    self.width * 2 ** (block - 1),
                    stride if unit == 0 else 1,
                    first if unit == 0 else dilation,
                    self.norm,
                    self.dtype,
                    name=f"block{block}_unit{unit}",
                )(x, train, inside)
                if block == 3 and unit == middle_unit(self.depth):
                    middle = x
            x = blocks[f"block{block}"] = masked(x, mask(x, reached))
        # A plain dict would leave `jit` sorted by key.
        return OrderedDict(stem=stem, middle=middle, **blocks)
