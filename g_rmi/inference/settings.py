"""How people are looked for: one frozen object, the same in every program and in Python."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from g_rmi.config import named_fields, nearest

Ranking = Literal["pose", "box", "product"]


class Look(NamedTuple):
    """What changes the networks' answers; equal looks can share their predictions."""

    decoding: str | None
    flip_test: bool
    rotation_test: bool


@named_fields
@dataclasses.dataclass(frozen=True)
class Settings:
    """How people are found; the defaults are the paper's where it states them.

    Attributes:
      decoding: How a pose is read off the network's maps. Default: as stored in the weights, else
        the paper's Hough voting.
      flip_test: Average with the mirrored image.
      rotation_test: Average with views rotated by 30 degrees to either side; for weights trained
        with `--rotation`.
      min_box_score: Ignore boxes scoring below this, 0 to 1.
      max_people: Boxes of an image that are used at most, the best first. Boxes that are given in
        Python are all used.
      ranking: What ranks people: the pose score, the box score, or their product.
      min_score: Ignore people scoring below this, 0 to 1. Chosen with `min_box_score` on
        photographs; docs/photographs.md has the counts.
      box_nms: Of two people whose boxes have a higher IoU than this, drop the lower-scored one; 1
        keeps both, as in the paper.
      oks_nms: Of two people whose poses have a higher OKS than this, drop the lower-scored one; 1
        keeps both.
      crops_at_once: People processed by the pose network at a time; on CPUs the last few, who do
        not fill a chunk, one by one. Raise it until an accelerator is full.
    """

    decoding: str | None = None
    flip_test: bool = False
    rotation_test: bool = False
    min_box_score: float = 0.1
    max_people: int = 30
    ranking: Ranking = "pose"
    min_score: float = 0.2
    box_nms: float = 1.0
    oks_nms: float = 0.5
    crops_at_once: int = 4

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if reason := _misfit(field.type, value):
                raise ValueError(f"{field.name} = {value!r}: must be {reason}")

    @property
    def look(self) -> Look:
        """The part that the networks' answers depend on."""
        return Look(self.decoding, self.flip_test, self.rotation_test)


# What fields were called before; understood for one release.
RENAMED = {
    "method": "decoding",
    "turn_test": "rotation_test",
    "people": "max_people",
    "max_per_image": "max_people",
    "score": "ranking",
    "iou_threshold": "box_nms",
    "oks_threshold": "oks_nms",
    "chunk": "crops_at_once",
}


def _misfit(hint: Any, value: Any) -> str | None:
    """What a value of such a field must be, if this is none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float:
        return None if number and 0 <= value <= 1 else "a number from 0 to 1"
    if hint is int:
        whole = number and isinstance(value, int) and value >= 1
        return None if whole else "a whole number, at least 1"
    if hint == str | None:  # which decodings there are, the network's head knows
        return None if value is None or isinstance(value, str) else "a text, or None"
    if hint is bool:
        return None if isinstance(value, bool) else "True or False"
    choices = typing.get_args(hint)
    return None if value in choices else f"one of {', '.join(map(repr, choices))}"


def from_dict(values: Mapping[str, Any]) -> Settings:
    """Reads settings back strictly, under their names of now or before.

    Raises:
      ValueError: A name is unknown, the message names the nearest, or a value is impossible.
    """
    names = [field.name for field in dataclasses.fields(Settings)]
    renamed = {}
    for name, value in values.items():
        now = RENAMED.get(name, name)
        if now not in names:
            raise ValueError(f"unknown setting {name!r}{nearest(name, names)}")
        try:
            Settings(**{now: value})
        except ValueError as error:
            said = now if now == name else f"{name} (now {now})"
            raise ValueError(str(error).replace(now, said, 1)) from None
        renamed[now] = value
    return Settings(**renamed)


# Average precision counts everybody, the most doubtful ones last.
COUNTING = Settings(min_box_score=0.0, min_score=0.0)
