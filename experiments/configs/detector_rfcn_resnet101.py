"""R-FCN on ResNet-101 as Huang et al. (2017) train it: stride 16, pictures within 600 x 1024.

Command:   make train CONFIG=detector_rfcn_resnet101 DATA=COCO
               ARGS="--pretrained resnet101.safetensors"
Article:   box AP .304 on its 8,000 pictures of COCO, 300 proposals; 9 workers of one picture each,
           asynchronous; it does not say where training ends.
Hardware:  not run (needs COCO, ImageNet weights and an accelerator).
"""

from experiments.parts.experiment import DetectorExperiment, override
from g_rmi.detector.rfcn.config import RFCNConfig


def get_config() -> DetectorExperiment:
    """The paper's optimiser, that of the same authors, with the article's boundaries."""
    return override(
        DetectorExperiment(model=RFCNConfig()),
        {"optim.boundaries": (1_000_000, 1_200_000), "train.steps": 1_400_000},
    )
