"""Frozen configs with complete, validated defaults: the paper's values.

Pure stdlib. A config is built in code (`experiments/configs/`), overridden on the command line,
saved as JSON beside every checkpoint, and read back strictly: a misspelt field is an error that
names the nearest one.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Norm = Literal["batch", "frozen", "group"]


def _require(ok: bool, field: str, value: Any, wanted: str) -> None:
    if not ok:
        raise ValueError(f"{field} = {value!r}: must be {wanted}")


@dataclasses.dataclass(frozen=True)
class PoseConfig:
    """The pose network, its targets, losses and decoding (paper, section 3.2).

    Attributes:
      depth: ResNet depth: 101 or 50 as in the paper, 26 for CPUs.
      width: Channels of the stem; 64 is the standard ResNet.
      output_stride: Stride of the ResNet's last block; dilation keeps it low.
      top_down: Channels of a top-down path that brings the maps to stride 4; 0 for none (the
        paper has none).
      norm: "batch" (synchronised over the mesh), "frozen" (imported statistics) or "group".
      dtype: Type of the network's arithmetic; parameters, targets and losses stay float32.
      remat: Recompute each residual unit in the backward pass instead of storing it.
      crop_height: Crop rows in pixels; `8 n + 1` makes the up-sampling exact.
      crop_width: Crop columns in pixels.
      box_scale: Enlargement of the box at evaluation.
      radius: R: disk radius of the heatmap targets and of the vote kernel, in crop pixels.
      heatmap_weight: Weight of the logistic loss.
      offset_weight: Weight of the Huber loss on the offsets.
      auxiliary_weight: Weight of the intermediate heatmap head; 0 leaves the head out.
      huber_delta: Where the Huber loss turns linear, in crop pixels.
      loss_stride: Grid of the losses in crop pixels: 1 is the paper's full resolution; the maps'
        own stride saves the up-sampling in training.
    """

    depth: Literal[26, 50, 101, 152] = 101
    width: int = 64
    output_stride: Literal[8, 16, 32] = 8
    top_down: int = 0
    norm: Norm = "batch"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    crop_height: int = 353
    crop_width: int = 257
    box_scale: float = 1.25
    radius: float = 25.0
    heatmap_weight: float = 4.0
    offset_weight: float = 1.0
    auxiliary_weight: float = 4.0
    huber_delta: float = 1.0
    loss_stride: int = 1

    def __post_init__(self):
        _require(self.loss_stride in (1, 2, 4, 8), "loss_stride", self.loss_stride, "1, 2, 4 or 8")
        for name in ("crop_height", "crop_width"):
            size = getattr(self, name)
            stride = self.output_stride
            near = max(1, round((size - 1) / stride)) * stride + 1
            _require(size % stride == 1, name, size, f"{stride} n + 1, for example {near}")
        _require(self.radius > 0, "radius", self.radius, "positive")
        _require(self.box_scale > 0, "box_scale", self.box_scale, "positive")
        _require(self.huber_delta > 0, "huber_delta", self.huber_delta, "positive")

    @property
    def aspect(self) -> float:
        """Height / width of the crop."""
        return self.crop_height / self.crop_width


@dataclasses.dataclass(frozen=True)
class PoseAugmentation:
    """How training crops vary (the paper: box scale and flip; the rest is off by default).

    Attributes:
      scale: Range of the uniform box enlargement.
      flip: Probability of mirroring.
      shift: Largest shift of the box centre, as a share of the box's sides.
      rotation: Largest rotation in degrees, uniform on both sides.
      rotation_probability: Probability of rotating at all.
      colour: Strength of brightness, contrast, saturation and hue jitter, 0 to 1.
      half_body: Probability of a crop around the upper or lower body of a well-labelled person.
      occlusion: Probability of pasting a noise or picture patch over part of the crop.
    """

    scale: tuple[float, float] = (1.0, 1.5)
    flip: float = 0.5
    shift: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 0.6
    colour: float = 0.0
    half_body: float = 0.0
    occlusion: float = 0.0

    def __post_init__(self):
        low, high = self.scale
        _require(0 < low <= high, "scale", self.scale, "a range (low, high) of positive numbers")
        for name in ("flip", "rotation_probability", "colour", "half_body", "occlusion"):
            value = getattr(self, name)
            _require(0 <= value <= 1, name, value, "between 0 and 1")


@dataclasses.dataclass(frozen=True)
class PoseDataConfig:
    """Where the crops come from and how they are read.

    Attributes:
      augmentation: Variation of the training crops.
      max_others: Other people per crop whose joints are kept for the loss masks.
      unlabelled: What a joint with COCO's v = 0 teaches: "negative" (nothing is there: its
        heatmap target is all zero) or "ignore" (left out of the loss). A joint that a whole data
        set never labels is always left out.
      weights: Mixing weights of the data directories, in their order; empty for equal parts.
      min_keypoints: People with fewer annotated joints are not trained on.
      max_bad_share: Share of undecodable records past which a run stops.
      threads: Reader threads per host.
    """

    augmentation: PoseAugmentation = PoseAugmentation()
    max_others: int = 8
    unlabelled: Literal["negative", "ignore"] = "negative"
    weights: tuple[float, ...] = ()
    min_keypoints: int = 1
    max_bad_share: float = 0.01
    threads: int = 8


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and weight averaging.

    Attributes:
      optimizer: "sgd" (the paper's) or "adamw".
      learning_rate: Peak learning rate at `batch_size` of the train config.
      momentum: Of SGD.
      weight_decay: Decoupled for adamw, L2 for sgd; never on norms and biases.
      schedule: "constant" (the paper's pose network), "cosine" to zero, or "steps".
      boundaries: For "steps": learning rate / 10 at each of these steps.
      warmup_steps: Linear warm-up from zero.
      clip_norm: Global norm the gradients are clipped to; 0 for none.
      averaging: Decay of the Polyak (exponential) average of the weights that evaluation uses;
        0 for none. Warmed up as min(decay, (1 + n) / (10 + n)).
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.005
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    boundaries: tuple[int, ...] = ()
    warmup_steps: int = 0
    clip_norm: float = 0.0
    averaging: float = 0.9999

    def __post_init__(self):
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        _require(0 <= self.averaging < 1, "averaging", self.averaging, "in [0, 1)")
        if (self.schedule == "steps") != bool(self.boundaries):
            raise ValueError('boundaries and schedule = "steps" go together')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop.

    Attributes:
      steps: Optimiser steps.
      batch_size: Examples per step over all devices and hosts.
      accumulate: Micro-batches per step; batch_size is their sum.
      seed: Of initialisation, data order and augmentation.
      log_every: Steps between log lines.
      evaluate_every: Steps between evaluations on the validation set; 0 for the end only.
      checkpoint_every: Steps between checkpoints.
      keep: Newest checkpoints kept.
    """

    steps: int = 800_000
    batch_size: int = 24
    accumulate: int = 1
    seed: int = 0
    log_every: int = 100
    evaluate_every: int = 20_000
    checkpoint_every: int = 5_000
    keep: int = 3

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            self.accumulate,
            f"a divisor of batch_size = {self.batch_size}",
        )


