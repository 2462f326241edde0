"""Photographs and labels into batches: numpy only, no jax in this package."""
