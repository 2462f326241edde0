"""The hourglass: sizes it keeps, how far it sees, where it ends."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.nn.hourglass import Hourglass

OPTIONS = {"channels": 8, "norm": "group"}


def depth(params):
    return 1 + depth(params["inner"]) if "inner" in params else 0


@pytest.mark.parametrize(
    ("size", "levels", "reached"),
    [
        ((17, 9), 2, 2),
        ((17, 9), 4, 3),  # 2 x 3 after three halvings
        ((12, 9), 4, 0),  # an even side
        ((25, 17), 4, 3),  # then 4 x 3
        ((1, 9), 4, 0),
        ((9, 9), 0, 0),
    ],
)
def test_sizes_stay_and_levels_end_where_maps_cannot_be_halved(size, levels, reached):
    network = Hourglass(levels=levels, **OPTIONS)
    x = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    y, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    assert y.shape == (2, *size, 8)
    assert depth(variables["params"]) == reached


def test_the_deepest_level_sees_everything_and_arithmetic_follows_the_type():
    network = Hourglass(levels=2, dtype=jnp.bfloat16, remat=True, **OPTIONS)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 9, 8)), jnp.float32)
    variables = network.init(jax.random.key(0), x)
    # Units begin as the identity; their last norm's scale lets the convolutions through.
    variables = jax.tree.map_with_path(
        lambda path, v: jnp.ones_like(v) if path[-1].key == "scale" else v, variables
    )
    # Group norm sees everything at once, so compare against the norm alone: drop the way up.
    y = network.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    params = {**variables["params"], "enlarge": {"kernel": jnp.zeros((3, 3, 8, 8))}}
    assert not np.allclose(y, network.apply({"params": params}, x), atol=1e-2)
    gradient = jax.grad(lambda p: network.apply({"params": p}, x).astype(jnp.float32).sum())(
        variables["params"]
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.abs(gradient["inner"]["inner"]["bottom"]["conv2"]["kernel"]).max() > 0
