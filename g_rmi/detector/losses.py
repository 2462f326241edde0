"""The detector's losses: one picture, one sample of anchors or proposals."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from g_rmi.detector.targets import Targets
from g_rmi.nn.losses import huber, logistic


def objectness_loss(logits: Float[Array, " S"], targets: Targets) -> Float[Array, ""]:
    """Mean logistic loss over the sample; 0 for an empty one."""
    return _mean(logistic(logits, targets.person.astype(jnp.float32)), targets)


def class_loss(logits: Float[Array, "S 2"], targets: Targets) -> Float[Array, ""]:
    """Mean softmax loss (background, person) over the sample; 0 for an empty one."""
    log_p = jax.nn.log_softmax(logits)
    return _mean(-jnp.where(targets.person, log_p[:, 1], log_p[:, 0]), targets)


def localisation_loss(
    codes: Float[Array, "S 4"], targets: Targets, *, delta: float
) -> Float[Array, ""]:
    """Huber loss of the box codes, summed over coordinates and people.

    Divided by the size of the whole sample, background included: pictures with few people weigh
    little.
    """
    losses = huber(jnp.abs(codes - targets.codes), delta).sum(-1)
    return _mean(jnp.where(targets.person, losses, 0.0), targets)


def _mean(losses: Float[Array, " S"], targets: Targets) -> Float[Array, ""]:
    count = jnp.sum(targets.valid, dtype=jnp.float32)
    return jnp.sum(losses, where=targets.valid) / jnp.maximum(count, 1.0)
