"""One optimiser step, pure: gradients (accumulated), update, averages, metrics."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from g_rmi.metrics import Mean
from g_rmi.training.optim import averaging_decay
from g_rmi.training.state import TrainState, update_average
from g_rmi.training.task import Task

Step = Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]]


def split_rows(batch: PyTree, parts: int) -> PyTree:
    """[B, ...] -> [parts, B / parts, ...]; part i has the rows i, i + parts, i + 2 parts, ...

    Neighbouring rows go to different parts, so a batch that is sharded over devices splits without
    moving rows between them.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    grad_accumulation: int = 1,
    ema_decay: float = 0.0,
) -> Step:
    """The step as a pure function (state, batch) -> (state, metrics); the caller jits it.

    It accumulates so many micro-batches; `ema_decay` is the decay of the average if the state has
    one. Metrics are the task's, with "gradient_norm" (before clipping) and "finite" (1 if loss and
    gradients are).
    """
    gradient = jax.grad(task.loss, has_aux=True)

    def gradients(state, batch, key):
        """Mean gradient over the rows of all micro-batches, by their weights."""
        how = {"train": True, "step": state.step}
        if grad_accumulation == 1:
            grads, aux = gradient(state.params, state.model_state, batch, key, **how)
            return grads, *aux

        def micro(carry, inputs):
            total, model_state = carry
            rows, index = inputs
            grads, (model_state, metrics) = gradient(
                state.params, model_state, rows, jax.random.fold_in(key, index), **how
            )
            weight = metrics["loss"].count
            total = jax.tree.map(lambda t, g: t + weight.astype(g.dtype) * g, total, grads)
            return (total, model_state), metrics

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        inputs = split_rows(batch, grad_accumulation), jnp.arange(grad_accumulation)
        (total, model_state), metrics = jax.lax.scan(micro, (zeros, state.model_state), inputs)
        metrics = jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics)
        weight = jnp.maximum(metrics["loss"].count, 1e-6)  # all rows may be padding
        return jax.tree.map(lambda g: g / weight.astype(g.dtype), total), model_state, metrics

    def step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        grads, model_state, metrics = gradients(state, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            decay = averaging_decay(ema_decay, state.step)
            average = update_average(average, {"params": params, **model_state}, decay)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"].total)
        one = jnp.float32(1)
        metrics |= {
            "gradient_norm": Mean(norm, one),
            "finite": Mean(finite.astype(jnp.float32), one),
        }
        state = state.replace(
            step=state.step + 1,
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            average=average,
        )
        return state, metrics

    return step
