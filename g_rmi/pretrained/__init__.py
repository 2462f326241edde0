"""Import of pretrained weights: a table for each backbone, in a file here."""

from typing import Any

from g_rmi.nn.efficientnet import EfficientNetLiteConfig
from g_rmi.nn.network import Backbone
from g_rmi.pretrained.efficientnet import load_efficientnet as load_efficientnet
from g_rmi.pretrained.resnet import load_resnet as load_resnet
from g_rmi.pretrained.table import Source


def load_backbone(backbone: Backbone, source: Source) -> dict[str, Any]:
    """Reads the pretrained weights of a backbone, by its table; raises as these do."""
    if isinstance(backbone, EfficientNetLiteConfig):
        return load_efficientnet(source, width=backbone.width, depth=backbone.depth)
    stem_width = backbone.stem_width or None
    return load_resnet(source, depth=backbone.depth, width=backbone.width, stem_width=stem_width)
