"""An hourglass: residual units down to coarse maps and, by learned up-sampling, back again."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from g_rmi.nn.conv import ConvTranspose
from g_rmi.nn.resnet import EXPANSION, Unit
from g_rmi.nn.rewrites import max_pool


class Hourglass(nn.Module):
    """Maps seen at several scales, each added to the finer one (Newell et al., 2016).

    On the align-corners grid: each level goes from 2 n - 1 rows and columns to n, by a maximum over
    3x3, and back by a transposed convolution in place of the nearest neighbour, as Bulat and
    Tzimiropoulos (2016) have it. Its residual units are those of our ResNets.

    Attributes:
      channels: Of its maps, a multiple of 4.
      levels: How often maps are halved, at most: it ends early at an even or single row or column,
        which would not come back as it was.
      norm: As in `g_rmi.nn.norm.Norm`.
      dtype: Of the arithmetic.
      remat: Recompute each unit in the backward pass instead of storing it.
    """

    channels: int
    levels: int = 4
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Array:
        """Maps of the same size with `channels` channels."""
        unit_class = nn.remat(Unit, static_argnums=(2,)) if self.remat else Unit

        def unit(name: str, x: Array) -> Array:
            width, options = self.channels // EXPANSION, {"norm": self.norm, "dtype": self.dtype}
            return unit_class(width, **options, name=name)(x, train)

        x = x.astype(self.dtype)
        rows, columns = x.shape[1:3]
        if not self.levels or min(rows, columns) < 3 or not rows % 2 or not columns % 2:
            return unit("bottom", x)
        low = unit("down", max_pool(x))
        low = self.clone(levels=self.levels - 1, name="inner", parent=self)(low, train=train)
        up = ConvTranspose(self.channels, dtype=self.dtype, name="enlarge")(unit("up", low))
        return unit("skip", x) + up
