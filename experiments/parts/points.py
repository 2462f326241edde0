"""The points of a sweep: what each changes in the base, and how it is evaluated."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from experiments.parts.experiment import (
    DetectorExperiment,
    PartsExperiment,
    PoseExperiment,
    override,
)
from g_rmi.inference.settings import COUNTING, Settings
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks

Fields = Mapping[str, Any]
H = TypeVar("H", bound=Head)


class Base(NamedTuple):
    """What a sweep varies: a pose network and, for sweeps that look into its boxes, a detector.

    Or a bottom-up network in the place of both.
    """

    pose: PoseExperiment | PartsExperiment
    detector: DetectorExperiment | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    """One row of a sweep's table. Points that need the same training share it."""

    name: str
    # Fields of the pose experiment that differ from the base, {"model.head.radius": 12.5}.
    pose: Fields = dataclasses.field(default_factory=dict)
    # The same of trainings before, each from the weights of the one before it, and then this one.
    before: tuple[Fields, ...] = ()
    boxes: Literal["gt", "detector"] = "gt"  # Where the pose network looks.
    # Fields of the detector's experiment that differ from the base, and settings of inference that
    # differ from those that AP is counted with.
    detector: Fields = dataclasses.field(default_factory=dict)
    settings: Fields = dataclasses.field(default_factory=dict)
    # Fields of the pose network that differ only when it is evaluated.
    pose_test: Fields = dataclasses.field(default_factory=dict)
    # Fields of the detector that differ only when it finds boxes, {"model.proposals": 50}.
    detector_test: Fields = dataclasses.field(default_factory=dict)
    counts: Literal["people", "boxes"] = "people"  # "boxes" needs no pose network.
    costs: bool = False  # Columns are what a crop costs and reaches, instead of all of COCO's.
    averaged: bool = True  # Evaluate the average of the weights, if there is one, not the last.


def settings_of(point: Point) -> Settings:
    """How people are looked for."""
    return dataclasses.replace(COUNTING, **point.settings)


def head_of(base: Base, wanted: type[H]) -> H:
    """The base's head, for sweeps over what one has; a ValueError if it is another."""
    head = base.pose.model.head
    if not isinstance(head, wanted):
        raise ValueError(f"this sweep needs the head {wanted.kind!r}, not {head.kind!r}")
    return head


def looks_at_crops(base: Base) -> PoseExperiment:
    """The base if it is a pose network; a ValueError if not."""
    if not isinstance(base.pose, PoseExperiment):
        raise ValueError("this sweep needs a pose network, not a bottom-up one")
    return base.pose


def bottom_up(base: Base) -> PartsExperiment:
    """The base if it is a bottom-up network; a ValueError if not."""
    if not isinstance(base.pose, PartsExperiment):
        raise ValueError("this sweep needs a bottom-up network: --base parts_small")
    return base.pose


def disks(base: Base) -> Disks:
    """The base's head if it is the paper's; see `head_of`."""
    return head_of(base, Disks)


def resolve(point: Point, base: Base) -> Base:
    """The experiments of a point; the detector's is None where the point needs none.

    A ValueError if a field is misspelt or impossible, or a detector is needed and none is named.
    """
    try:
        for fields in point.before:
            override(base.pose, fields)
        pose = override(base.pose, point.pose)
        override(pose, point.pose_test)
        if isinstance(pose, PartsExperiment) and (point.boxes != "gt" or point.settings):
            raise ValueError("needs boxes, which a bottom-up network does without")
        if point.boxes == "gt":
            return Base(pose)
        if base.detector is None:
            raise ValueError("needs boxes: name a detector's config or training with --detector")
        detector = override(base.detector, point.detector)
        override(detector, point.detector_test)
        return Base(pose, detector)
    except ValueError as error:
        raise ValueError(f"point {point.name!r}: {error}") from None


def check_names(points: Iterable[Point]) -> list[Point]:
    """The points; a ValueError if two have the same name."""
    points = list(points)
    for name, count in Counter(point.name for point in points).items():
        if count > 1:
            raise ValueError(f"two points are named {name!r}")
    return points
