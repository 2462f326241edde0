"""SIGTERM and Ctrl-C become a request that the training loop meets between two steps."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """Listens while the context is open; a second signal interrupts at once.

    With several hosts JAX's own preemption notice (SIGTERM) is used, which all of them see at the
    same step. `signal` is the one that was received.
    """

    def __init__(self):
        self.signal = signal.SIGTERM
        self._requested = False
        self._previous: dict[int, Any] = {}

    def requested(self, step: int) -> bool:
        """Whether to stop at this step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    def __enter__(self) -> "StopRequest":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self.signal, self._requested = signal.Signals(number), True
        print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)
