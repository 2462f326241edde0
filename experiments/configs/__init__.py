"""Experiment configs: one file each, found by file name."""
