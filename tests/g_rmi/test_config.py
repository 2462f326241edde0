"""Configs: the paper's values by default, strict reading, clear refusals."""

import dataclasses
import json
import math
import typing

import pytest

from data_pipeline import config as data_config
from experiments.parts.experiment import (
    DetectorExperiment,
    PoseExperiment,
    experiment_from_dict,
)
from g_rmi import config
from g_rmi.detector import DetectorConfig
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.inference.settings import Settings
from g_rmi.nn.network import Backbone
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks


def test_the_defaults_are_the_papers():
    paper = PoseExperiment()
    assert (paper.model.backbone.depth, paper.model.output_stride) == (101, 8)
    assert paper.model.head == Disks(
        radius=25.0, heatmap_weight=4.0, offset_weight=1.0, decoding="hough"
    )
    assert (paper.model.crop_height, paper.model.crop_width) == (353, 257)
    assert paper.model.box_scale == 1.25
    assert paper.data.augmentation.scale == (1.0, 1.5)
    assert (paper.optim.optimizer, paper.optim.learning_rate) == ("sgd", 0.005)
    assert (paper.train.batch_size, paper.train.steps) == (24, 800_000)
    assert paper.optim.ema_decay > 0


def test_the_detectors_defaults_are_the_papers():
    paper = DetectorExperiment()
    assert (paper.model.backbone.depth, paper.model.output_stride) == (101, 8)
    assert paper.model.canvas == (800, 1200)
    assert paper.model.anchor_base == 256
    assert paper.model.anchor_scales == (0.25, 0.5, 1, 2)
    assert paper.model.anchor_ratios == (0.5, 1, 2)
    assert (paper.model.rpn_dilation, paper.model.proposals, paper.model.roi_size) == (2, 300, 14)
    assert (paper.model.rpn_nms_iou, paper.model.box_nms_iou) == (0.7, 0.6)
    assert (paper.model.localisation_weight, paper.model.class_weight) == (2, 1)
    assert (paper.optim.optimizer, paper.optim.learning_rate) == ("sgd", 3e-4)
    assert (paper.optim.momentum, paper.optim.clip_norm) == (0.9, 10)
    assert paper.optim.boundaries == (800_000, 1_000_000)
    assert paper.data.augmentation.flip == 0.5


def test_either_stage_reads_back():
    for experiment in (PoseExperiment(), DetectorExperiment()):
        text = json.dumps(config.to_dict(experiment))
        assert experiment_from_dict(json.loads(text)) == experiment
    with pytest.raises(ValueError, match="stage = 'bones': must be one of"):
        experiment_from_dict({"stage": "bones"})
    assert experiment_from_dict({}) == PoseExperiment()


def test_json_round_trip():
    experiment = dataclasses.replace(
        PoseExperiment(),
        data=data_config.PoseDataConfig(mix=(1.0, 2.0)),
        optim=config.OptimConfig(schedule="steps", boundaries=(10, 20)),
    )
    text = json.dumps(config.to_dict(experiment))
    assert config.from_dict(PoseExperiment, json.loads(text)) == experiment


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
        config.from_dict(PoseExperiment, values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoseConfig(crop_width=256), "crop_width = 256: .* for example 257"),
        (lambda: Disks(radius=0.0), "radius = 0.0: must be positive"),
        (lambda: Disks(loss_stride=3), "loss_stride = 3"),
        (lambda: data_config.PoseAugmentation(scale=(1.5, 1.0)), "scale"),
        (lambda: FasterRCNNConfig(canvas=(900, 600)), r"canvas = \(900, 600\)"),
        (lambda: FasterRCNNConfig(roi_size=7), "roi_size = 7: must be even"),
        (lambda: FasterRCNNConfig(rpn_negative=0.8), "rpn_negative = 0.8: .*0.7"),
        (lambda: FasterRCNNConfig(box_nms_iou=1.5), "box_nms_iou = 1.5: must be between 0 and 1"),
        (lambda: data_config.DetectorAugmentation(mosaic=2.0), "mosaic = 2.0"),
        (lambda: data_config.PoseAugmentation(flip=1.5), "flip = 1.5"),
        (
            lambda: config.TrainConfig(batch_size=10, grad_accumulation=3),
            "grad_accumulation = 3: .*divisor",
        ),
        (lambda: config.OptimConfig(schedule="steps"), "boundaries"),
        (lambda: config.OptimConfig(ema_decay=1.0), "ema_decay"),
        (lambda: config.OptimConfig(momentum=1.0), "momentum = 1.0: must be in"),
        (lambda: config.OptimConfig(clip_norm=-1.0), "clip_norm = -1.0: must be 0 or more"),
        (lambda: config.OptimConfig(learning_rate=float("inf")), "learning_rate = inf"),
        (lambda: config.TrainConfig(evaluate_every=-1), "evaluate_every = -1"),
        (lambda: PoseConfig(box_scale=float("inf")), "box_scale = inf"),
        (lambda: ResNetConfig(width=0), "width = 0: must be 1 or more"),
        (lambda: Disks(heatmap_weight=float("nan")), "heatmap_weight = nan"),
        (lambda: FasterRCNNConfig(class_weight=-1.0), "class_weight = -1.0"),
        (lambda: FasterRCNNConfig(anchor_scales=(1.0, float("inf"))), "anchor_scales"),
        (lambda: data_config.PoseAugmentation(rotation=float("nan")), "rotation = nan"),
        (lambda: data_config.PoseAugmentation(scale=(1.0, float("inf"))), "scale"),
        (lambda: data_config.PoseDataConfig(max_others=-1), "max_others = -1"),
        (lambda: data_config.DetectorDataConfig(threads=0), "threads = 0: must be 1 or more"),
    ],
)
def test_impossible_values_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


CONFIGS = (
    *typing.get_args(Head),
    *(typing.get_args(DetectorConfig) or (DetectorConfig,)),
    *typing.get_args(Backbone),
    *(PoseConfig, config.OptimConfig, config.TrainConfig, Settings),
    *(data_config.PoseAugmentation, data_config.DetectorAugmentation),
    *(data_config.PoseDataConfig, data_config.DetectorDataConfig),
)


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_no_number_may_be_negative_infinite_or_nan(kind):
    tried = 0
    for name, hint in typing.get_type_hints(kind).items():
        several = typing.get_origin(hint) is tuple
        number = typing.get_args(hint)[0] if several else hint
        if number not in (int, float) or name == "read_iteration":  # of which -1 is the last
            continue
        count = 1 if typing.get_args(hint)[-1:] == (...,) else 2
        for value in (-1, math.nan, math.inf, -math.inf)[: 4 if number is float else 1]:
            given = (number(value),) * count if several else number(value)
            with pytest.raises(ValueError, match=rf"^{name} = .*: must be "):
                kind(**{name: given})
            tried += 1
    assert tried


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (config.OptimConfig, "learning_rate", 0.0),
        (config.OptimConfig, "ema_decay", 1.5),
        (config.OptimConfig, "momentum", 1.0),
        (config.TrainConfig, "steps", 0),
        (data_config.PoseDataConfig, "threads", 0),
        (data_config.PoseDataConfig, "mix", (1.0, 0.0)),
        (data_config.PoseAugmentation, "rotation", 180.5),
        (ResNetConfig, "width", 0),
        (PoseConfig, "crop_height", -7),
        (FasterRCNNConfig, "rpn_channels", 0),
        (FasterRCNNConfig, "anchor_scales", ()),
    ],
)
def test_values_that_mean_nothing_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=rf"^{name} = "):
        kind(**{name: value})
