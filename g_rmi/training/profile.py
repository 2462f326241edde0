"""A trace of some steps by JAX's profiler, for TensorBoard or Perfetto."""

import contextlib
import pathlib
from typing import Any

import jax

_BEFORE = 2  # Steps that are not traced: the first compiles, the second waits for it.


class Profile:
    """Traces `steps` steps of a run into a directory, after the first ones; of 0, none."""

    def __init__(self, directory: pathlib.Path, steps: int, *, first: int):
        """`first` is the number of steps that were finished before the run."""
        self._directory = directory
        self._begin, self._end = first + _BEFORE, first + _BEFORE + steps
        self._running = False

    def step(self, finished: int, state: Any) -> contextlib.AbstractContextManager:
        """To be called before each step; what is returned marks the step in the trace."""
        if finished == self._end:
            self.close(state)
        if self._begin <= finished < self._end:
            if not self._running:
                jax.block_until_ready(state)
                jax.profiler.start_trace(self._directory)
                self._running = True
            return jax.profiler.StepTraceAnnotation("train", step_num=finished + 1)
        return contextlib.nullcontext()

    def close(self, state: Any = None) -> None:
        """Writes the trace, if one has begun; waits for the steps before `state`."""
        if self._running:
            self._running = False
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
