"""Metrics as (total, count): they merge exactly over micro-batches, steps, devices and hosts.

A mean of means is wrong as soon as the parts have different sizes (padded rows, unlabelled joints),
so nothing in this project divides before the last moment, which is `Mean.compute` on the host.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Mean(NamedTuple):
    """A weighted mean that is not divided yet: sums of the weighted values and of the weights."""

    total: Any
    count: Any

    def merge(self, other: "Mean") -> "Mean":
        """The mean over both parts."""
        return Mean(self.total + other.total, self.count + other.count)

    def compute(self) -> float:
        """The value, on the host; nan if nothing was counted."""
        return float(self.total) / float(self.count) if self.count else float("nan")


def masked_mean(
    values: Float[Array, "*shape"], mask: Bool[Array, "*shape"] | Float[Array, "*shape"]
) -> Mean:
    """Mean of what is in a mask, or by weights; what is left out may even be nan."""
    weights = mask.astype(jnp.float32)
    kept = jnp.where(weights > 0, values.astype(jnp.float32), 0.0)
    return Mean(jnp.sum(weights * kept), jnp.sum(weights))


def merge(first: Mapping[str, Mean], second: Mapping[str, Mean]) -> dict[str, Mean]:
    """Merges by name; a name that only one side has is kept."""
    merged = dict(first)
    for name, value in second.items():
        merged[name] = merged[name].merge(value) if name in merged else value
    return merged


def compute(metrics: Mapping[str, Mean]) -> dict[str, float]:
    """All values, on the host."""
    return {name: value.compute() for name, value in jax.device_get(dict(metrics)).items()}
