"""The points of a sweep: what each changes in the base, and how it is evaluated."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from experiments.parts.experiment import (
    DetectorExperiment,
    Experiment,
    PoseExperiment,
    experiment_from_dict,
)
from g_rmi.config import flatten, nearest, to_dict
from g_rmi.inference.settings import COUNTING, Settings
from g_rmi.pose.heads.disks import Disks

T = TypeVar("T", bound=Experiment)
Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Base:
    """What a sweep varies.

    Attributes:
      pose: The pose network's experiment.
      detector: The detector's, for sweeps that look into detected boxes; None if none is named.
    """

    pose: PoseExperiment
    detector: DetectorExperiment | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    """One row of a sweep's table. Points that need the same training share it.

    Attributes:
      name: Of the row.
      pose: Fields of the pose experiment that differ from the base, {"model.head.radius": 12.5}.
      boxes: Where the pose network looks: annotated boxes, or those of the detector.
      detector: Fields of the detector's experiment that differ from the base.
      settings: Settings of inference that differ from those that AP is counted with.
      averaged: Evaluate the average of the weights, where there is one, not the last ones.
    """

    name: str
    pose: Fields = dataclasses.field(default_factory=dict)
    boxes: Literal["gt", "detector"] = "gt"
    detector: Fields = dataclasses.field(default_factory=dict)
    settings: Fields = dataclasses.field(default_factory=dict)
    averaged: bool = True


def settings_of(point: Point) -> Settings:
    """How people are looked for."""
    return dataclasses.replace(COUNTING, **point.settings)


def disks(base: Base) -> Disks:
    """The base's head, for sweeps over what the paper's head has.

    Raises:
      ValueError: It is another one.
    """
    if not isinstance(base.pose.model.head, Disks):
        raise ValueError(f"this sweep needs the head 'disks', not {base.pose.model.head.kind!r}")
    return base.pose.model.head


def override(experiment: T, fields: Fields) -> T:
    """An experiment with some of its fields changed.

    Args:
      experiment: Any.
      fields: New values by full name, such as {"model.head.radius": 12.5}. After a new kind, such
        as {"model.head.kind": "gaussian"}, the others of its settings are at their defaults.

    Raises:
      ValueError: There is no such field, the message names the nearest, or its value is impossible.
    """
    values = to_dict(experiment)
    for name, value in fields.items():
        names = dict(flatten(values))
        *parents, last = name.split(".")
        if name not in names and f"{'.'.join(parents)}.kind" not in fields:
            last = name.rpartition(".")[2]
            same = [full for full in names if full.endswith(f".{last}")]
            raise ValueError(f"no field {name!r}{nearest(name, same or names)}")
        inner = values
        for parent in parents:
            inner = inner[parent]
        if last == "kind" and value != inner[last]:
            inner.clear()
        inner[last] = value
    return experiment_from_dict(values)  # type: ignore[bad-return]


def resolve(point: Point, base: Base) -> Base:
    """The experiments of a point; the detector's is None where the point needs none.

    Raises:
      ValueError: A field is misspelt or impossible, or a detector is needed and none is named.
    """
    try:
        pose = override(base.pose, point.pose)
        if point.boxes == "gt":
            return Base(pose)
        if base.detector is None:
            raise ValueError("needs boxes: name a detector's config or training with --detector")
        return Base(pose, override(base.detector, point.detector))
    except ValueError as error:
        raise ValueError(f"point {point.name!r}: {error}") from None


def check_names(points: Iterable[Point]) -> list[Point]:
    """The points, of which no two may have the same name.

    Raises:
      ValueError: Two have.
    """
    found: dict[str, Point] = {}
    for point in points:
        if found.setdefault(point.name, point) is not point:
            raise ValueError(f"two points are named {point.name!r}")
    return list(found.values())
