"""Everything that defines a training: where a network's settings and its data meet."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import tyro

from data_pipeline.config import DetectorDataConfig, PartsDataConfig, PoseDataConfig
from g_rmi.config import (
    OptimConfig,
    TrainConfig,
    flatten,
    from_dict,
    nearest,
    place,
    require,
    to_dict,
    upgrade,
)
from g_rmi.detector import DetectorConfig
from g_rmi.detector.faster_rcnn.config import FasterRCNNConfig
from g_rmi.nn.network import NetworkConfig
from g_rmi.parts.config import PartsConfig
from g_rmi.pose.config import PoseConfig


@dataclasses.dataclass(frozen=True)
class PoseExperiment:
    """Everything that defines one training of the pose stage; the defaults are the paper's."""

    stage: Annotated[Literal["pose"], tyro.conf.Suppress] = "pose"
    model: PoseConfig = PoseConfig()
    data: PoseDataConfig = PoseDataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()


@dataclasses.dataclass(frozen=True)
class DetectorExperiment:
    """Everything that defines one training of the detector; the defaults are the paper's.

    The number of steps and of pictures per step are those of its authors' public framework.
    """

    stage: Annotated[Literal["detector"], tyro.conf.Suppress] = "detector"
    model: DetectorConfig = FasterRCNNConfig()
    data: DetectorDataConfig = DetectorDataConfig()
    optim: OptimConfig = OptimConfig(
        learning_rate=3e-4,
        momentum=0.9,
        schedule="steps",
        boundaries=(800_000, 1_000_000),
        clip_norm=10.0,
        ema_decay=0.0,
    )
    train: TrainConfig = TrainConfig(steps=1_200_000, batch_size=1)


@dataclasses.dataclass(frozen=True)
class PartsExperiment:
    """Everything that defines one training of the bottom-up stage; the defaults are DeeperCut's."""

    stage: Annotated[Literal["parts"], tyro.conf.Suppress] = "parts"
    model: PartsConfig = PartsConfig()
    data: PartsDataConfig = PartsDataConfig()
    optim: OptimConfig = OptimConfig(
        learning_rate=0.02,
        momentum=0.9,
        schedule="steps",
        boundaries=(430_000, 730_000),
        ema_decay=0.0,
    )
    train: TrainConfig = TrainConfig(steps=1_030_000, batch_size=1)


Experiment = PoseExperiment | DetectorExperiment | PartsExperiment
# On a command line its switches take True or False: `--remat True`.
Options = Annotated[Experiment, tyro.conf.FlagConversionOff]
T = TypeVar("T", bound=Experiment)
_STAGES = {"pose": PoseExperiment, "detector": DetectorExperiment, "parts": PartsExperiment}


def experiment_from_dict(values: Mapping[str, Any]) -> Experiment:
    """Reads an experiment of either stage and any version back, strictly.

    What may stand beside it is no part of it: "skeleton", a keypoint set other than COCO's, and
    "settings", those of inference.
    """
    beside = ("skeleton", "settings")
    values = {name: value for name, value in upgrade(values).items() if name not in beside}
    stage = values.get("stage", "pose")
    require(stage in _STAGES, "stage", stage, f"one of {tuple(_STAGES)}")
    return from_dict(_STAGES[stage], values)


def override(experiment: T, fields: Mapping[str, Any]) -> T:
    """An experiment with some of its fields changed: {"model.head.radius": 12.5}.

    After a new kind, {"model.head.kind": "gaussian"}, what belongs to it is at its defaults. A
    ValueError names the nearest field if there is no such, or says that its value is impossible.
    """
    values = to_dict(experiment)
    kinds = [name for name in fields if name.endswith(".kind")]
    for name, value in sorted(fields.items(), key=lambda field: not field[0].endswith(".kind")):
        names = dict(flatten(values))
        last = name.rpartition(".")[2]
        of_new_kind = any(name.startswith(kind.removesuffix("kind")) for kind in kinds)
        if name not in names and not of_new_kind:
            same = [full for full in names if full.endswith(f".{last}")]
            raise ValueError(f"no field {name!r}{nearest(name, same or names)}")
        inner, _ = place(values, name)
        if last == "kind" and value != inner.get(last):
            inner.clear()
        inner[last] = value
    return experiment_from_dict(values)  # type: ignore[bad-return]


def of_kind(
    experiment: DetectorExperiment, kind: str, fields: Mapping[str, Any]
) -> DetectorExperiment:
    """Another detector for the same training; `fields` are its own.

    Backbone and canvas stay, and of what both have whatever is not at its detector's default.
    """
    classes = {choice.kind: choice for choice in typing.get_args(DetectorConfig)}
    if kind not in classes:
        raise ValueError(f"no detector {kind!r}{nearest(kind, classes)}")
    names = {field.name for field in dataclasses.fields(classes[kind])} - {"kind"}
    model, default = experiment.model, type(experiment.model)()
    always = {field.name for field in dataclasses.fields(NetworkConfig)} | {"canvas", "detections"}
    mine = {
        name: value
        for name, value in vars(model).items()
        if name in names and (name in always or value != getattr(default, name))
    }
    return dataclasses.replace(experiment, model=classes[kind](**{**mine, **fields}))
