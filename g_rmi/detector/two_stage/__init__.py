"""What detectors share that propose regions, then look into each: Faster R-CNN and R-FCN."""
