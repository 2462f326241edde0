"""What the networks of two-stage detectors share: backbone, region proposals, the two steps."""

from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from g_rmi.detector.proposals import BoxOutputs, RPNOutputs, make_rpn


class TwoStageNetwork(nn.Module):
    """A network in two steps; choosing regions between them is no part of it.

    A detector says what its `box_head` is, which has block 4 of the backbone as "block4"; `shared`,
    what regions are looked up in; and `classify`.
    """

    config: Any  # a TwoStageConfig
    classes: int = 1

    def setup(self):
        """Makes the three parts."""
        self.trunk = self.config.features(blocks=3)  # as checkpoints know it
        self.rpn = make_rpn(self.config)
        self.box_head = self.make_head()

    def make_head(self) -> nn.Module:
        """The module of the second stage."""
        raise NotImplementedError

    def shared(
        self, features: Float[Array, "B h w C"], size: Int[Array, "B 2"], *, train: bool
    ) -> Float[Array, "B h w G"]:
        """What all regions of a picture are looked up in, computed once."""
        raise NotImplementedError

    def propose(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"], *, train: bool = False
    ) -> tuple[Float[Array, "B h w G"], RPNOutputs]:
        """First step: what regions are looked up in, and what the RPN says."""
        features = self.trunk(self.config.normalise(image), train=train, size=size)["block3"]
        return self.shared(features, size, train=train), self.rpn(features)

    def classify(
        self,
        shared: Float[Array, "B h w G"],
        boxes: Float[Array, "B R 4"],
        *,
        train: bool = False,
    ) -> BoxOutputs:
        """Second step: class and box of regions; `boxes` in canvas pixels, outputs [B R ...]."""
        raise NotImplementedError

    def __call__(
        self, image: Num[Array, "B H W 3"], size: Int[Array, "B 2"], boxes: Float[Array, "B R 4"]
    ) -> tuple[RPNOutputs, BoxOutputs]:
        """Both steps with given regions."""
        shared, rpn = self.propose(image, size)
        return rpn, self.classify(shared, boxes)
