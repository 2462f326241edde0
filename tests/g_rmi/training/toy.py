"""A small convolutional task with batch norm, and endless batches that can be restored."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from g_rmi.metrics import masked_mean


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        init = nn.initializers.normal(0.3)  # quick to compile
        x = nn.Conv(4, (3, 3), use_bias=False, kernel_init=init)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(1, kernel_init=init)(nn.relu(x).mean((1, 2)))[:, 0]


class ConvTask:
    """Predicts the mean of a picture; noise on the target makes the step's key matter."""

    def __init__(self):
        self.net = Net()
        self.traces = 0

    def init(self, key):
        return self.net.init(key, jnp.zeros((1, 5, 5, 2)), train=False)

    def loss(self, params, model_state, batch, key, *, train, step=0):
        self.traces += 1
        variables = {"params": params, **model_state}
        outputs, new_state = self.net.apply(
            variables, batch["x"], train=train, mutable=list(model_state)
        )
        target = batch["y"] + 0.01 * jax.random.normal(key, batch["y"].shape)
        loss = masked_mean((outputs - target) ** 2, batch["weight"])
        return loss.total / loss.count, (new_state, {"loss": loss})

    def predict(self, variables, batch):
        return self.net.apply(variables, batch["x"], train=False)


class LinearTask:
    """Linear regression: gradients that can be checked by hand."""

    def init(self, key):
        return {"params": {"w": jnp.ones((3, 1)), "b": jnp.zeros((1,))}}

    def loss(self, params, model_state, batch, key, *, train, step=0):
        error = (batch["x"] @ params["w"] + params["b"][None])[:, 0] - batch["y"]
        loss = masked_mean(error**2, batch["weight"])
        return loss.total / loss.count, (model_state, {"loss": loss})

    def predict(self, variables, batch):
        return batch["x"] @ variables["params"]["w"] + variables["params"]["b"][None]


class Batches:
    """Batch n is a function of (seed, n); keeps the ids it gave out."""

    def __init__(self, make, size=8, limit=None):
        self.make, self.size, self.limit = make, size, limit
        self.position = 0
        self.given = []

    def __iter__(self):
        return self

    def __next__(self):
        if self.limit is not None and self.position >= self.limit:
            raise StopIteration
        ids = np.arange(self.size, dtype=np.int64) + self.size * self.position
        batch = self.make(np.random.default_rng(self.position), self.size)
        self.given.append(ids.tolist())
        self.position += 1
        return ids, batch

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def pictures(rng, size):
    x = rng.normal(size=(size, 5, 5, 2)).astype(np.float32)
    weight = (rng.random(size) < 0.8).astype(np.float32)
    weight[0] = 1
    return {"x": x, "y": x.mean((1, 2, 3)), "weight": weight}


def points(rng, size):
    x = rng.normal(size=(size, 3)).astype(np.float32)
    y = x @ np.float32([1, -2, 0.5]) + 0.3
    return {"x": x, "y": y.astype(np.float32), "weight": np.ones(size, np.float32)}
