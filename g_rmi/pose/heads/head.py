"""What a pose head is: its settings, its maps, what they should say, and how they become joints."""

import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from g_rmi.config import nearest
from g_rmi.pose.fields import Field
from g_rmi.skeleton import Skeleton
from g_rmi.types import Grid, PoseBatch, Poses

Maps = Mapping[str, Array]


class Teacher(NamedTuple):
    """What a head may tell its later parts in place of what its earlier ones found."""

    targets: PyTree  # the head's, of a batch
    key: Key[Array, ""] | None = None  # of a step of training
    step: Int[Array, ""] | int = 0  # optimiser steps before it


class Making(NamedTuple):
    """How the maps of a batch are made."""

    skeleton: Skeleton
    grid: Grid  # of the crops
    norm: str  # as in `g_rmi.nn.norm`
    dtype: jnp.dtype  # of the arithmetic
    train: bool
    teacher: Teacher | None = None  # in training; at prediction only where the truth is wanted


class Reading(NamedTuple):
    """How the maps of a crop are read."""

    grid: Grid  # of the crop
    sigmas: tuple[float, ...]  # OKS fall-offs of the joints
    box_scale: float  # how much larger than the extended box the crop is
    decoding: str  # one of the head's


@runtime_checkable
class Head(Protocol):
    """A frozen dataclass: its fields are its settings and its flags.

    All functions but `maps` see one crop. A head may have a backbone of its own: a function
    `backbone(*, norm, dtype, name)` that gives a linen module for the config's place, or None.
    """

    @property
    def kind(self) -> Any:
        """Literal[NAME], which tells heads apart in saved configs; `--head NAME` chooses one."""

    @property
    def decoding(self) -> Any:
        """Literal[...] of the ways to read poses off the maps; its value is the default."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The maps at prediction."""

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms of the loss."""

    def maps(self, features: Maps, how: Making) -> dict[str, Array]:
        """Features to float32 maps; called inside the network, whose parameters it adds.

        The features [B, h, w, C] are all outputs of the backbone, from first to last, "final", the
        finest, and "picture", the normalised crops [B, H, W, 3]. In training and initialisation
        there may be more maps than `fields`.
        """

    def targets(self, crop: PoseBatch, grid: Grid, skeleton: Skeleton) -> PyTree:
        """What the maps should say: a tuple with an array by the name of each field.

        A joint counts where it is `visible & labelled`: annotated, and not of a data set that never
        labels it.
        """

    def losses(self, maps: Maps, targets: PyTree, grid: Grid) -> dict[str, Float[Array, ""]]:
        """Terms of the loss, before they are weighted."""

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The score of each joint at each pixel of the crop, whose maximum `decode` looks for."""

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """Keypoints [K, 2] in crop pixels, their scores [K], and the pose's score.

        Of a head with a field "visibility" also the probability that one sees each joint.
        """

    def drawn_from(self, decoding: str) -> float:
        """Score from which on a joint is worth drawing."""


@runtime_checkable
class Fitted(Protocol):
    """A head some of whose variables are statistics of the training set."""

    def statistics(
        self, keypoints: Float[np.ndarray, "N K 2"], visible: Bool[np.ndarray, "N K"]
    ) -> dict[str, Any]:
        """Variables of the network, from joints of training crops in crop pixels."""


@runtime_checkable
class Staged(Protocol):
    """A head that is trained in steps, in some of which parts of the network stay as they are."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of these parts among the network's parameters, "trunk" for the backbone."""


def frozen_parts(head: Head) -> tuple[str, ...]:
    """Names of the parts of a network that a training with this head leaves as they are."""
    return head.frozen if isinstance(head, Staged) else ()


def needs_truth(head: Head) -> bool:
    """Whether predictions need the targets: to measure what a head could gain at most."""
    return getattr(head, "oracle", False)


def tells_visibility(head: Head) -> bool:
    """Whether its poses say which joints one sees."""
    return any(field.name == "visibility" for field in head.fields)


def decodings(head: Head) -> tuple[str, ...]:
    """The ways to read poses off a head's maps."""
    return typing.get_args(typing.get_type_hints(type(head))["decoding"])


def check_decoding(head: Head, decoding: str | None) -> str:
    """The decoding, the head's own for None.

    Raises:
      ValueError: The head has no such decoding.
    """
    if decoding is None:
        return head.decoding
    if decoding not in decodings(head):
        raise ValueError(
            f"decoding = {decoding!r}: not one of the head {head.kind!r}"
            f"{nearest(decoding, decodings(head))}"
        )
    return decoding
