"""Predictions over a mesh: every row once, whatever the sizes; people dropped as by hand."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.inference.dataset import predict_batches
from g_rmi.training.sharding import data_mesh

TRACED = []


def predict(variables, batch):
    """Something of each row alone, and of the variables."""
    TRACED.append(batch["x"].shape)
    return {"twice": variables["w"] * batch["x"], "any": batch["x"].sum(-1) > 0}


def batches(count, size):
    """Rows in an order of their own; the last batch is filled up as the loader does it."""
    order = np.random.default_rng(0).permutation(count)
    for start in range(0, count, size):
        index = np.full(size, -1, np.int64)
        part = order[start : start + size]
        index[: len(part)] = part
        x = np.stack([index, -index], axis=-1).astype(np.float32)
        yield {"x": x, "index": index, "weight": (index >= 0).astype(np.float32)}


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 1), (7, 3), (16, 8), (9, 5)])
def test_every_row_once(count, size, devices):
    mesh = data_mesh(jax.devices()[:devices])
    variables = {"w": jnp.full((1, 1), 2.0)}
    seen = []
    for index, rows in predict_batches(predict, variables, batches(count, size), mesh=mesh):
        assert index.dtype == np.int32
        np.testing.assert_array_equal(rows["twice"], np.stack([2 * index, -2 * index], -1))
        assert not rows["any"].any()
        seen += index.tolist()
    assert sorted(seen) == list(range(count))


def test_it_compiles_once_and_each_device_gets_its_share():
    TRACED.clear()
    for _ in range(2):
        list(predict_batches(predict, {"w": np.ones((1, 1), np.float32)}, batches(50, 11)))
    assert TRACED == [(3, 2)]  # 11 rows on 4 devices, one of them filling
    # Variables that lie on the mesh already, as in training, are taken as they are.
    list(predict_batches(predict, {"w": jnp.ones((1, 1))}, batches(50, 11)))
    assert TRACED == [(3, 2)]
