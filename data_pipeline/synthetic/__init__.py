"""Synthetic scenes in COCO's own layout: articulated people, drawn from a seed, without downloads.

    python -m data_pipeline.synthetic --out DIR --train 1500 --val 200 --seed 0

`make` writes a data directory, `default_directory` says where the embedded default lives, `scene`
draws one picture with its labels.
"""

from data_pipeline.synthetic.compose import scene as scene
from data_pipeline.synthetic.dataset import DEFAULT_SIZE as DEFAULT_SIZE
from data_pipeline.synthetic.dataset import DEFAULT_TRAIN as DEFAULT_TRAIN
from data_pipeline.synthetic.dataset import DEFAULT_VAL as DEFAULT_VAL
from data_pipeline.synthetic.dataset import contact_sheet as contact_sheet
from data_pipeline.synthetic.dataset import default_directory as default_directory
from data_pipeline.synthetic.dataset import make as make
