"""Muon: convolutions move by their orthogonalised momentum (Jordan et al. 2024)."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

# Of the momentum, of Newton's and Schulz's polynomial, and how often that is applied: Jordan's.
_MOMENTUM = 0.95
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_STEPS = 5
# Root mean square that updates are scaled to: about that of Adam's, so that learning rates and
# weight decay carry over (Liu et al., "Muon is Scalable for LLM Training", 2025).
_RMS = 0.2


def orthogonalize(kernel: Float[Array, "*inputs D"]) -> Float[Array, "*inputs D"]:
    """A kernel of the same singular vectors whose singular values are all about 1 (.7 to 1.2).

    Each step is X <- X P with P = a + b G + c G^2 and G = X^T X (X and G the other way round where
    X has more columns than rows). The next G is P G P, so the steps need G and P alone, which have
    X's shorter side, and X itself is multiplied once, at the end: kernels of 3 x 3 are nine times
    as long as wide. The kernel is seen as a matrix of all inputs by D outputs; a 0 stays 0.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    matrix = matrix / (jnp.linalg.norm(matrix) + 1e-8)
    wide = matrix.shape[0] < matrix.shape[1]
    # G's small eigenvalues would drown in the rounding of 16 bits.
    dot = partial(jnp.matmul, precision="highest")
    gram = dot(matrix, matrix.T) if wide else dot(matrix.T, matrix)
    total = one = jnp.eye(len(gram), dtype=gram.dtype)
    a, b, c = _POLYNOMIAL
    for step in range(_STEPS):
        factor = a * one + b * gram + c * dot(gram, gram)
        total = dot(factor, total) if step else factor
        gram = dot(factor, dot(gram, factor))
    matrix = dot(total, matrix) if wide else dot(matrix, total)
    return matrix.reshape(kernel.shape)


def scale_by_muon() -> optax.GradientTransformation:
    """The direction in which Muon moves kernels: Nesterov's momentum, orthogonalised and scaled."""

    def move(kernel):
        sides = math.prod(kernel.shape[:-1]), kernel.shape[-1]
        return _RMS * math.sqrt(max(sides)) * orthogonalize(kernel)

    momentum = optax.trace(_MOMENTUM, nesterov=True)
    return optax.chain(momentum, optax.stateless(lambda updates, _: jax.tree.map(move, updates)))
