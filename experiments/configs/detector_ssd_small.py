"""A small SSD for CPUs: `detector_small` in one look, at the same stride.

Command:   make train CONFIG=detector_ssd_small
Hardware:  not run to its end.
"""

from experiments.configs import detector_small
from experiments.parts.experiment import DetectorExperiment, of_kind


def get_config() -> DetectorExperiment:
    """The article's maps and anchors, as wide as the trunk."""
    return of_kind(detector_small.get_config(), "ssd", {})
