"""IoU against the loop oracle and by hand."""

import jax
import numpy as np
import pytest

from g_rmi.ops.boxes import iou
from tests.g_rmi.ops.contract import check_contract
from tests.oracles import boxes as oracle


def random_boxes(rng, n, size=20.0):
    corners = rng.uniform(0, size, (n, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 7), (1, 2), (2, 1), (7, 0), (7, 64), (64, 7)])
def test_equals_the_oracle(n, m):
    rng = np.random.default_rng(10 * n + m)
    a, b = random_boxes(rng, n), random_boxes(rng, m)
    np.testing.assert_allclose(jax.jit(iou)(a, b), oracle.iou(a, b), atol=1e-6)


def test_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 5], [4, 4, 1, 1], [0, 0, np.nan, 1]], np.float32)
    b = np.array([[1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 2, 2], [0, 0, 0, 5]], np.float32)
    expected = [[1 / 7, 0, 1, 0], [0] * 4, [0] * 4, [0] * 4]  # touching, empty, inverted, NaN: 0
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-7)


def test_contract():
    rng = np.random.default_rng(0)
    first, second = ((random_boxes(rng, 5), random_boxes(rng, 4)) for _ in range(2))
    check_contract(iou, first, second)
