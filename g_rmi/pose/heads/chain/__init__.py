"""Chained predictions (Gkioxari, Toshev & Jaitly, ECCV 2016)."""