@dataclasses.dataclass(frozen=True)
class PoseExperiment:
    """Everything that defines one training of the pose stage; the defaults are the paper's."""

    model: PoseConfig = PoseConfig()
    data: PoseDataConfig = PoseDataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()


def nearest(name: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice, or all of them."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; choices: {', '.join(choices)}"


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return dataclasses.asdict(config)


def _check_type(hint: Any, field: str, value: Any) -> None:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        _require(value in choices, field, value, f"one of {choices}")
        return
    hint = typing.get_origin(hint) or hint
    right = isinstance(value, int | float if hint is float else hint)
    _require(right and isinstance(value, bool) == (hint is bool), field, value, hint.__name__)


T = typing.TypeVar("T")


def from_dict(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Reads a config back strictly.

    Raises:
      ValueError: A field is unknown (the nearest one is named) or has an impossible value.
    """
    hints = typing.get_type_hints(cls)
    kwargs = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"unknown field {path + name!r}{nearest(name, hints)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            value = from_dict(hint, value, f"{path}{name}.")
        else:
            value = tuple(value) if isinstance(value, list) else value
            _check_type(hint, path + name, value)
        kwargs[name] = value
    try:
        return cls(**kwargs)
    except ValueError as error:
        raise ValueError(f"{path}{error}") from None
