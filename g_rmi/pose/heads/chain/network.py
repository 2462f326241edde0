"""The chain: joint after joint, each from the state of the one before and the maps of all before.

    h_t = relu(norm(w^h_t * h_{t-1} + sum_{i<t} w^y_{t,i} * e_i(y_i)))
    P(y_t) = softmax(m_t(h_t))

with weights of their own for every joint, as in the article for images. Facts about the layers are
second-hand. The decoder m_t ("deception": deconvolution and inception) sums transposed convolutions
of sizes 2, 4 and 6 there; here these are 3, 5 and 7, which keep cells where mirrored crops have
them.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from g_rmi.nn.conv import Conv, conv2d, he_normal
from g_rmi.nn.norm import Norm
from g_rmi.pose.heads.chain.positions import one_hot
from g_rmi.pose.heads.chain.search import extend
from g_rmi.types import Grid

SIZES = (3, 5, 7)


class Truth(NamedTuple):
    """What may be fed in place of what was found."""

    maps: Float[Array, "B K H W"]  # of the joints, in the form in which they are fed
    known: Bool[Array, "B K"]  # the joint has a place on the map; else nothing is fed
    told: Bool[Array, "B K"]  # where the truth is fed


class Double(nn.Module):
    """Transposed convolutions of stride 2 and several sizes, summed: n rows to 2 n - 1."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B H W D"]:
        """Cell i of `x` lies on cell 2 i of the result."""
        whole = 0.0  # one convolution with the sum of the kernels
        for size in SIZES:
            shape = (size, size, x.shape[-1], self.features)
            kernel = self.param(f"kernel{size}", he_normal, shape, jnp.float32)
            border = (max(SIZES) - size) // 2
            whole += jnp.pad(kernel, ((border, border), (border, border), (0, 0), (0, 0)))
        for axis in (1, 2):
            between = jnp.stack([x, jnp.zeros_like(x)], axis=axis + 1)
            between = between.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
            x = lax.slice_in_dim(between, 0, between.shape[axis] - 1, axis=axis)
        return conv2d(x.astype(self.dtype), jnp.asarray(whole, self.dtype))


class ChainNetwork(nn.Module):
    """The maps of all joints, in an order."""

    order: tuple[int, ...]  # the joints, first to last
    channels: int  # of states and fed maps
    decoder_channels: int
    doublings: int  # of the resolution by decoders, undone before maps are fed
    feedback: str  # "peak": the best cell; "map": all probabilities; "none": nothing, no chain
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B h w C"],
        *,
        truth: Truth | None = None,
        beams: int = 1,
        train: bool = False,
    ) -> tuple[Float[Array, "B K H W"], Float[Array, "B K H W"]]:
        """Logits, and probabilities, which are those of a softmax over all cells.

        Those of a joint are given the cells of the joints before it in the best of `beams`
        hypotheses; with several they are 0 but around the hypothesis's own cell.
        """
        rows, count = features.shape[0], 1  # hypotheses: [B * count, ...]
        conv = partial(Conv, self.channels, dtype=self.dtype)

        def activate(name, x):
            return nn.relu(Norm(self.norm, self.dtype, name=name)(x, train=train))

        state = first = activate("start_norm", conv(1, name="start")(features))
        scores: Any = jnp.zeros((rows, 1)) if beams > 1 else None
        seen: list[Array] = []
        found: list[tuple[Array, Array]] = []
        for t, joint in enumerate(self.order):
            x = conv(3, name=f"state{t}")(first if self.feedback == "none" else state)
            if seen:
                x = x + conv(3, name=f"given{t}")(jnp.concatenate(seen, axis=-1))
            state = activate(f"state{t}_norm", x)
            logits = self._decode(t, state, train)
            size = Grid(*logits.shape[1:])
            # Over one axis: exporters to ONNX know no softmax over two.
            cells = logits.reshape(logits.shape[0], size.height * size.width)
            p = jax.nn.softmax(cells, axis=1).reshape(logits.shape)
            if beams > 1:
                log_p = jax.nn.log_softmax(logits, axis=(1, 2)).reshape(rows, count, *size)
                scores, parent, cell = jax.vmap(partial(extend, count=beams))(scores, log_p)

                def pick(x, parent=parent, count=count):
                    x = jax.vmap(lambda x, i: x[i])(x.reshape(rows, count, *x.shape[1:]), parent)
                    return x.reshape(-1, *x.shape[2:])

                state, logits, p = pick(state), pick(logits), pick(p)
                seen, found = jax.tree.map(pick, (seen, found))
                count, cell = parent.shape[1], cell.reshape(-1)
                p = p * _around(one_hot(cell, size))
            else:
                cell = jnp.argmax(p.reshape(rows, size.height * size.width), axis=1)
            found.append((logits, p))
            if self.feedback != "none" and t + 1 < len(self.order):
                own = one_hot(cell, size) if self.feedback == "peak" else p
                seen.append(self._encode(t, _fed(own, truth, joint), train))
        places = [self.order.index(joint) for joint in range(len(self.order))]
        logits, p = (jnp.stack([maps[i] for i in places], axis=1) for maps in zip(*found))
        return (logits[::count], p[::count]) if count > 1 else (logits, p)  # the best hypothesis

    def _decode(self, t: int, x: Array, train: bool) -> Float[Array, "N H W"]:
        """m_t."""
        x = nn.relu(
            Conv(self.decoder_channels, 1, use_bias=True, dtype=self.dtype, name=f"m{t}")(x)
        )
        for i in range(self.doublings):
            x = Double(self.decoder_channels, self.dtype, name=f"m{t}_double{i}")(x)
            norm = Norm(self.norm, self.dtype, name=f"m{t}_norm{i}")
            x = nn.relu(norm(x, train=train))
        small = {"kernel_init": nn.initializers.normal(0.01), "dtype": self.dtype}
        return Conv(1, 3, name=f"m{t}_logits", **small)(x)[..., 0].astype(jnp.float32)

    def _encode(self, t: int, fed: Array, train: bool) -> Float[Array, "N h w C"]:
        """e_t of what is fed of joint t."""
        x = fed
        strides = (1, *(2,) * self.doublings) if self.doublings else (1, 1)
        for i, stride in enumerate(strides):
            size = 1 if i == 0 else 3
            x = Conv(self.channels, size, stride, dtype=self.dtype, name=f"e{t}_conv{i}")(x)
            norm = Norm(self.norm, self.dtype, name=f"e{t}_norm{i}")
            x = nn.relu(norm(x, train=train))
        return x


def _fed(own: Float[Array, "N H W"], truth: Truth | None, joint: int) -> Float[Array, "N H W 2"]:
    """The map of a joint that is fed, and a map of ones, or of zeros if nothing is."""
    flags = jnp.ones_like(own)
    if truth is None:
        return jnp.stack([own, flags], axis=-1)
    told, known = (flag[:, joint, None, None] for flag in (truth.told, truth.known))
    real = jnp.where(known, truth.maps[:, joint], 0.0)
    own, flags = jnp.where(told, real, own), jnp.where(told & ~known, 0.0, flags)
    return jnp.stack([own, flags], axis=-1)


def _around(chosen: Float[Array, "N H W"]) -> Float[Array, "N H W"]:
    """1 in a cell and the eight around it."""
    wide = nn.max_pool(chosen[..., None], window_shape=(3, 3), strides=(1, 1), padding="SAME")
    return wide[..., 0]
