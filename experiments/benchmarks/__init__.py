"""Timings as ratios, with the machine named."""
