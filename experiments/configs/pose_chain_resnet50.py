"""Gkioxari, Toshev & Jaitly's chained predictions on ResNet-50 of stride 32, 257 x 257 crops.

Command:   python -m experiments.train --config pose_chain_resnet50 --data COCO --workdir runs/chain
Article:   ECCV 2016, one person in the middle, an Inception-like trunk on some 299 pixels to 8 x 8
           cells; truth fed in training, joints from those found best to those found worst (all from
           memory; optimiser and schedule are not known: the paper's are used). MPII PCKh@.5 .861,
           1 to 3 points more than without the chain (from memory).
Here:      9 x 9 cells, maps of 33 x 33 by two doublings. COCO's joints in an order after the
           article's: face, shoulders, hips, elbows, knees, ankles, wrists.
Ours:      not run: it needs COCO and an accelerator.
"""

from experiments.parts.experiment import PoseExperiment
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.chain.head import Chain

_PARTS = ("eye", "ear", "shoulder", "hip", "elbow", "knee", "ankle", "wrist")
ORDER = ("nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right")))


def get_config() -> PoseExperiment:
    """The article's recipe as far as it is known, the paper's beside it."""
    return PoseExperiment(
        model=PoseConfig(
            backbone=ResNetConfig(depth=50),
            output_stride=32,
            crop_height=257,
            crop_width=257,
            head=Chain(order=ORDER),
        )
    )
