"""Frozen configs with complete, validated defaults: the paper's values.

Pure stdlib. A config is built in code (`experiments/configs/`), overridden on the command line,
saved as JSON beside every checkpoint, and read back strictly: a misspelt field is an error that
names the nearest one.
"""

import copy
import dataclasses
import difflib
import functools
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, Literal

_Class = typing.TypeVar("_Class", bound=type)


def require(ok: bool, field: str, value: Any, wanted: str) -> None:
    """Refuses a value, with one line that names the field and what it must be."""
    if not ok:
        raise ValueError(f"{field} = {value!r}: must be {wanted}")


def require_numbers(config: Any, low: int, high: int | None, *names: str) -> None:
    """Refuses fields that are not finite numbers from `low` to `high`, if there is an upper end.

    One that is None is not set.
    """
    wanted = f"{low} or more" if high is None else f"between {low} and {high}"
    for name in names:
        if (value := getattr(config, name)) is not None:
            right = _is_number(value) and low <= value < math.inf
            right = right and (high is None or value <= high)
            require(right, name, value, wanted)


def require_positive(config: Any, *names: str) -> None:
    """Refuses fields that are not finite numbers above 0; of a tuple, any of it."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        right = all(_is_number(number) and 0 < number < math.inf for number in numbers)
        require(right, name, value, "positive")


def require_types(config: Any) -> None:
    """Refuses fields whose values are not of the types that the class declares."""
    for name, hint in typing.get_type_hints(type(config)).items():
        _check_type(hint, name, getattr(config, name))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def named_fields(cls: _Class) -> _Class:
    """Has a dataclass name the nearest field where one is misspelt, as Python does from 3.13."""
    init, names = cls.__init__, [field.name for field in dataclasses.fields(cls)]

    @functools.wraps(init)
    def strict(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in names:
                raise TypeError(f"{cls.__name__} has no field {name!r}{nearest(name, names)}")
        init(self, *args, **kwargs)

    cls.__init__ = strict
    return cls


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and weight averaging."""

    # "sgd" (the paper's), "adamw", or "muon": convolutions by orthogonalised momentum (Jordan et
    # al., 2024), the rest by adamw; the same learning rates as for adamw.
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: float = 0.005  # Peak learning rate at `batch_size` of the train config.
    momentum: float = 0.0  # Momentum of SGD.
    # Decoupled for adamw and muon, L2 for sgd; never on norms and biases.
    weight_decay: float = 0.0
    # "constant" (the paper's pose network), "cosine" to zero, or "steps".
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    boundaries: tuple[int, ...] = ()  # For "steps": learning rate / 10 at each of these steps.
    warmup_steps: int = 0  # Linear warm-up from zero.
    clip_norm: float = 0.0  # Global norm the gradients are clipped to; 0 for none.
    # Decay of the Polyak (exponential) average of the weights that evaluation uses; 0 for none.
    # Warmed up as min(decay, (1 + n) / (10 + n)).
    ema_decay: float = 0.9999

    def __post_init__(self):
        require_positive(self, "learning_rate", "boundaries")
        require_numbers(self, 0, None, "weight_decay", "warmup_steps", "clip_norm")
        for name in ("momentum", "ema_decay"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        if (self.schedule == "steps") != bool(self.boundaries):
            raise ValueError('boundaries and schedule = "steps" go together')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    steps: int = 800_000  # Optimiser steps.
    batch_size: int = 24  # Examples per step over all devices and hosts.
    grad_accumulation: int = 1  # Micro-batches per step; batch_size is their sum.
    # Split parameters, optimiser state and averages over the devices instead of copying them.
    fsdp: bool = False
    seed: int = 0  # Seed of initialisation, data order and augmentation.
    log_every: int = 100  # Steps between log lines.
    # Steps between evaluations on the validation set; 0 for the end only.
    evaluate_every: int = 20_000
    checkpoint_every: int = 5_000  # Steps between checkpoints.
    keep: int = 3  # Newest checkpoints kept.
    # Checkpoints kept besides for their evaluation (AP or box_AP); with it, every evaluated state
    # is saved.
    keep_best: int = 1

    def __post_init__(self):
        counts = "steps", "batch_size", "grad_accumulation", "log_every", "checkpoint_every", "keep"
        require_numbers(self, 1, None, *counts)
        require_numbers(self, 0, None, "seed", "evaluate_every", "keep_best")
        even, wanted = (
            self.batch_size % self.grad_accumulation == 0,
            f"batch_size = {self.batch_size}",
        )
        require(even, "grad_accumulation", self.grad_accumulation, f"a divisor of {wanted}")


def nearest(name: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice, or all of them."""
    choices = list(choices)
    return did_you_mean(name, choices) or f"; choices: {', '.join(choices)}"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice, if one is close."""
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return dataclasses.asdict(config)


def flatten(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config's dict under their full names, such as "model.radius"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield path + name, value


def _check_type(hint: Any, field: str, value: Any) -> None:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        require(value in choices, field, value, f"one of {choices}")
        return
    hint = typing.get_origin(hint) or hint
    right = isinstance(value, int | float if hint is float else hint)
    require(right and isinstance(value, bool) == (hint is bool), field, value, hint.__name__)


def default_values(config: Any, default: Any = None) -> dict[str, Any]:
    """The values that a config of the same types has where nothing is set, or as in `default`."""
    default = type(config)() if default is None else default
    values = {}
    for field in dataclasses.fields(config):
        mine, base = getattr(config, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(mine):
            base = default_values(mine, base if type(mine) is type(base) else None)
        values[field.name] = base
    return values


# Settings of the head of the paper from before there were others.
_OF_DISKS = "radius heatmap_weight offset_weight auxiliary_weight huber_delta loss_stride decoding"
# Fields of all stages.
_COMMON = {
    "data.weights": "data.mix",
    "data.augmentation.colour": "data.augmentation.colour_jitter",
    "optim.averaging": "optim.ema_decay",
    "train.accumulate": "train.grad_accumulation",
}
# Settings of the ResNet from before there was another backbone.
_OF_RESNET = {
    f"model.{name}": f"model.backbone.{name}" for name in ("depth", "width", "stem_width")
}
# Old names of fields and where they are today, by stage.
MOVED = {
    "pose": {
        **_COMMON,
        "data.augmentation.turned": "data.augmentation.any_rotation",
        "data.augmentation.mixing": "data.augmentation.mixup",
        "data.augmentation.occlusion": "data.augmentation.random_erasing",
        "model.top_down": "model.fpn_channels",
        **{f"model.{name}": f"model.head.{name}" for name in _OF_DISKS.split()},
        **_OF_RESNET,
    },
    "detector": {
        **_COMMON,
        "model.rpn_even": "model.rpn_balanced",
        "model.proposal_iou": "model.rpn_nms_iou",
        "model.box_iou": "model.box_nms_iou",
        "model.min_score": "",  # which was the inference settings' as well
        **_OF_RESNET,
    },
    "parts": {**_COMMON, **_OF_RESNET},
}

# What there was one of, before it had a kind.
_RESNET = {"model.backbone.kind": "resnet"}
KINDS = {
    "pose": {"model.head.kind": "disks", **_RESNET},
    "detector": {"model.kind": "faster_rcnn", **_RESNET},
    "parts": {"model.head.kind": "parts", **_RESNET},
}


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an experiment of any version under today's names."""
    values = copy.deepcopy(dict(values))
    if "model" not in values:
        return values  # no experiment
    stage = values.setdefault("stage", "pose")  # which experiments before the detector did not say
    for old, new in MOVED.get(stage, {}).items():
        inner, name = place(values, old)
        if name in inner:
            value = inner.pop(name)
            if new:
                inner, name = place(values, new)
                inner[name] = value
    for full, kind in KINDS.get(stage, {}).items():
        inner, name = place(values, full)
        inner.setdefault(name, kind)
    return values


def place(values: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The dict that holds a field of this full name, made if need be, and its name there."""
    *parents, last = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    return values, last


def from_dict(cls: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """Reads a config back strictly; fields that are missing stay at their defaults.

    `cls` is a dataclass, or a union of some that the literal field `kind` tells apart; `path` is
    that of the values in the whole, for messages. A ValueError if a field is unknown (it names the
    nearest one) or has an impossible value.
    """
    require(isinstance(values, Mapping), path.rstrip("."), values, "a group of fields")
    if choices := typing.get_args(cls):
        kinds = {typing.get_args(typing.get_type_hints(c)["kind"])[0]: c for c in choices}
        kind = values.get("kind")
        if kind not in kinds:
            raise ValueError(f"{path}kind = {kind!r}{nearest(str(kind), kinds)}")
        cls = kinds[kind]
    hints = typing.get_type_hints(cls)
    kwargs = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"unknown field {path + name!r}{nearest(name, hints)}")
        hint = hints[name]
        if all(map(dataclasses.is_dataclass, typing.get_args(hint) or (hint,))):
            value = from_dict(hint, value, f"{path}{name}.")
        else:
            value = tuple(value) if isinstance(value, list) else value
            _check_type(hint, path + name, value)
        kwargs[name] = value
    try:
        return cls(**kwargs)
    except ValueError as error:
        raise ValueError(f"{path}{error}") from None
