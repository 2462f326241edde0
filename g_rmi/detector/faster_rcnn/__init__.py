"""Faster R-CNN on an atrous ResNet (paper, section 3.1)."""
