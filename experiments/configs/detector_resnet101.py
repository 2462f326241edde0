"""The paper's detector: Faster R-CNN, ResNet-101 at output stride 8, pictures within 800 x 1200.

Command:   make train CONFIG=detector_resnet101 DATA=COCO ARGS="--pretrained resnet101.safetensors"
           "--canvas 600 900" is the paper's fast variant.
Hardware:  not run (needs COCO, ImageNet weights and an accelerator).
"""

from experiments.parts.experiment import DetectorExperiment


def get_config() -> DetectorExperiment:
    """The defaults are the paper's values."""
    return DetectorExperiment()
