"""The network of Belagiannis & Zisserman (2017): a feed-forward trunk and a recurrent block.

Layers as in the authors' training code, but for pooling: theirs takes the maximum of 2x2 positions,
whose centre lies between them; ours of 3x3 around every second one, for mirrored crops to give
mirrored maps. They start from weights of deviation .01 everywhere, we from He's.
"""

from collections import OrderedDict
from functools import partial

from flax import linen as nn
from jax import numpy as jnp
from jaxtyping import Array, Float

from g_rmi.nn.conv import Conv
from g_rmi.nn.norm import Norm
from g_rmi.nn.rewrites import max_pool


class FeedForward(nn.Module):
    """The article's trunk, of stride 4."""

    channels: int  # of the first convolutions; the article has 64
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W 3"], *, train: bool = False
    ) -> dict[str, Float[Array, "B _ _ _"]]:
        """Features of normalised RGB images, from first to last; "skip" is what goes around."""

        def convolve(x, name, size, width):
            x = Conv(width * self.channels, size, dtype=self.dtype, name=name)(x)
            return nn.relu(Norm(self.norm, self.dtype, name=f"{name}_norm")(x, train=train))

        x = full = convolve(convolve(x, "conv1", 3, 1), "conv2", 3, 1)
        x = half = convolve(convolve(max_pool(x), "conv3", 3, 1), "conv4", 3, 2)
        x = skip = convolve(convolve(max_pool(x), "conv5", 3, 2), "conv6", 3, 2)
        x = convolve(convolve(x, "conv7", 9, 4), "conv8", 9, 8)
        return OrderedDict(full=full, half=half, skip=skip, deep=x)


class Recurrence(nn.Module):
    """Keypoint and limb maps of the feed-forward features and after each iteration.

    The iterations share their convolutions and the layers that make maps; each has norms of its
    own. The feed-forward maps have layers of their own.
    """

    joints: int
    limbs: int  # 0 for no limb maps
    channels: int  # a quarter of what goes from one iteration to the next
    kernels: tuple[int, ...]  # sizes of an iteration's convolutions
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B h w C"],
        skip: Float[Array, "B h w D"],
        *,
        iterations: int,
        train: bool = False,
    ) -> list[dict[str, Float[Array, "B h w _"]]]:
        """The float32 maps of each stage, "heatmap" and "limbs": feed-forward, then iterations."""
        wide = partial(Conv, 4 * self.channels, 1, use_bias=True, dtype=self.dtype)
        widths = [self.channels] * (len(self.kernels) - 1) + [2 * self.channels]
        sizes = zip(widths, self.kernels)
        shared = [Conv(*s, dtype=self.dtype, name=f"conv{i}") for i, s in enumerate(sizes)]
        end = wide(name="end")
        heads = [self._heads(name) for name in ("forward", "recurrent")]

        x = features
        for name in ("hidden0", "hidden1"):
            x = nn.relu(wide(name=name)(x))
        stages = [_maps(heads[0], x)]
        for iteration in range(1, iterations + 1):
            y = jnp.concatenate([skip.astype(self.dtype), x], axis=-1)
            for i, convolution in enumerate(shared):
                norm = Norm(self.norm, self.dtype, name=f"iteration{iteration}_norm{i}")
                y = nn.relu(norm(convolution(y), train=train))
            x = nn.relu(end(y))
            stages.append(_maps(heads[1], x))
        return stages

    def _heads(self, stage: str) -> dict[str, nn.Module]:
        options = {"use_bias": True, "kernel_init": nn.initializers.normal(0.01)}
        sizes = {"heatmap": self.joints, "limbs": self.limbs}
        return {
            kind: Conv(size, 1, dtype=self.dtype, name=f"{stage}_{kind}", **options)
            for kind, size in sizes.items()
            if size
        }


def _maps(heads: dict[str, nn.Module], x: Array) -> dict[str, Array]:
    return {kind: nn.relu(head(x).astype(jnp.float32)) for kind, head in heads.items()}
