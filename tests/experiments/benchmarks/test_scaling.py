"""Predictions for machines that are not there: read from the program, then plain arithmetic."""

import dataclasses

import jax
import pytest

from experiments import configs
from experiments.benchmarks import scaling

PROGRAM = """
  %all-reduce.1 = (f32[3,4]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1
  %x = bf16[8,2]{1,0} all-gather(%c), dimensions={0}
  %y = f32[100]{0} add(%all-reduce.1, %d)
  ROOT %z = (f32[5]{0}, f32[5]{0}) all-reduce-start(%e)
"""


def test_messages_are_the_results_of_collectives():
    assert scaling.message_sizes(PROGRAM) == [4 * 13, 2 * 16, 4 * 10]


def test_prediction_is_the_arithmetic_it_says():
    work = scaling.Work(flops=4e12, message=10**9, collectives=1)
    machine = scaling.Machine(chips=4, peak=100e12, link=50e9)
    assert scaling.predict(work, machine, share=0.4) == pytest.approx((0.1, 1.5 / 50))
    alone = machine._replace(chips=1)
    assert scaling.predict(work, alone, share=0.4)[1] == 0


def test_the_message_of_a_step_is_its_gradient():
    experiment = configs.get("pose_synthetic")
    model = dataclasses.replace(experiment.model, width=4, fpn_channels=8)
    train = dataclasses.replace(experiment.train, batch_size=2)
    experiment = dataclasses.replace(experiment, model=model, train=train)
    work = scaling.work_per_device(experiment)
    task = experiment.model.task()
    variables = jax.eval_shape(task.init, jax.random.key(0))
    gradient = sum(4 * x.size for x in jax.tree.leaves(variables["params"]))
    # Beside it go the batch's statistics and the metrics.
    assert gradient <= work.message < 1.2 * gradient
