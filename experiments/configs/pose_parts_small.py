"""DeeperCut's head on the embedded default's trunk, crops and schedule, for CPUs.

Command:   make train CONFIG=pose_parts_small
Hardware:  not run to its end.
"""

from experiments.configs import pose_synthetic
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """Features of stride 16, maps of 13 x 9 cells; disks hold two cells."""
    return override(
        pose_synthetic.get_config(),
        {
            "model.output_stride": 16,
            "model.fpn_channels": 0,
            "model.head.kind": "parts",
            "model.head.radius": 7.0,
            "model.head.offset_std": 3.5,
        },
    )
