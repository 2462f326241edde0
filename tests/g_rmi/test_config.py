"""Configs: the paper's values by default, strict reading, clear refusals."""

import dataclasses
import json

import pytest

from g_rmi import config


def test_the_defaults_are_the_papers():
    paper = config.PoseExperiment()
    assert (paper.model.depth, paper.model.output_stride, paper.model.radius) == (101, 8, 25)
    assert (paper.model.crop_height, paper.model.crop_width) == (353, 257)
    assert (paper.model.heatmap_weight, paper.model.offset_weight) == (4, 1)
    assert paper.model.box_scale == 1.25
    assert paper.data.augmentation.scale == (1.0, 1.5)
    assert (paper.optim.optimizer, paper.optim.learning_rate) == ("sgd", 0.005)
    assert (paper.train.batch_size, paper.train.steps) == (24, 800_000)
    assert paper.optim.averaging > 0


def test_json_round_trip():
    experiment = dataclasses.replace(
        config.PoseExperiment(),
        data=config.PoseDataConfig(weights=(1.0, 2.0)),
        optim=config.OptimConfig(schedule="steps", boundaries=(10, 20)),
    )
    text = json.dumps(config.to_dict(experiment))
    assert config.from_dict(config.PoseExperiment, json.loads(text)) == experiment


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, r"unknown field 'modle'; did you mean 'model'\?"),
        (
            {"optim": {"learning_rat": 1}},
            r"'optim.learning_rat'; did you mean 'learning_rate'\?",
        ),
        ({"model": {"crop_height": 354}}, r"model.crop_height = 354: .* for example 353"),
        ({"model": {"norm": "bach"}}, r"model.norm = 'bach': must be one of .*'batch'"),
        ({"train": {"steps": "many"}}, r"train.steps = 'many': must be int"),
    ],
)
def test_a_wrong_file_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(config.PoseExperiment, values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config.PoseConfig(crop_width=256), "crop_width = 256: .* for example 257"),
        (lambda: config.PoseConfig(radius=0.0), "radius = 0.0: must be positive"),
        (lambda: config.PoseConfig(loss_stride=3), "loss_stride = 3"),
        (lambda: config.PoseAugmentation(scale=(1.5, 1.0)), "scale"),
        (lambda: config.PoseAugmentation(flip=1.5), "flip = 1.5"),
        (lambda: config.TrainConfig(batch_size=10, accumulate=3), "accumulate = 3: .*divisor"),
        (lambda: config.OptimConfig(schedule="steps"), "boundaries"),
        (lambda: config.OptimConfig(averaging=1.0), "averaging"),
    ],
)
def test_impossible_values_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
