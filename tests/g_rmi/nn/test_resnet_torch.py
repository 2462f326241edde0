"""Same weights, same features, same running statistics as PyTorch's network."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import numpy as jnp

from g_rmi.nn.resnet import ResNet
from g_rmi.pretrained import load_resnet

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")


def twin(depth, output_stride, width):
    from tests.oracles import torch_resnet

    model = torch_resnet.ResNet(depth, output_stride, width)
    torch_resnet.randomise(model, seed=depth + output_stride)
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    return model, load_resnet(state, depth=depth, width=width)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("depth", "width"), [(26, 32), (50, 64), (101, 64)])
def test_features(depth, width, output_stride):
    model, variables = twin(depth, output_stride, width)
    x = np.random.default_rng(0).normal(size=(2, 97, 65, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = [y.numpy() for y in model.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2)))]
    network = ResNet(depth, output_stride, width)
    found = list(jax.jit(network.apply)(variables, x).values())[-4:]
    for f, w in zip(found, wanted, strict=True):
        w = w.transpose(0, 2, 3, 1)
        np.testing.assert_allclose(f, w, rtol=0, atol=2e-5 * np.abs(w).max())


def test_training_mode():
    """Features by batch statistics, the gradient of the weights, and the running statistics."""
    model, variables = twin(26, 8, 16)
    x = np.random.default_rng(1).normal(size=(3, 65, 49, 3)).astype(np.float32)
    wanted = model.train()(torch.from_numpy(x.transpose(0, 3, 1, 2)))[-1]
    wanted.square().mean().backward()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters()}
    state = {n: gradients.get(n, b.numpy()) for n, b in model.state_dict().items()}
    wanted_after = load_resnet(state, depth=26, width=16)

    def loss(params):
        variables_ = {**variables, "params": params}
        out, updates = ResNet(26, 8, 16).apply(
            variables_, jnp.asarray(x), train=True, mutable=["batch_stats"]
        )
        return jnp.square(out["block4"]).mean(), updates["batch_stats"]

    (_, stats), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    for path, w in flatten_dict(wanted_after).items():
        f = flatten_dict({"params": grad, "batch_stats": stats})[path]
        # Rounding flips single ReLUs: PyTorch's own float32 gradients are 1 % off its float64 ones.
        tolerance = 3e-2 if path[0] == "params" else 1e-4
        assert np.linalg.norm(f - w) < tolerance * np.linalg.norm(w), path
