"""Recurrent human pose estimation (Belagiannis & Zisserman, FG 2017)."""
