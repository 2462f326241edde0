"""Optimiser, learning-rate schedule, weight decay mask and averaging, from one `OptimConfig`."""

from collections.abc import Callable, Collection, Hashable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.training.muon import scale_by_muon

Schedule = Callable[[ArrayLike], Array | np.ndarray | np.floating]


def make_schedule(optim: OptimConfig, steps: int) -> Schedule:
    """Learning rate as a function of the number of finished steps.

    A linear rise from zero over the warm-up, then constant, a cosine that reaches zero at `steps`,
    the length of the training, or a tenth from each boundary on. For an `int` it computes on the
    host, so that logging the rate does not wait for the device.
    """

    def schedule(step):
        xp = jnp if isinstance(step, jax.Array) else np
        step = xp.float32(step)
        shape = xp.float32(1)
        if optim.schedule == "cosine":
            done = (step - optim.warmup_steps) / max(steps - optim.warmup_steps, 1)
            # cos^2(x / 2) = (1 + cos x) / 2, without the cancellation near the end.
            shape = xp.cos(np.float32(np.pi / 2) * xp.clip(done, 0.0, 1.0)) ** 2
        elif optim.schedule == "steps":
            passed = xp.sum(step >= np.asarray(optim.boundaries, np.float32))
            shape = xp.float32(0.1) ** passed.astype(np.float32)
        if optim.warmup_steps:
            shape = xp.where(step < optim.warmup_steps, step / optim.warmup_steps, shape)
        return optim.learning_rate * shape

    return schedule


def decay_mask(params: PyTree) -> PyTree:
    """True where weight decay applies: kernels, not biases and norms (one axis or none)."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def hidden_kernels(params: PyTree) -> PyTree:
    """True for what Muon moves: convolution kernels without a bias beside them.

    A norm follows those, so that their scale is of no matter; heads, norms and biases are Adam's.
    """
    bias = jax.tree_util.DictKey("bias")
    leaves = jax.tree.leaves_with_path(params)
    heads = {path[:-1] for path, _ in leaves if path[-1] == bias}
    return jax.tree.map_with_path(lambda path, x: x.ndim == 4 and path[:-1] not in heads, params)


def make_optimizer(
    optim: OptimConfig, steps: int, frozen: Collection[str] = ()
) -> optax.GradientTransformation:
    """The chain clip -> (L2) -> sgd, adamw or muon -> schedule over a training of `steps`.

    Parameters below the `frozen` names stay as they are: nor does their weight decay.
    """
    schedule = make_schedule(optim, steps)
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    if optim.optimizer == "sgd":
        if optim.weight_decay:
            parts.append(optax.add_decayed_weights(optim.weight_decay, decay_mask))
        parts.append(optax.sgd(schedule, momentum=optim.momentum or None))
    elif optim.optimizer == "muon":
        adam = _promoting(optax.scale_by_adam(nesterov=True))
        both: dict[Hashable, optax.GradientTransformation] = {True: scale_by_muon(), False: adam}
        parts += [
            optax.partition(both, hidden_kernels),
            optax.add_decayed_weights(optim.weight_decay, decay_mask),
            optax.scale_by_learning_rate(schedule),
        ]
    else:
        adamw = optax.adamw(schedule, weight_decay=optim.weight_decay, mask=decay_mask)
        parts.append(_promoting(adamw))
    if frozen:

        def stays(params):
            return {name: name in frozen for name in params}

        parts.append(optax.masked(optax.set_to_zero(), stays))
    return optax.chain(*parts)


def _promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Lets Adam raise a float to an integer power where strict promotion is on."""

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def averaging_decay(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """Decay of the average at step n, min(decay, (1 + n) / (10 + n)): early weights fade fast."""
    n = step.astype(jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1 + n) / (10 + n))


def describe(optim: OptimConfig, train: TrainConfig, devices: int) -> str:
    """One line that says how the learning rate and the batch over all devices hang together."""
    rate = f"{optim.learning_rate:g} {optim.schedule}"
    if optim.schedule == "steps":
        rate += f" (/ 10 at {', '.join(map(str, optim.boundaries))})"
    if optim.warmup_steps:
        rate += f" after {optim.warmup_steps} warm-up steps"
    name = optim.optimizer
    if name == "sgd" and optim.momentum:
        name += f" momentum {optim.momentum:g}"
    each = train.batch_size // (devices * train.grad_accumulation)
    batch = f"{train.batch_size} = {devices} device{'s' * (devices > 1)} x {each}"
    if train.grad_accumulation > 1:
        batch += f" x {train.grad_accumulation} micro-batches"
    return (
        f"{name}, learning rate {rate}, for the global batch {batch} "
        f"(not rescaled with devices), {train.steps} steps"
    )
