"""Samples pictures on the device, from the mipmap whose pixels lie about as far apart."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from g_rmi.inference.canvas import Letterbox
from g_rmi.ops.image import sample_grid, sample_points

# Block means that a picture is sampled from where it is shrunk, as in training.
REDUCTIONS = (1, 2, 4, 8)


def mipmaps(pictures: Letterbox) -> list[Array]:
    """Means of 1, 4, 16 and 64 pixels, the pictures of a level one below the other.

    The last rows and columns are repeated to fill a block. A level is a float [B h, w, 3], the
    first one the uint8 buffer itself.
    """
    image, size = pictures.image, pictures.size
    count, height, width, _ = image.shape

    def repeat_edge(image, size):
        rows = jnp.minimum(jnp.arange(height), size[0] - 1)
        columns = jnp.minimum(jnp.arange(width), size[1] - 1)
        return image[rows][:, columns]

    levels = [image]
    x = jax.vmap(repeat_edge)(image, size).astype(jnp.float32)
    for reduction in REDUCTIONS[1:]:
        x = x.reshape(count, x.shape[1] // 2, 2, x.shape[2] // 2, 2, 3).mean((2, 4))
        rows = reduction * jnp.arange(x.shape[1])[None, :] < size[:, :1]
        columns = reduction * jnp.arange(x.shape[2])[None, :] < size[:, 1:]
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        levels.append(jnp.where(inside, x, 0.0))
    return [level.reshape(-1, *level.shape[2:]) for level in levels]


def sample(
    levels: Sequence[Array],
    sizes: Int[Array, "B 2"],
    picture: Int[Array, ""],
    rows: Float[Array, "..."],
    columns: Float[Array, "..."],
    area: Float[Array, ""],
) -> Float[Array, "h w 3"]:
    """Samples one of the pictures, bilinear, zeros outside.

    `levels` are the `mipmaps` and `sizes` the rows and columns of all pictures. The samples are
    where rows [h] and columns [w] cross, y and x in image pixels, or points [h, w] that are no
    grid; `area` is the image pixels between neighbouring ones, squared.
    """
    count = len(sizes)

    def from_level(number):
        level, reduction = levels[number], REDUCTIONS[number]
        height = level.shape[0] // count

        def along(positions, side):
            # Block i has its centre at r i + (r - 1) / 2.
            positions = (positions - (reduction - 1) / 2) / reduction
            # Further out than the zeros below each picture lies another picture.
            side = (-(-side // reduction)).astype(jnp.float32)
            return jnp.where((positions > -1) & (positions < side), positions, jnp.nan)

        y, x = along(rows, sizes[picture, 0]), along(columns, sizes[picture, 1])
        y += (picture * height).astype(jnp.float32)
        if y.ndim == 1:
            return sample_grid(level, y[None], x[None])[0]
        return sample_points(level, jnp.stack([x, y], axis=-1))

    wanted = sum((area >= r * r).astype(jnp.int32) for r in REDUCTIONS[1:])
    return lax.switch(wanted, [partial(from_level, n) for n in range(len(REDUCTIONS))])
