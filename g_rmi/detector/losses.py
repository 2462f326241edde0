"""The detector's losses: one picture, one sample of S anchors or proposals."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g_rmi.detector.targets import Targets
from g_rmi.nn.losses import huber, logistic


def objectness_loss(logits: Float[Array, " S"], targets: Targets) -> Float[Array, ""]:
    """Logistic loss, summed over the sample and divided by its full size S."""
    return _mean(logistic(logits, targets.person.astype(jnp.float32)), targets)


def class_loss(logits: Float[Array, "S L"], targets: Targets) -> Float[Array, ""]:
    """Softmax loss (background, person), summed over the sample and divided by S."""
    return _mean(class_losses(logits, targets.person, targets.classes), targets)


def class_losses(
    logits: Float[Array, "S L"],
    person: Bool[Array, " S"],
    classes: Int[Array, " S"] | None = None,
) -> Float[Array, " S"]:
    """Softmax loss (background, then the classes; None: people alone) of each row."""
    log_p = jax.nn.log_softmax(logits)
    own = log_p[:, 1]
    if classes is not None:
        own = jnp.take_along_axis(log_p, 1 + classes[:, None], axis=1)[:, 0]
    return -jnp.where(person, own, log_p[:, 0])


def localisation_loss(
    deltas: Float[Array, "S 4"], targets: Targets, *, delta: float
) -> Float[Array, ""]:
    """Huber loss of the box deltas, linear from `delta` on, summed over people, divided by S."""
    return _mean(localisation_losses(deltas, targets, delta=delta), targets)


def localisation_losses(
    deltas: Float[Array, "S 4"], targets: Targets, *, delta: float
) -> Float[Array, " S"]:
    """Huber loss of the box deltas of each row, summed over the four; 0 for background."""
    losses = huber(jnp.abs(deltas - targets.deltas), delta).sum(-1)
    return jnp.where(targets.person, losses, 0.0)


def _mean(losses: Float[Array, " S"], targets: Targets) -> Float[Array, ""]:
    # Not by the rows in use: pictures of which only people are known, as the rest is not labelled,
    # would teach that everything is a person.
    return jnp.sum(losses, where=targets.valid) / max(len(losses), 1)
