"""Photographs to people: settings, weights, the two-stage program, data sets, export."""
