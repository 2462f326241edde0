"""The second stage: person crops to keypoints (paper, section 3.2)."""
