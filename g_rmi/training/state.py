"""The training state: everything a step reads and writes."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from g_rmi.training.task import Task, Variables


@flax.struct.dataclass
class TrainState:
    """A frozen pytree."""

    step: Any  # finished optimiser steps, int32
    params: PyTree  # trained parameters
    model_state: Any  # the other collections of variables, such as batch_stats; may be empty
    opt_state: PyTree  # state of the optimiser
    # Polyak average of *all* variables, or None. Running statistics of norms are averaged with the
    # weights: they belong to the weights of their time, which the averaged ones lag behind. (A
    # small net after 1,200 steps of SGD: held-out loss .38 with averaged statistics, .50 with the
    # current ones, .61 with nothing averaged.)
    average: Any
    key: Any  # root of the training's random numbers; never changes, steps fold their number in

    @property
    def variables(self) -> Variables:
        """The current variables of the model."""
        return {"params": self.params, **self.model_state}


def create_state(
    task: Task,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    *,
    average: bool,
    given: Variables | None = None,
) -> TrainState:
    """The state before the first step.

    `given` variables, such as imported weights, replace the initial ones; what they leave out keeps
    its initial value.
    """
    init_key, train_key = jax.random.split(key)
    variables = overlay(task.init(init_key), given or {})
    params = variables.pop("params")
    return TrainState(
        step=jnp.int32(0),
        params=params,
        model_state=variables,
        opt_state=optimizer.init(params),
        # Copies: the state is donated, and a buffer can be donated only once.
        average=jax.tree.map(jnp.copy, {"params": params, **variables}) if average else None,
        key=train_key,
    )


def overlay(variables: Variables, given: Mapping[str, Any], path: str = "") -> Variables:
    """Replaces leaves of a tree of variables by given ones.

    A ValueError names one that is not in the tree, or has another shape.
    """
    merged = dict(variables)
    for name, value in given.items():
        where = f"{path}/{name}" if path else name
        if name not in merged:
            raise ValueError(f"given variable {where!r} is not in the model")
        old = merged[name]
        if isinstance(value, Mapping) != isinstance(old, Mapping):
            raise ValueError(f"given variable {where!r} does not have the model's structure")
        if isinstance(value, Mapping):
            merged[name] = overlay(old, value, where)
        elif jnp.shape(value) != jnp.shape(old):
            raise ValueError(
                f"given variable {where!r} has shape {jnp.shape(value)}, the model {jnp.shape(old)}"
            )
        else:
            merged[name] = jnp.array(value, old.dtype)
    return merged


def update_average(average: Variables, variables: Variables, decay: Float[Array, ""]) -> Variables:
    """One step of the exponential average, a + (1 - decay) (v - a)."""

    def update(a, v):
        if not jnp.issubdtype(v.dtype, jnp.floating):
            return v
        return a + (1 - decay).astype(a.dtype) * (v - a)

    return jax.tree.map(update, average, variables)


def evaluation_variables(state: TrainState) -> Variables:
    """The variables to evaluate and predict with: the average where there is one."""
    return state.variables if state.average is None else state.average
