"""R-FCN's network: backbone, region proposals, position-sensitive maps of the whole picture."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from g_rmi.detector.proposals import BoxOutputs
from g_rmi.detector.rfcn.config import RFCNConfig
from g_rmi.detector.two_stage.network import TwoStageNetwork
from g_rmi.nn.backbone import picture_mask
from g_rmi.nn.conv import Conv, project
from g_rmi.ops.roi import position_sensitive_roi

_DELTAS = 4  # maps of each part for the person's box, after those for background and person


class BoxHead(nn.Module):
    """Block 4 on the whole map, reduced to fewer channels, then maps for each part of a region."""

    config: RFCNConfig
    classes: int

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B h w C"],
        mask: Bool[Array, "B h w 1"],
        *,
        train: bool = False,
    ) -> Float[Array, "B h w G"]:
        """Features of block 3 to maps, float32, (part * (C + 5) + c) as they are pooled."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        block4 = c.block4(dilation=c.dilation, name="block4")
        x = block4(features.astype(dtype), train=train, mask=mask)
        channels = max(1, int(c.reduced_channels * c.backbone.relative_width))
        x = nn.relu(Conv(channels, 1, use_bias=True, dtype=dtype, name="reduce")(x))
        parts = c.bins**2
        maps = (
            project(x, parts * (1 + self.classes), name="class", dtype=dtype),
            project(x, parts * _DELTAS, name="codes", dtype=dtype),
        )
        by_part = [m.reshape(*m.shape[:3], parts, -1) for m in maps]
        return jnp.concatenate(by_part, axis=-1).reshape(*maps[0].shape[:3], -1)


class RFCNNetwork(TwoStageNetwork):
    """R-FCN's network: block 4 runs once, regions are read off maps without parameters."""

    config: RFCNConfig

    def make_head(self) -> BoxHead:
        """Block 4, and what follows it."""
        return BoxHead(self.config, self.classes)

    def shared(
        self, features: Float[Array, "B h w C"], size: Int[Array, "B 2"], *, train: bool
    ) -> Float[Array, "B h w G"]:
        """The position-sensitive maps."""
        stride = self.config.output_stride
        mask = picture_mask(size, features.shape[1:3], stride=stride)
        maps = self.box_head(features, mask, train=train)
        return jax.vmap(partial(continue_border, stride=stride))(maps, size)

    def classify(
        self, shared: Float[Array, "B h w G"], boxes: Float[Array, "B R 4"], *, train: bool = False
    ) -> BoxOutputs:
        """Second step: the parts of regions vote."""
        del train
        votes = jax.vmap(partial(vote, config=self.config))(shared, boxes)
        return BoxOutputs(votes[..., :-_DELTAS], votes[..., -_DELTAS:])


def vote(
    maps: Float[Array, "h w G"], boxes: Float[Array, "R 4"], *, config: RFCNConfig
) -> Float[Array, "R V"]:
    """The mean over a region's parts, each read from its own maps (R-FCN, eqs. 1 and 2).

    Cell (i, j) of the maps lies on canvas pixel (stride * j, stride * i).
    """
    stride = config.output_stride
    options = {"spatial_scale": 1 / stride, "sampling_ratio": config.bin_samples}
    # Half-pixel sampling sees the centre of cell (i, j) at (j + .5, i + .5).
    parts = position_sensitive_roi(maps, boxes + stride / 2, bins=config.bins, **options)
    return parts.mean((1, 2))


def continue_border(
    maps: Float[Array, "h w G"], size: Int[Array, " 2"], *, stride: int
) -> Float[Array, "h w G"]:
    """The picture's last row and column go on beside it, as if the map ended with the picture.

    Regions reach up to a cell past the last; with what lies there, padding would change results.
    """
    last = (size - 1) // stride
    rows, columns = (
        jnp.minimum(jnp.arange(side), jnp.maximum(last[axis], 0))
        for axis, side in enumerate(maps.shape[:2])
    )
    return maps[rows][:, columns]
