"""What a backbone is, and what all of them share: the images they take, pictures on canvases."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import linen as nn
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

OUTPUT_STRIDES = (8, 16, 32)


class ImageStatistics(NamedTuple):
    """What images are normalised by: mean and deviation of R, G and B in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# What imported weights of torchvision and timm expect.
IMAGENET = ImageStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@runtime_checkable
class Backbone(Protocol):
    """A frozen dataclass: its fields are its settings, which are its size, and its flags.

    The modules take `norm`, `dtype`, `remat` and linen's `name`; what they compute stays on the
    align-corners grid: at stride s, position i is centred on input pixel s * i.
    """

    @property
    def kind(self) -> Any:
        """Literal[NAME], which tells backbones apart in saved configs; `--backbone NAME`."""

    def __str__(self) -> str:
        """Its name with its size, for tables."""

    @property
    def statistics(self) -> ImageStatistics:
        """Of the images that it takes."""

    @property
    def relative_width(self) -> float:
        """Layers that detectors add have so many times the channels that their settings say."""

    def features(self, *, output_stride: int, blocks: int = 4, **options: Any) -> nn.Module:
        """The network without its classifier, and only the first `blocks` of four.

        Called with normalised images [B, H, W, 3] as `g_rmi.nn.resnet.ResNet` is, it gives the same
        maps by the same names: "stem", "middle", "block1" to "block4". Modules of block n are
        called "block{n}_...".
        """

    def block4(self, *, dilation: int = 1, **options: Any) -> nn.Module:
        """The last block by itself, at stride 1: `g_rmi.nn.resnet.Block4`, with the same names."""


def normalise(
    image: Num[Array | np.ndarray, "B H W 3"], statistics: ImageStatistics = IMAGENET
) -> Float[Array, "B H W 3"]:
    """RGB in 0..255 to what a backbone takes."""
    mean, std = (np.array(v, np.float32)[None, None, None] for v in statistics)
    return (jnp.asarray(image, jnp.float32) / 255.0 - mean) / std


def picture_mask(
    size: Int[Array, "B 2"], shape: tuple[int, ...], *, stride: int
) -> Bool[Array, "B height width 1"]:
    """Positions of a map that lie on the picture, not on the padding beside it.

    Position i lies on pixel `stride * i`; `size` is rows and columns of each picture, in pixels.
    """
    height, width = shape
    rows = stride * jnp.arange(height)[None, :] < size[:, :1]
    columns = stride * jnp.arange(width)[None, :] < size[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def masked(x: Array, mask: Array | None) -> Array:
    """`x`, 0 where a mask leaves it out."""
    return x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))
