"""What a pose head is: its settings, its maps, what they should say, and how they become joints."""

import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float, PyTree

from g_rmi.config import nearest
from g_rmi.nn.conv import Conv
from g_rmi.pose.fields import Field
from g_rmi.types import Poses

Maps = Mapping[str, Array]


class Grid(NamedTuple):
    """Rows and columns of a crop, in pixels."""

    height: int
    width: int

    def every(self, stride: int) -> "Grid":
        """Those of the align-corners grid of every `stride`-th pixel."""
        return Grid((self.height - 1) // stride + 1, (self.width - 1) // stride + 1)


class CropLabels(NamedTuple):
    """The labels of one crop, as in `g_rmi.types.PoseBatch`; points in crop pixels."""

    keypoints: Float[Array, "K 2"]
    visible: Bool[Array, " K"]
    labelled: Bool[Array, " K"]
    other_keypoints: Float[Array, "P K 2"]
    other_visible: Bool[Array, "P K"]


class Reading(NamedTuple):
    """How the maps of a crop are read.

    Attributes:
      grid: The crop.
      sigmas: OKS fall-offs of the joints.
      box_scale: How much larger than the extended box the crop is.
      decoding: One of the head's.
    """

    grid: Grid
    sigmas: tuple[float, ...]
    box_scale: float
    decoding: str


@runtime_checkable
class Head(Protocol):
    """A frozen dataclass: its fields are its settings and its flags.

    All functions but `maps` see one crop.
    """

    @property
    def kind(self) -> Any:
        """Literal[NAME], which tells heads apart in saved configs; `--head NAME` chooses one."""
        ...

    @property
    def decoding(self) -> Any:
        """Literal[...] of the ways to read poses off the maps; its value is the default."""
        ...

    @property
    def fields(self) -> tuple[Field, ...]:
        """The maps at prediction."""
        ...

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms of the loss."""
        ...

    def maps(
        self, features: Maps, joints: int, *, dtype: jnp.dtype, train: bool
    ) -> dict[str, Array]:
        """Features to float32 maps; called inside the network, whose parameters it adds.

        Args:
          features: "final", the finest, and all outputs of the backbone; [B, h, w, C].
          joints: K.
          dtype: Of the network's arithmetic.
          train: In training and initialisation there may be more maps than `fields`.
        """
        ...

    def targets(self, labels: CropLabels, grid: Grid) -> PyTree:
        """What the maps should say."""
        ...

    def losses(self, maps: Maps, targets: PyTree, grid: Grid) -> dict[str, Float[Array, ""]]:
        """Terms of the loss, before they are weighted."""
        ...

    def evidence(self, maps: Maps, how: Reading) -> Float[Array, "H W K"]:
        """The score of each joint at each pixel of the crop, whose maximum `decode` looks for."""
        ...

    def decode(self, maps: Maps, how: Reading) -> Poses:
        """Keypoints [K, 2] in crop pixels, their scores [K], and the pose's score."""
        ...

    def drawn_from(self, decoding: str) -> float:
        """Score from which on a joint is worth drawing."""
        ...


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


def project(
    features: Float[Array, "B h w C"],
    channels: int,
    *,
    name: str,
    dtype: jnp.dtype,
    bias_init: Initializer = nn.initializers.zeros,
) -> Float[Array, "B h w channels"]:
    """A 1x1 convolution to float32 maps, called inside a network."""
    small = nn.initializers.normal(0.01)
    options = {"kernel_init": small, "bias_init": bias_init, "name": name}
    return Conv(channels, 1, use_bias=True, dtype=dtype, **options)(features).astype(jnp.float32)
