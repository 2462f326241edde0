"""Conversion of pretrained backbones that packages carry into files for `train --pretrained`."""
