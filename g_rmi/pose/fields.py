"""The kinds of maps that pose networks predict: how each is resized, mirrored and drawn."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from g_rmi.ops.image import resize_align_corners
from g_rmi.types import Grid


class Field(NamedTuple):
    """One kind of map, [B, h, w, *(K,) * joints, *((2,) if vector else ())]."""

    name: str  # its key among the network's maps
    joints: int = 1  # axes of joints: 1, or 2 for what a joint says about another one
    vector: bool = False  # holds vectors `(x, y)` in crop pixels
    logits: bool = False  # holds the logits of probabilities
    meaning: str = ""  # what a value says, for drawings


def resize(
    maps: Float[Array, "h w *channels"], grid: Grid
) -> Float[Array, "height width *channels"]:
    """`resize_align_corners` of a map with any axes of channels."""
    flat = maps.reshape(*maps.shape[:2], -1)
    return resize_align_corners(flat, **grid._asdict()).reshape(*grid, *maps.shape[2:])


def mirror(
    maps: Float[Array, "B h w *channels"], field: Field, *, flip: Int[np.ndarray, " K"]
) -> Float[Array, "B h w *channels"]:
    """What the maps of crops say about the mirrored crops, and back; exact.

    `flip` is the joint that each joint becomes in a mirrored image.
    """
    maps = maps[:, :, ::-1]
    for axis in range(3, 3 + field.joints):
        maps = jnp.take(maps, flip, axis=axis)
    signs = jnp.array([-1.0, 1.0], maps.dtype)[(None,) * (maps.ndim - 1)]
    return maps * signs if field.vector else maps
