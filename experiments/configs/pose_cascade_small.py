"""The cascade on the embedded default's trunk, crops and schedule, for CPUs.

Command:   make train CONFIG=pose_cascade_small
           or in three steps, each from the weights of the one before:
           make train CONFIG=pose_cascade_small WORKDIR=runs/step_1 ARGS="--trains detection"
           make train CONFIG=pose_cascade_small WORKDIR=runs/step_2
               ARGS="--init runs/step_1 --trains regression"
           make train CONFIG=pose_cascade_small WORKDIR=runs/step_3 ARGS="--init runs/step_2"
Hardware:  not run to its end.
"""

from experiments.configs import pose_synthetic
from experiments.parts.experiment import PoseExperiment, override


def get_config() -> PoseExperiment:
    """A narrow hourglass of 25 x 17 cells; disks and Gaussians hold a cell at least."""
    return override(
        pose_synthetic.get_config(),
        {
            "model.head.kind": "cascade",
            "model.head.radius": 4.0,
            "model.head.sigma": 3.0,
            "model.head.hourglass_channels": 32,
            "model.head.hourglass_levels": 3,
        },
    )
