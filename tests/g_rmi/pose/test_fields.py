"""What the kind of a map means for its mirror image, by loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.pose.fields import Field, mirror, resize
from g_rmi.types import Grid
from tests.oracles import image as image_oracle

FLIP = np.array([0, 2, 1])  # nose, left, right
JOINTS, ROWS, COLUMNS = 3, 4, 5


@pytest.mark.parametrize("joints", [1, 2])
@pytest.mark.parametrize("vector", [False, True])
def test_a_mirrored_map_by_loops(joints, vector):
    field = Field("anything", joints=joints, vector=vector)
    shape = (1, ROWS, COLUMNS, *(JOINTS,) * joints, *((2,) if vector else ()))
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.zeros_like(maps)
    for place in np.ndindex(shape):
        _, row, column, *rest = place
        source = [0, row, COLUMNS - 1 - column, *(FLIP[k] for k in rest[:joints]), *rest[joints:]]
        sign = -1 if vector and rest[-1] == 0 else 1
        expected[place] = sign * maps[tuple(source)]
    got = mirror(jnp.asarray(maps), field, flip=FLIP)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(mirror(got, field, flip=FLIP), maps)


@pytest.mark.parametrize("channels", [(), (3,), (3, 2), (3, 3, 2)])
def test_any_channels_are_resized_one_by_one(channels):
    maps = np.random.default_rng(1).normal(size=(ROWS, COLUMNS, *channels)).astype(np.float32)
    size = {"height": 13, "width": 9}
    flat = image_oracle.resize_align_corners(maps.reshape(ROWS, COLUMNS, -1), **size)
    np.testing.assert_allclose(
        resize(jnp.asarray(maps), Grid(**size)), flat.reshape(13, 9, *channels), atol=1e-5
    )
