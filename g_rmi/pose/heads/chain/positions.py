"""Joints as positions of a map: one cell, or a distribution over all; and the loss of one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g_rmi.types import Grid


def on_map(keypoints: Float[Array, "K 2"], crop: Grid, size: Grid) -> Float[Array, "K 2"]:
    """Crop pixels as places `(x, y)` on a map whose corner cells lie on the crop's corners."""
    columns, rows = (
        (cells - 1) / max(pixels - 1, 1)
        for cells, pixels in ((size.width, crop.width), (size.height, crop.height))
    )
    return keypoints * jnp.array([columns, rows], jnp.float32)[None]


def cells(points: Float[Array, "K 2"], size: Grid) -> tuple[Int[Array, " K"], Bool[Array, " K"]]:
    """The nearest cell of each place on a map, counted by rows, and whether the map has it.

    Halves go up. A place that is not finite has none; its number, as any outside, is 0.
    """
    nearest = jnp.floor(points + 0.5)
    last = jnp.array([size.width, size.height], jnp.float32)[None]
    inside = jnp.all((nearest >= 0) & (nearest < last), axis=-1)  # False of nan
    column, row = jnp.where(inside[:, None], nearest, 0.0).astype(jnp.int32).T
    return row * size.width + column, inside


def one_hot(cell: Int[Array, "..."], size: Grid) -> Float[Array, "... H W"]:
    """Maps that are 1 in one cell."""
    flat = jax.nn.one_hot(cell, size.height * size.width, dtype=jnp.float32)
    return flat.reshape(*cell.shape, *size)


def distributions(
    points: Float[Array, "K 2"], size: Grid, *, sigma: float
) -> Float[Array, "K H W"]:
    """Gaussians around finite places on a map, each divided by its sum; `sigma` is in cells."""
    x, y = (jnp.arange(side, dtype=jnp.float32) for side in (size.width, size.height))
    dx = (points[:, 0, None, None] - x[None, None]) / sigma
    dy = (points[:, 1, None, None] - y[None, :, None]) / sigma
    # As a softmax: of a narrow Gaussian between cells nothing would be left to divide by.
    return jax.nn.softmax(-(dx**2 + dy**2) / 2, axis=(1, 2))


def divergence(
    logits: Float[Array, "K H W"], target: Float[Array, "K H W"], include: Bool[Array, " K"]
) -> Float[Array, ""]:
    """Cross-entropy of softmaxes over all positions, less that of perfect ones, over joints.

        sum_k sum_x t_k(x) (log t_k(x) - log p_k(x))        p_k = softmax_x of joint k's logits

    For a target of one cell this is the cross-entropy.
    """
    log_p = jax.nn.log_softmax(logits, axis=(1, 2))
    some = target > 0
    log_t = jnp.log(jnp.where(some, target, 1.0))
    each = jnp.sum(jnp.where(some, target * (log_t - log_p), 0.0), axis=(1, 2))
    return jnp.sum(jnp.where(include, each, 0.0))
