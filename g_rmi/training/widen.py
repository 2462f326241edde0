"""A wider network that begins as a narrower one (Net2Net: Chen, Goodfellow and Shlens, 2016)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from g_rmi.training.task import Variables


def widen(given: Mapping[str, Any], like: Mapping[str, Any], seed: int = 0) -> Variables:
    """Weights of a narrower network for a wider one, which computes the same with them.

    Channel j of the wider network is channel j modulo n of the n that are given. What a channel
    sends on, its copies send in random shares that add up to 1, and so learn different things.
    Group norms see other groups, and then it is not the same.

    Args:
      given: Variables: vectors [channels] and kernels [..., in, out].
      like: The wider network's variables, or their shapes.
      seed: Of the shares.

    Returns:
      `given`, wider where `like` is; what cannot become so is left as it is.
    """
    rng = np.random.default_rng(seed)

    def widened(value: Any, like: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(like, Mapping):
            return {
                name: widened(leaf, like[name]) if name in like else leaf
                for name, leaf in value.items()
            }
        old, new = np.shape(value), np.shape(like)
        alike = len(old) == len(new) and old[:-2] == new[:-2]
        if old == new or not alike or any(before > now for before, now in zip(old, new)):
            return value
        value = np.asarray(value)[..., np.arange(new[-1]) % old[-1]]
        return value if len(new) == 1 else _shared(value, new[-2], rng)

    return widened(given, like)


def _shared(kernel: np.ndarray, inputs: int, rng: np.random.Generator) -> np.ndarray:
    """A kernel of more inputs, each the copy of an old one that has a share of its weights."""
    origin = np.arange(inputs) % kernel.shape[-2]
    shares = rng.uniform(0.25, 0.75, (inputs, kernel.shape[-1]))
    sums = np.zeros(kernel.shape[-2:])
    np.add.at(sums, origin, shares)
    return kernel[..., origin, :] * (shares / sums[origin]).astype(kernel.dtype)
