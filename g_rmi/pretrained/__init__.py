"""Import of pretrained weights."""

from g_rmi.pretrained.resnet import load_resnet as load_resnet
