"""The networks of both stages in PyTorch, with our weights."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pretrained.resnet import TABLE
from g_rmi.pretrained.table import WEIGHTS
from tests.oracles.torch_resnet import UNITS, Bottleneck, ResNet

# Norms and the convolutions right before them: of a unit, of the feature pyramid, of a shortcut.
NORMS = ((r"bn(\d)", r"conv\1"), (r"norm(\d)b", r"merge\1"), (r"1", r"0"))


class RPN(nn.Module):
    """3x3 convolution, then objectness and codes of every anchor."""

    def __init__(self, config: FasterRCNNConfig):
        super().__init__()
        anchors = len(config.anchor_scales) * len(config.anchor_ratios)
        d = config.rpn_dilation
        self.conv = nn.Conv2d(
            16 * config.backbone.width, config.rpn_channels, 3, padding=d, dilation=d
        )
        self.objectness = nn.Conv2d(config.rpn_channels, anchors, 1)
        self.codes = nn.Conv2d(config.rpn_channels, 4 * anchors, 1)

    def forward(self, features):
        """Logits [A] and codes [A, 4] of one picture, by row, column and anchor."""
        x = F.relu(self.conv(features))
        outputs = self.objectness(x), self.codes(x)
        objectness, codes = (o.permute(0, 2, 3, 1) for o in outputs)
        return objectness.reshape(-1), codes.reshape(-1, 4)


class BoxHead(nn.Module):
    """Block 4 on regions, mean over the cells, two linear layers."""

    def __init__(self, config: FasterRCNNConfig):
        super().__init__()
        width = 8 * config.backbone.width
        inputs = [2 * width] + [4 * width] * (UNITS[config.backbone.depth][3] - 1)
        self.layer4 = nn.Sequential(*(Bottleneck(n, width, 1, 1) for n in inputs))
        self.logits = nn.Linear(4 * width, 2)
        self.codes = nn.Linear(4 * width, 4)

    def forward(self, regions):
        """Logits of background and person [R, 2] and codes [R, 4]."""
        x = self.layer4(regions).mean((2, 3))
        return self.logits(x), self.codes(x)


class Detector(nn.Module):
    """The three networks of the first stage."""

    def __init__(self, config: FasterRCNNConfig):
        super().__init__()
        self.trunk = ResNet(config.backbone.depth, config.output_stride, config.backbone.width)
        self.trunk.layer4 = nn.Identity()  # it belongs to the box head
        self.rpn = RPN(config)
        self.box_head = BoxHead(config)

    def forward(self, image):
        """Features of block 3 and the RPN's outputs; the regions come between this and the head."""
        features = self.trunk(image)[2]
        return features, *self.rpn(features)


class FeaturePyramid(nn.Module):
    """Carries the deepest features up, adding each finer block on the way."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.top = nn.Conv2d(32 * width, features, 1, bias=False)
        for level in (1, 2, 3):
            inputs = 4 * width * 2 ** (level - 1)
            self.add_module(f"lateral{level}", nn.Conv2d(inputs, features, 1, bias=False))
            self.add_module(f"norm{level}a", nn.BatchNorm2d(features))
            self.add_module(
                f"merge{level}", nn.Conv2d(features, features, 3, padding=1, bias=False)
            )
            self.add_module(f"norm{level}b", nn.BatchNorm2d(features))

    def forward(self, blocks):
        """Merges the outputs of the four blocks, finest first."""
        x = self.top(blocks[3])
        for level in (3, 2, 1):
            lateral = blocks[level - 1]
            x = F.interpolate(x, lateral.shape[-2:], mode="bilinear", align_corners=True)
            x = x + self.get_submodule(f"lateral{level}")(lateral)
            x = F.relu(self.get_submodule(f"norm{level}a")(x))
            x = self.get_submodule(f"merge{level}")(x)
            x = F.relu(self.get_submodule(f"norm{level}b")(x))
        return x


class PoseNetwork(nn.Module):
    """ResNet, feature pyramid if there is one, heatmaps and offsets."""

    def __init__(self, config: PoseConfig, keypoints: int):
        super().__init__()
        self.trunk = ResNet(config.backbone.depth, config.output_stride, config.backbone.width)
        channels = config.fpn_channels or 32 * config.backbone.width
        has_pyramid = config.fpn_channels > 0
        self.top_down = FeaturePyramid(channels, config.backbone.width) if has_pyramid else None
        self.heatmap = nn.Conv2d(channels, keypoints, 1)
        self.offset = nn.Conv2d(channels, 2 * keypoints, 1)

    def forward(self, crops):
        """Coarse logits [N, K, h, w] and offsets [N, 2 K, h, w], x before y."""
        blocks = self.trunk(crops)
        features = blocks[3] if self.top_down is None else self.top_down(blocks)
        return self.heatmap(features), self.offset(features)


def load_state(module: nn.Module, variables: Mapping[str, Any]) -> None:
    """Copies flax variables into a twin, whose modules have the same names or torchvision's.

    Raises:
      RuntimeError: They do not fit.
    """
    # PyTorch counts training steps, which nobody here reads.
    state = {n: x for n, x in module.state_dict().items() if n.endswith("num_batches_tracked")}
    for path, value in flax.traverse_util.flatten_dict(dict(variables)).items():
        collection, *modules, leaf = path
        if modules[0] == "auxiliary":
            continue  # only trained with
        name = ".".join([*_module_name(modules), WEIGHTS[collection, leaf]])
        value = np.array(value, np.float32)
        kernel = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, (0,))
        state[name] = torch.from_numpy(value.transpose(kernel).copy())
    module.load_state_dict(state)


def _module_name(modules: Sequence[str]) -> list[str]:
    if modules[0] == "trunk" or "block4" in modules:
        own = "/".join(name for name in modules[1:] if name != "block4")
        pattern, name = next(row for row in TABLE.modules if re.fullmatch(row[0], own))
        return [modules[0], re.sub(pattern, name, own)]
    return ["logits" if name == "class" else name for name in modules]


def fold_norms(network: nn.Module) -> None:
    """Puts every batch norm that follows a convolution into its kernel and bias."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            for pattern, before in NORMS:
                if isinstance(norm, nn.BatchNorm2d) and re.fullmatch(pattern, name):
                    conv = re.sub(pattern, before, name)
                    folded = fuse_conv_bn_eval(parent.get_submodule(conv), norm)
                    parent.add_module(conv, folded)
                    parent.add_module(name, nn.Identity())
