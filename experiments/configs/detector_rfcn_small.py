"""A small R-FCN for CPUs: `detector_small` with another second stage, at the same stride.

Command:   make train CONFIG=detector_rfcn_small
Hardware:  not run to its end.
"""

from experiments.configs import detector_small
from experiments.parts.experiment import DetectorExperiment, of_kind

# Fewer parts and samples than the article's: regions are some ten cells wide.
FIELDS = {"bins": 5, "bin_samples": 2, "hard_examples": 32}


def get_config() -> DetectorExperiment:
    """The same RPN; mining of all regions."""
    return of_kind(detector_small.get_config(), "rfcn", FIELDS)
