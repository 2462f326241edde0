"""How data is read and varied: frozen settings with the paper's values, as in `g_rmi.config`."""

import dataclasses
import math
from typing import Literal

from g_rmi.config import require, require_numbers, require_positive


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How the training examples of both stages vary (the paper: scale and flip)."""

    scale: tuple[float, float] = (1.0, 1.0)  # Range of the enlargement.
    flip: float = 0.5  # Probability of mirroring.
    colour_jitter: float = (
        0.0  # Strength of brightness, contrast, saturation and hue jitter, 0 to 1.
    )
    # Probability of people cut out of other pictures along their outlines (COCO's `segmentation`)
    # being put in; a crop's person before another background, too.
    copy_paste: float = 0.0

    def __post_init__(self):
        low, high = self.scale
        right = 0 < low <= high < math.inf
        require(right, "scale", self.scale, "a range (low, high) of positive numbers")
        others = vars(self).keys() - {"scale", "shift", "rotation"}
        require_numbers(self, 0, 1, *sorted(others))


@dataclasses.dataclass(frozen=True)
class PoseAugmentation(Augmentation):
    """How training crops vary (the paper: box scale and flip; the rest is off by default)."""

    scale: tuple[float, float] = (1.0, 1.5)  # Range of the uniform box enlargement.
    shift: float = 0.0  # Largest shift of the box centre, as a share of the box's sides.
    rotation: float = 0.0  # Largest rotation in degrees, uniform on both sides.
    rotation_probability: float = 0.6  # Probability of rotating at all.
    # Probability, where no half body is drawn, of turning a well-labelled person by any angle
    # instead, the box drawn anew around the joints: for people who do not stand.
    any_rotation: float = 0.0
    # Probability of a crop around the upper or lower body of a well-labelled person.
    half_body: float = 0.0
    random_erasing: float = 0.0  # Probability of a patch of noise or of a picture over a part.
    mixup: float = 0.0  # Probability of another person's crop shining through or covering a part.

    def __post_init__(self):
        super().__post_init__()
        require_numbers(self, 0, None, "shift")
        require_numbers(self, 0, 180, "rotation")


@dataclasses.dataclass(frozen=True)
class DetectorAugmentation(Augmentation):
    """How training pictures vary (the paper: mirrored; the rest is off by default)."""

    # Range of the enlargement, log-uniform. A larger picture is cut to the canvas at a random
    # place, a smaller one leaves the rest of it empty.
    scale: tuple[float, float] = (1.0, 1.0)
    mosaic: float = 0.0  # Probability of four pictures on one canvas instead of one.
    # A person of whom a smaller share of the box is left becomes a region to ignore.
    min_visible: float = 0.3


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the examples come from and how they are read."""

    augmentation: Augmentation = Augmentation()  # Variation of the training examples.
    # Shares of the data directories, in their order; empty for equal parts.
    mix: tuple[float, ...] = ()
    max_bad_share: float = 0.01  # Share of undecodable records past which a run stops.
    threads: int = 8  # Reader threads per host, or per process.
    # Reader processes per host; 0 for threads alone. For many small pictures, of which one process
    # cannot make enough.
    processes: int = 0

    def __post_init__(self):
        require_positive(self, "mix")
        require_numbers(self, 0, 1, "max_bad_share")
        require_numbers(self, 1, None, "threads")
        require_numbers(self, 0, None, "processes")


@dataclasses.dataclass(frozen=True)
class PoseDataConfig(DataConfig):
    """Where the crops come from and how they are read."""

    augmentation: PoseAugmentation = PoseAugmentation()
    max_others: int = 8  # Other people per crop whose joints are kept for the loss masks.
    # What a joint with COCO's v = 0 teaches: "negative" (nothing is there: its heatmap target is
    # all zero) or "ignore" (left out of the loss). A joint that a whole data set never labels is
    # always left out.
    unlabelled: Literal["negative", "ignore"] = "negative"
    min_keypoints: int = 1  # People with fewer annotated joints are not trained on.

    def __post_init__(self):
        super().__post_init__()
        require_numbers(self, 0, None, "max_others", "min_keypoints")


@dataclasses.dataclass(frozen=True)
class DetectorDataConfig(DataConfig):
    """Where the pictures come from and how they are read."""

    augmentation: DetectorAugmentation = DetectorAugmentation()
    # Reader processes per host for landscape pictures, and as many for portrait ones; 0 for threads
    # alone.
    processes: int = 0
    # Boxes per picture; of more, the largest, and one to ignore around all others.
    max_boxes: int = 100
    # False for a data directory, in their order, whose pictures show people without a box though
    # its annotations do not say so; empty for none.
    boxes_complete: tuple[bool, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        require_numbers(self, 1, None, "max_boxes")


@dataclasses.dataclass(frozen=True)
class PartsAugmentation(Augmentation):
    """How whole pictures vary in bottom-up training (DeeperCut: scale and flip)."""

    # Range of the enlargement, log-uniform. A larger picture is cut to the canvas at a random
    # place, a smaller one leaves the rest of it empty.
    scale: tuple[float, float] = (0.85, 1.15)

    def __post_init__(self):
        super().__post_init__()
        require(self.copy_paste == 0, "copy_paste", self.copy_paste, "0 for whole pictures")


@dataclasses.dataclass(frozen=True)
class PartsDataConfig(DataConfig):
    """Where the pictures of bottom-up training come from and how they are read."""

    augmentation: PartsAugmentation = PartsAugmentation()
    # People and regions to ignore in a picture; of more, the largest, and one region around all
    # others.
    max_boxes: int = 30

    def __post_init__(self):
        super().__post_init__()
        require_numbers(self, 1, None, "max_boxes")
