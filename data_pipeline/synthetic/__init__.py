"""Synthetic scenes in COCO's own layout: articulated people, drawn from a seed, without downloads.

    python -m data_pipeline.synthetic --out DIR --train 1500 --val 200 --seed 0

`make` writes a data directory, `default_directory` says where the embedded default lives, `scene`
draws one picture with its labels.
"""

from data_pipeline.synthetic.compose import scene
from data_pipeline.synthetic.dataset import (
    DEFAULT_SIZE,
    DEFAULT_TRAIN,
    DEFAULT_VAL,
    default_directory,
    make,
)
from data_pipeline.synthetic.sheet import contact_sheet

__all__ = [
    "DEFAULT_SIZE",
    "DEFAULT_TRAIN",
    "DEFAULT_VAL",
    "contact_sheet",
    "default_directory",
    "make",
    "scene",
]
