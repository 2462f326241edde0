"""Arrays, frames and the records that travel between the parts.

THE FRAME, used everywhere in this project:

* Images and maps are `[..., y, x, channel]`.
* Points and offsets are `(x, y)` in pixels. The centre of the pixel in row i, column j is the
  point (j, i).
* Boxes are `(x0, y0, x1, y1)` in the same frame. `xywh` exists only at COCO's border, see
  `g_rmi.geometry.from_xywh`.
* A crop of H x W pixels maps the centres of its corner pixels onto the corners of its box
  ("align-corners"): crop pixel (j, i) is the image point
  (x0 + j (x1 - x0) / (W - 1), y0 + i (y1 - y0) / (H - 1)).

Axis names in shape annotations:

    B  batch        K  keypoints (joints) of the skeleton      H W  rows, columns
    N  boxes/people P  other people in a crop                  C    channels
    A  anchors      *B a batch, or nothing for one example
"""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, UInt8

from g_rmi.people import People as People

Array = Any  # numpy's on the host, jax's on a device: what reads data must not load jax

PERSON = 1  # COCO's category id of people, to which its results format is bound


class Share(NamedTuple):
    """The part of some data that one of several hosts reads: its index, and their number."""

    host: int
    hosts: int


ALONE = Share(0, 1)


class Grid(NamedTuple):
    """Rows and columns of a crop or of its maps, in pixels."""

    height: int
    width: int

    def every(self, stride: int) -> "Grid":
        """Those of the align-corners grid of every `stride`-th pixel."""
        return Grid((self.height - 1) // stride + 1, (self.width - 1) // stride + 1)


class PoseBatch(NamedTuple):
    """Person crops and their labels; the host sends them, targets are made on the device.

    One crop alone is an example for the loader, and what a head makes its targets from.
    """

    image: UInt8[Array, "*B H W 3"]  # RGB crops
    keypoints: Float[Array, "*B K 2"]  # joints of the person the crop is centred on, in crop pixels
    # the joint is annotated in this picture (COCO v > 0): it has a disk and an offset
    visible: Bool[Array, "*B K"]
    occluded: Bool[Array, "*B K"]  # annotated, though something is before it (COCO v = 1)
    # whether it is `occluded` can be told: annotated, by a data set that marks hidden joints, and
    # no augmentation has painted over it
    visibility_known: Bool[Array, "*B K"]
    # the joint takes part in the loss; not where the data set never labels the joint, or, by choice
    # of the data config, where COCO gives v = 0
    labelled: Bool[Array, "*B K"]
    # joints of the other people in the picture, in crop pixels
    other_keypoints: Float[Array, "*B P K 2"]
    other_visible: Bool[Array, "*B P K"]  # those of them that are annotated; all False for padding
    weight: Float[Array, "*B"]  # 1, or 0 for a row that only fills the batch


class DetectionBatch(NamedTuple):
    """Images on canvases of one size, with the people to find; one alone is an example."""

    # RGB canvases: the image in the upper left corner, zeros beside and below it
    image: UInt8[Array, "*B H W 3"]
    size: Int[Array, "*B 2"]  # rows and columns of the image
    # people and regions to ignore, in canvas pixels; padding is zeros
    boxes: Float[Array, "*B N 4"]
    person: Bool[Array, "*B N"]  # rows of `boxes` that are a labelled person
    # rows of `boxes` that teach nothing about whoever is not labelled inside them: crowds, people
    # cut down to a rest, whole images whose people are not all labelled
    ignore: Bool[Array, "*B N"]
    weight: Float[Array, "*B"]  # 1, or 0 for a row that only fills the batch
    classes: Int[Array, "*B N"] | None = None  # of those labelled, where there are several


class PartsBatch(NamedTuple):
    """Whole images on canvases with the joints of everybody in them; one alone is an example."""

    # RGB canvases: the image in the upper left corner, zeros beside and below it
    image: UInt8[Array, "*B H W 3"]
    size: Int[Array, "*B 2"]  # rows and columns of the image
    # people, and regions to ignore, in canvas pixels; padding is zeros
    boxes: Float[Array, "*B N 4"]
    # rows of `boxes` in which nothing is background: crowds, people whose joints are not labelled
    ignore: Bool[Array, "*B N"]
    keypoints: Float[Array, "*B N K 2"]  # joints of the people, in canvas pixels
    visible: Bool[Array, "*B N K"]  # those of them that are annotated
    labelled: Bool[Array, "*B K"]  # the joint takes part in the loss: the data set labels it
    complete: Bool[Array, "*B"]  # who is not labelled is not there
    weight: Float[Array, "*B"]  # 1, or 0 for a row that only fills the batch


class Detections(NamedTuple):
    """Found people, best first, one row each; a fixed number of rows of which some are valid."""

    boxes: Float[Array, "... N 4"]  # in the pixels of the producer's frame (canvas or image)
    scores: Float[Array, "... N"]  # probability of a person; 0 where not valid
    valid: Bool[Array, "... N"]  # the row is a detection
    classes: Int[Array, "... N"] | None = None  # where there are several; 0 where not valid


class Poses(NamedTuple):
    """Decoded people, one row each."""

    # in the pixels of the map's own frame (crop or image; the producer says which)
    keypoints: Float[Array, "... K 2"]
    # of each joint, as its head gives them: with the paper's the maximum of the vote map f_k, with
    # OKS's kernel the expected OKS
    keypoint_scores: Float[Array, "... K"]
    # the pose score, 1/K sum_k max_x f_k(x) (paper, section 3.2.3), or what the head has in its
    # place
    scores: Float[Array, "..."]
    # probability that one sees each joint (COCO's v of 2, not 1) if it is there; None of networks
    # that do not say
    visibility: Float[Array, "... K"] | None = None
