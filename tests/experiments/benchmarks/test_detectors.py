"""What a detector costs, of a tiny one; and who takes part."""

import jax
import numpy as np

from experiments import configs
from experiments.benchmarks import detectors
from tests.networks import DETECTORS, draw


def test_costs_of_a_detector():
    task = DETECTORS["ssd"].model.task()
    variables = draw(task)
    picture = np.zeros((1, 64, 80, 3), np.uint8), np.array([[64, 80]], np.int32)
    (found,) = detectors.costs({"x": (task, variables)}, {"x": [picture]}, rounds=2).values()
    assert set(found) == {"ms", "cpu_ms", "gflops", "memory_mb", "parameters_m"}
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found["parameters_m"] == count / 1e6
    assert found["gflops"] > 2e-9 * count  # every weight takes part
    assert found["memory_mb"] > 4 * count / 2**20
    assert found["ms"] > 0


def test_those_that_take_part():
    found = dict(detectors.siblings(configs.get("detector_small")))
    assert len(found) == 9
    assert found["rfcn, 300 proposals"].config.proposals == 300
    assert found["rfcn, 300 proposals"].config.candidates == 500
    assert {task.config.backbone.width for task in found.values()} == {32}
