"""ImageNet weights from other frameworks."""
