"""Frozen configs with complete, validated defaults: the paper's values.

Pure stdlib. A config is built in code (`experiments/configs/`), overridden on the command line,
saved as JSON beside every checkpoint, and read back strictly: a misspelt field is an error that
names the nearest one.
"""

import copy
import dataclasses
import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Norm = Literal["batch", "frozen", "group"]


def require(ok: bool, field: str, value: Any, wanted: str) -> None:
    """Refuses a value, with one line that names the field and what it must be."""
    if not ok:
        raise ValueError(f"{field} = {value!r}: must be {wanted}")


@dataclasses.dataclass(frozen=True)
class PoseAugmentation:
    """How training crops vary (the paper: box scale and flip; the rest is off by default).

    Attributes:
      scale: Range of the uniform box enlargement.
      flip: Probability of mirroring.
      shift: Largest shift of the box centre, as a share of the box's sides.
      rotation: Largest rotation in degrees, uniform on both sides.
      rotation_probability: Probability of rotating at all.
      turned: Probability, where no half body is drawn, of turning a well-labelled person by any
        angle instead, the box drawn anew around the joints: for people who do not stand.
      colour: Strength of brightness, contrast, saturation and hue jitter, 0 to 1.
      half_body: Probability of a crop around the upper or lower body of a well-labelled person.
      occlusion: Probability of pasting a noise or picture patch over part of the crop.
      mixing: Probability of another person's crop shining through or covering a part.
      copy_paste: Probability of the person being cut out and put before another person's crop, and
        of somebody cut out being put beside or before them; for sets with outlines (COCO's
        `segmentation`).
    """

    scale: tuple[float, float] = (1.0, 1.5)
    flip: float = 0.5
    shift: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 0.6
    turned: float = 0.0
    colour: float = 0.0
    half_body: float = 0.0
    occlusion: float = 0.0
    mixing: float = 0.0
    copy_paste: float = 0.0

    def __post_init__(self):
        low, high = self.scale
        require(0 < low <= high, "scale", self.scale, "a range (low, high) of positive numbers")
        shares = "flip rotation_probability turned colour half_body occlusion mixing copy_paste"
        for name in shares.split():
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, "between 0 and 1")


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
      threads: Reader threads per host, or per process.
      processes: Reader processes per host; 0 for threads alone. For many small pictures, of which
        one process cannot make enough.
    """

    augmentation: PoseAugmentation = PoseAugmentation()
    max_others: int = 8
    unlabelled: Literal["negative", "ignore"] = "negative"
    weights: tuple[float, ...] = ()
    min_keypoints: int = 1
    max_bad_share: float = 0.01
    threads: int = 8
    processes: int = 0


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """The person detector: Faster R-CNN on an atrous ResNet (paper, section 3.1).

    What the paper leaves open follows its authors' public framework.

    Attributes:
      depth: ResNet depth: 101 in the paper, 26 for CPUs.
      width: Channels of the ResNet's first block; 64 is the standard.
      stem_width: Channels of its stem; 0 for as many as `width`.
      output_stride: Stride of the features that proposals are made from; dilation keeps it low.
      norm: "batch" (synchronised over the mesh), "frozen" (imported statistics) or "group".
      dtype: Type of the network's arithmetic; parameters, boxes and losses stay float32.
      remat: Recompute each residual unit in the backward pass instead of storing it.
      canvas: Shorter and longer side that pictures are resized to fit in: (800, 1200) is the
        paper's "accurate", (600, 900) its "fast".
      anchor_base: Side of the square anchor of scale 1, in canvas pixels.
      anchor_scales: Sides relative to the base.
      anchor_ratios: Height / width.
      rpn_channels: Of the 3x3 convolution of the region proposal network.
      rpn_dilation: Of the same.
      rpn_positive: IoU from which an anchor is a person.
      rpn_negative: IoU below which it is background.
      rpn_samples: Anchors per picture that enter the loss.
      rpn_positive_share: Largest share of people among them.
      rpn_even: Each person has the same chance to be among them, else each anchor.
      candidates: Best anchors that go into the proposals' NMS.
      proposals: Of a picture.
      proposal_iou: NMS threshold of the proposals.
      roi: "crop" samples each RoI on a grid between its corners, then max-pools 2x2 (the
        authors'); "align" averages 2x2 samples a cell (RoIAlign).
      roi_size: Side of the sampled grid; block 4 sees half of it.
      box_positive: IoU from which a proposal is a person.
      box_samples: Proposals per picture that enter the loss of the second stage.
      box_positive_share: Largest share of people among them.
      box_jitter: Standard deviation of the noise on the annotated boxes that join the proposals of
        the second stage in training, in sides of the box; 0 adds them as they are.
      box_iou: NMS threshold of the detections, relaxed: OKS-NMS does the rest.
      detections: Most people of a picture.
      min_score: Detections that score lower are dropped.
      localisation_weight: Weight of both Huber losses.
      class_weight: Weight of both classification losses.
      huber_delta: Where the Huber loss turns linear, in units of the box code.
    """

    depth: Literal[26, 50, 101, 152] = 101
    width: int = 64
    stem_width: int = 0
    output_stride: Literal[8, 16] = 8
    norm: Norm = "frozen"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    canvas: tuple[int, int] = (800, 1200)
    anchor_base: float = 256.0
    anchor_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_channels: int = 512
    rpn_dilation: int = 2
    rpn_positive: float = 0.7
    rpn_negative: float = 0.3
    rpn_samples: int = 256
    rpn_positive_share: float = 0.5
    rpn_even: bool = False
    candidates: int = 6_000
    proposals: int = 300
    proposal_iou: float = 0.7
    roi: Literal["crop", "align"] = "crop"
    roi_size: int = 14
    box_positive: float = 0.5
    box_samples: int = 64
    box_positive_share: float = 0.25
    box_jitter: float = 0.0
    box_iou: float = 0.6
    detections: int = 100
    min_score: float = 0.0
    localisation_weight: float = 2.0
    class_weight: float = 1.0
    huber_delta: float = 1.0

    def __post_init__(self):
        short, long = self.canvas
        require(1 <= short <= long, "canvas", self.canvas, "(shorter side, longer side) in pixels")
        for name in ("anchor_scales", "anchor_ratios"):
            values = getattr(self, name)
            require(len(values) > 0 and min(values) > 0, name, values, "positive numbers")
        for name in ("anchor_base", "huber_delta"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("rpn_samples", "candidates", "proposals", "box_samples", "detections"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.roi_size % 2 == 0 and self.roi_size > 0, "roi_size", self.roi_size, "even")
        shares = (
            "rpn_positive_share",
            "box_positive_share",
            "proposal_iou",
            "box_iou",
            "min_score",
        )
        for name in (*shares, "rpn_positive", "rpn_negative", "box_positive"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        require(self.box_jitter >= 0, "box_jitter", self.box_jitter, "0 or more")
        require(
            self.rpn_negative <= self.rpn_positive,
            "rpn_negative",
            self.rpn_negative,
            f"at most rpn_positive = {self.rpn_positive}",
        )


@dataclasses.dataclass(frozen=True)
class DetectorAugmentation:
    """How training pictures vary (the paper: mirrored; the rest is off by default).

    Attributes:
      flip: Probability of mirroring.
      scale: Range of the enlargement, log-uniform. A larger picture is cut to the canvas at a
        random place, a smaller one leaves the rest of it empty.
      colour: Strength of brightness, contrast, saturation and hue jitter, 0 to 1.
      mosaic: Probability of four pictures on one canvas instead of one.
      copy_paste: Probability of one to three people, cut out of other pictures along their
        outlines, being put into a picture. Needs a data set with outlines.
      min_visible: A person of whom a smaller share of the box is left becomes a region to ignore.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.0
    mosaic: float = 0.0
    copy_paste: float = 0.0
    min_visible: float = 0.3

    def __post_init__(self):
        low, high = self.scale
        require(0 < low <= high, "scale", self.scale, "a range (low, high) of positive numbers")
        for name in ("flip", "colour", "mosaic", "copy_paste", "min_visible"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, "between 0 and 1")


@dataclasses.dataclass(frozen=True)
class DetectorDataConfig:
    """Where the pictures come from and how they are read.

    Attributes:
      augmentation: Variation of the training pictures.
      max_boxes: Boxes per picture; of more, the largest, and one to ignore around all others.
      weights: Mixing weights of the data directories, in their order; empty for equal parts.
      boxes_complete: False for a data directory, in their order, whose pictures show people
        without a box though its annotations do not say so; empty for none.
      max_bad_share: Share of undecodable records past which a run stops.
      threads: Reader threads per host, or per process.
      processes: Reader processes per host for landscape pictures, and as many for portrait ones; 0
        for threads alone.
    """

    augmentation: DetectorAugmentation = DetectorAugmentation()
    max_boxes: int = 100
    weights: tuple[float, ...] = ()
    boxes_complete: tuple[bool, ...] = ()
    max_bad_share: float = 0.01
    threads: int = 8
    processes: int = 0

    def __post_init__(self):
        require(self.max_boxes >= 1, "max_boxes", self.max_boxes, "at least 1")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and weight averaging.

    Attributes:
      optimizer: "sgd" (the paper's), "adamw", or "muon": convolutions by orthogonalised momentum
        (Jordan et al., 2024), the rest by adamw; the same learning rates as for adamw.
      learning_rate: Peak learning rate at `batch_size` of the train config.
      momentum: Of SGD.
      weight_decay: Decoupled for adamw and muon, L2 for sgd; never on norms and biases.
      schedule: "constant" (the paper's pose network), "cosine" to zero, or "steps".
      boundaries: For "steps": learning rate / 10 at each of these steps.
      warmup_steps: Linear warm-up from zero.
      clip_norm: Global norm the gradients are clipped to; 0 for none.
      averaging: Decay of the Polyak (exponential) average of the weights that evaluation uses;
        0 for none. Warmed up as min(decay, (1 + n) / (10 + n)).
    """

    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: float = 0.005
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    boundaries: tuple[int, ...] = ()
    warmup_steps: int = 0
    clip_norm: float = 0.0
    averaging: float = 0.9999

    def __post_init__(self):
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        require(0 <= self.averaging < 1, "averaging", self.averaging, "in [0, 1)")
        if (self.schedule == "steps") != bool(self.boundaries):
            raise ValueError('boundaries and schedule = "steps" go together')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop.

    Attributes:
      steps: Optimiser steps.
      batch_size: Examples per step over all devices and hosts.
      accumulate: Micro-batches per step; batch_size is their sum.
      fsdp: Split parameters, optimiser state and averages over the devices instead of copying them.
      seed: Of initialisation, data order and augmentation.
      log_every: Steps between log lines.
      evaluate_every: Steps between evaluations on the validation set; 0 for the end only.
      checkpoint_every: Steps between checkpoints.
      keep: Newest checkpoints kept.
      keep_best: Checkpoints kept besides for their evaluation (AP or box_AP); with it, every
        evaluated state is saved.
    """

    steps: int = 800_000
    batch_size: int = 24
    accumulate: int = 1
    fsdp: bool = False
    seed: int = 0
    log_every: int = 100
    evaluate_every: int = 20_000
    checkpoint_every: int = 5_000
    keep: int = 3
    keep_best: int = 1

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.keep_best >= 0, "keep_best", self.keep_best, "0 or more")
        require(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            self.accumulate,
            f"a divisor of batch_size = {self.batch_size}",
        )


def nearest(name: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice, or all of them."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; choices: {', '.join(choices)}"


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
    """The values that a config of the same types has where nothing is set.

    Args:
      config: Any.
      default: What it is by default; that of its type if None.
    """
    default = type(config)() if default is None else default
    values = {}
    for field in dataclasses.fields(config):
        mine, base = getattr(config, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(mine):
            base = default_values(mine, base if type(mine) is type(base) else None)
        values[field.name] = base
    return values


# Old names of fields and where they are today, by stage.
MOVED = {
    "pose": {
        "model.top_down": "model.fpn_channels",
        "model.radius": "model.head.radius",
        "model.heatmap_weight": "model.head.heatmap_weight",
        "model.offset_weight": "model.head.offset_weight",
        "model.auxiliary_weight": "model.head.auxiliary_weight",
        "model.huber_delta": "model.head.huber_delta",
        "model.loss_stride": "model.head.loss_stride",
        "model.decoding": "model.head.decoding",
    },
}


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an experiment of any version under today's names."""
    values = copy.deepcopy(dict(values))
    if "model" not in values:
        return values  # no experiment
    stage = values.setdefault("stage", "pose")  # which experiments before the detector did not say
    there = dict(flatten(values))
    for old, new in MOVED.get(stage, {}).items():
        if old in there:
            inner, name = _place(values, old)
            del inner[name]
            inner, name = _place(values, new)
            inner[name] = there[old]
    if stage == "pose":
        head, kind = _place(values, "model.head.kind")
        head.setdefault(kind, "disks")  # the only one there was
    return values


def _place(values: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The dict that holds a field of this full name, and its name there."""
    *parents, last = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    return values, last


def from_dict(cls: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """Reads a config back strictly.

    Args:
      cls: A dataclass, or a union of some that the literal field `kind` tells apart.
      values: Of its fields; those that are missing stay at their defaults.
      path: Of the values in the whole, for messages.

    Raises:
      ValueError: A field is unknown (the nearest one is named) or has an impossible value.
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
