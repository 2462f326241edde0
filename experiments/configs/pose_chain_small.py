"""The chain on the embedded default's trunk, crops and schedule, for CPUs.

Command:   make train CONFIG=pose_chain_small
Hardware:  not run to its end.
"""

from experiments.configs import pose_synthetic
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """States of 7 x 5 cells, maps of 25 x 17; what is fed goes from the truth to what was found."""
    return override(
        pose_synthetic.get_config(),
        {
            "model.output_stride": 16,
            "model.fpn_channels": 0,
            "model.head.kind": "chain",
            "model.head.channels": 16,
            "model.head.decoder_channels": 8,
            "model.head.target_sigma": 4.0,
            "model.head.truth_steps": 500,
        },
    )
