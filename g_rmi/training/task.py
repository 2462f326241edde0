"""What the training loop knows about a task: three functions. Types only."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int, Int64, Key, PyTree

from g_rmi.metrics import Mean

Variables = dict[str, Any]  # {"params": ..., "batch_stats": ..., ...}
ModelState = dict[str, Any]  # the variables without "params"


@runtime_checkable
class Task(Protocol):
    """A model with its loss and its predictions."""

    def init(self, key: Key[Array, ""]) -> Variables:
        """Makes the variables: "params" and, where the model has state, "batch_stats"."""
        ...

    def loss(
        self,
        params: PyTree,
        model_state: ModelState,
        batch: PyTree,
        key: Key[Array, ""],
        *,
        train: bool,
        step: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, ""], tuple[ModelState, dict[str, Mean]]]:
        """Loss of one batch.

        The loss is a weighted mean, sum_i w_i l_i / sum_i w_i, over the rows of the *global* batch
        (under `jit` with a sharded batch a plain `jnp.sum` is already global). `metrics["loss"]` is
        the same mean undivided: its count, sum_i w_i, is the weight with which the step adds up
        gradients of micro-batches, so that accumulation over padded rows equals one large batch.
        A loss with several terms divides all of them by this one count. A batch of nothing but
        padding has count 0 and a finite loss.

        The key, for dropout and the like, differs at each step and micro-batch; `train` asks for
        batch statistics and noise as in training; `step` counts the optimiser's steps before this
        one, for schedules. Returns the loss, float32, and (new model state,
        metrics); metrics hold at least "loss".
        """
        ...

    @property
    def predict(self) -> Callable[..., PyTree]:
        """Predictions from variables and inputs; for evaluators, the loop does not call it."""
        ...


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of training batches that can be saved and restored exactly."""

    def __iter__(self) -> Iterator[tuple[Int64[np.ndarray, " B"], PyTree]]:
        """Itself."""
        ...

    def __next__(self) -> tuple[Int64[np.ndarray, " B"], PyTree]:
        """The record ids of this host's rows, and their numpy arrays."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Position before the next batch, as JSON values."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position."""
        ...
