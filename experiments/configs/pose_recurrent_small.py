"""The recurrent head on the embedded default's trunk, crops and schedule, for CPUs.

Command:   make train CONFIG=pose_recurrent_small
Hardware:  not run to its end.
"""

from experiments.configs import pose_synthetic
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """Narrower than the article's, on maps of 25 x 17 cells; its sigma is as wide on the person."""
    return override(
        pose_synthetic.get_config(),
        {
            "model.head.kind": "recurrent",
            "model.head.channels": 16,
            "model.head.kernels": (5, 7, 7),
            "model.head.sigma": 3.0,
        },
    )
