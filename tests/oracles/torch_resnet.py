"""ResNet v1.5 in PyTorch with torchvision's names: an oracle, and the benchmarks' rival."""

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

UNITS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride and dilation, 1x1 with four times the channels."""

    def __init__(self, inputs, width, stride, dilation):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        """Maps `x` to 4 * width channels."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """The trunk; below stride 32, strides become dilations."""

    def __init__(self, depth, output_stride=32, width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.inputs, self.dilation = width, 1
        dilate = {32: (False, False), 16: (False, True), 8: (True, True)}[output_stride]
        self.layer1 = self._layer(width, UNITS[depth][0], 1, False)
        self.layer2 = self._layer(2 * width, UNITS[depth][1], 2, False)
        self.layer3 = self._layer(4 * width, UNITS[depth][2], 2, dilate[0])
        self.layer4 = self._layer(8 * width, UNITS[depth][3], 2, dilate[1])

    def _layer(self, width, units, stride, dilate):
        before = self.dilation
        if dilate:
            self.dilation *= stride
            stride = 1
        layers = [Bottleneck(self.inputs, width, stride, before)]
        self.inputs = 4 * width
        layers += [Bottleneck(self.inputs, width, 1, self.dilation) for _ in range(1, units)]
        return nn.Sequential(*layers)

    def forward(self, x):
        """The outputs of the four layers."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        outputs = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            outputs.append(x)
        return outputs


def gradient(config, image, layout):
    """A call for the gradient of a simple loss on a pose network's maps, on all usable cores."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    order = getattr(torch, layout)
    trunk = ResNet(config.backbone.depth, config.output_stride, config.backbone.width)
    head = nn.Conv2d(32 * config.backbone.width, 51, 1)
    network = nn.ModuleList([trunk, head]).to(memory_format=order)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(np.array(image))  # a copy that may be written to

    def run():
        x = ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2)
        maps = head(trunk(x.contiguous(memory_format=order))[-1])
        network.zero_grad()
        (maps[:, :17].square().mean() + maps[:, 17:].square().mean()).backward()

    return run


def randomise(model, seed):
    """Weights and statistics away from their initial ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.0, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
