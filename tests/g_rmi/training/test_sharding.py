"""Batches and states on meshes of several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.training import sharding


def test_rows_are_split_in_order():
    mesh = sharding.data_mesh()
    batch = sharding.put_batch(mesh, {"x": np.arange(16, dtype=np.float32).reshape(8, 2)})
    assert batch["x"].shape == (8, 2)
    shards = sorted(batch["x"].addressable_shards, key=lambda shard: shard.device.id)
    assert [shard.data[0, 0].item() for shard in shards] == [0, 4, 8, 12]


@pytest.mark.parametrize(
    ("size", "grad_accumulation", "message"),
    [
        (24, 1, None),
        (24, 3, None),
        (6, 1, "batch_size = 6 does not split evenly over 4 devices x 1.* such as 4 or 8"),
        (12, 2, "over 4 devices x 2 micro-batches: use a multiple of 8, such as 8 or 16"),
        (3, 1, "such as 4$"),
    ],
)
def test_batch_size_must_split(size, grad_accumulation, message):
    mesh = sharding.data_mesh()
    if message is None:
        sharding.check_batch_size(mesh, size, grad_accumulation)
    else:
        with pytest.raises(ValueError, match=message):
            sharding.check_batch_size(mesh, size, grad_accumulation)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_abstract_is_what_initialise_makes(devices):
    mesh = sharding.data_mesh(jax.devices()[:devices])

    def init(scale):
        return {"w": scale * jnp.ones((2, 3)), "key": jax.random.key(1)}

    made = sharding.initialise(init, mesh, jnp.float32(2))
    abstract = sharding.abstract(init, mesh, jnp.float32(2))
    assert made["w"].sharding == abstract["w"].sharding
    assert len(made["w"].sharding.device_set) == devices
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, abstract)
    assert made["key"].dtype == abstract["key"].dtype


def test_a_split_state_takes_a_share_of_every_device():
    mesh = sharding.data_mesh(jax.devices()[:4])

    def init():
        kernel = jnp.arange(3 * 3 * 16 * 64.0).reshape(3, 3, 16, 64)
        return {"kernel": kernel, "odd": jnp.ones((101, 103)), "bias": jnp.ones(64)}

    made = sharding.initialise(init, mesh, fsdp=True)
    shapes = {name: array.addressable_shards[0].data.shape for name, array in made.items()}
    assert shapes == {"kernel": (3, 3, 16, 16), "odd": (101, 103), "bias": (64,)}
    np.testing.assert_array_equal(made["kernel"], init()["kernel"])
    planned = sharding.abstract(init, mesh, fsdp=True)
    assert jax.tree.map(lambda x: x.sharding, made) == jax.tree.map(lambda x: x.sharding, planned)
