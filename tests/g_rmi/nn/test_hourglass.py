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


def test_the_deepest_level_adds_to_the_finest_whatever_the_type():
    network = Hourglass(levels=2, dtype=jnp.bfloat16, remat=True, **OPTIONS)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(1, 9, 9, 8)), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), p.dtype), shapes)

    @jax.jit
    def apply(params):
        def total(params):
            y = network.apply({"params": params}, x)
            return y.astype(jnp.float32).sum(), y

        return jax.value_and_grad(total, has_aux=True)(params)

    (_, y), gradient = apply(params)
    assert y.dtype == jnp.bfloat16
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.abs(gradient["inner"]["inner"]["bottom"]["conv2"]["kernel"]).max() > 0
    without = {**params, "enlarge": {"kernel": jnp.zeros((3, 3, 8, 8))}}
    assert not np.allclose(y, apply(without)[0][1], atol=1e-2)
