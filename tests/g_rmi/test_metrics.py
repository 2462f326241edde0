"""Means that merge exactly."""

import math

import jax.numpy as jnp
import pytest

from g_rmi.metrics import Mean, compute, masked_mean, merge


def test_merged_parts_of_different_sizes_are_the_whole():
    whole = jnp.array([1.0, 2.0, 3.0, 10.0])
    all_of_it, first, second = (
        masked_mean(part, jnp.ones(part.shape, bool)) for part in (whole, whole[:3], whole[3:])
    )
    # The mean of the means would be 6.
    assert first.merge(second).compute() == all_of_it.compute() == 4.0


def test_masked_mean_weighs_and_ignores_what_is_out():
    values = jnp.array([2.0, jnp.nan, 5.0])
    assert masked_mean(values, jnp.array([True, False, True])).compute() == 3.5
    assert masked_mean(values, jnp.array([3.0, 0.0, 1.0])) == Mean(11.0, 4.0)


def test_nothing_counted_is_nan():
    assert math.isnan(masked_mean(jnp.ones(2), jnp.zeros(2, bool)).compute())


def test_names_are_merged_and_kept():
    merged = merge({"a": Mean(1.0, 1.0), "b": Mean(4.0, 2.0)}, {"b": Mean(2.0, 1.0)})
    assert compute(merged | {"c": Mean(jnp.float32(1), jnp.float32(4))}) == {
        "a": 1.0,
        "b": 2.0,
        "c": 0.25,
    }


def test_masks_and_values_have_one_shape():
    with pytest.raises(Exception, match="mask"):
        masked_mean(jnp.ones((2, 3)), jnp.ones((2, 1)))
