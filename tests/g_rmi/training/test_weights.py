"""One file that stands for a training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from g_rmi.config import upgrade
from g_rmi.training.checkpoint import load_variables
from g_rmi.training.weights import read_weights, write_weights

CONFIG = {"stage": "pose", "model": {"depth": 26, "boundaries": [1, 2]}}
VARIABLES = {
    "params": {"conv": {"kernel": jnp.array([[0.1, -2.0], [1e-7, 3.0]])}, "bias": jnp.ones(3)},
    "batch_stats": {"norm": {"var": jnp.array([1e-9, 1e6])}},
}


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "pose.safetensors"
    write_weights(path, CONFIG, VARIABLES)
    config, variables = load_variables(path)
    assert config == upgrade(CONFIG)
    assert jax.tree.structure(variables) == jax.tree.structure(VARIABLES)
    for read, written in zip(jax.tree.leaves(variables), jax.tree.leaves(VARIABLES)):
        assert read.dtype == jnp.float32
        if written.ndim > 1:  # half precision: 11 bits, and nothing below 2^-24
            np.testing.assert_allclose(read, written, rtol=2**-11, atol=2**-25)
        else:
            np.testing.assert_array_equal(read, written)
    assert [p.name for p in path.parent.iterdir()] == ["pose.safetensors"]


def test_size_is_halved(tmp_path):
    path = tmp_path / "a.safetensors"
    write_weights(path, {}, {"params": {"kernel": jnp.ones((100, 1000))}})
    assert 200_000 < path.stat().st_size < 201_000


@pytest.mark.parametrize("value", [1e5, np.nan, -np.inf])
def test_refuses_what_half_precision_cannot_hold(tmp_path, value):
    with pytest.raises(ValueError, match="params/kernel: not finite in float16"):
        write_weights(
            tmp_path / "a.safetensors", CONFIG, {"params": {"kernel": jnp.full((2, 2), value)}}
        )
    assert not list(tmp_path.iterdir())


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match=r"pose\.npz: .* must end in \.safetensors"):
        write_weights(tmp_path / "pose.npz", CONFIG, VARIABLES)
    with pytest.raises(ValueError, match=r"none\.safetensors does not exist"):
        read_weights(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x40" + 100 * b"\0")
    with pytest.raises(ValueError, match=r"broken\.safetensors: unreadable"):
        load_variables(broken)
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"fc.weight": np.ones(2, np.float32)}, foreign)
    with pytest.raises(ValueError, match=r"foreign\.safetensors: .* it has no config"):
        load_variables(foreign)
