"""COCO's numbers by crowding: of pictures in which people overlap, and of the others."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from g_rmi.evaluation.results import Result
from g_rmi.evaluation.truth import Truth, evaluate_keypoints
from g_rmi.geometry import to_xywh

OVERLAP = 0.1  # IoU from which two people's boxes overlap


def crowded_images(truth: Truth) -> set[int]:
    """Ids of the pictures in which two people's boxes overlap; regions of crowds are nobody's."""
    boxes: dict[int, list[np.ndarray]] = {}
    for person, box in zip(truth.people, to_xywh(truth.boxes), strict=True):
        if not person["iscrowd"]:
            boxes.setdefault(person["image_id"], []).append(box)
    return {
        image
        for image, some in boxes.items()
        if (coco_mask.iou(some, some, [False] * len(some)) >= OVERLAP).sum() > len(some)
    }


def by_crowding(truth: Truth, results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """COCO's ten numbers of poses of "people apart" and "people overlap".

    Pictures in which some boxes have an IoU of at least .1, and all others, also those that show
    nobody. Empty if all pictures are of one kind.
    """
    crowded = crowded_images(truth)
    kinds = {
        "people apart": [image for image in truth.image_ids if image not in crowded],
        "people overlap": [image for image in truth.image_ids if image in crowded],
    }
    if not all(kinds.values()):
        return {}
    return {
        name: evaluate_keypoints(truth.on_images(images), results) for name, images in kinds.items()
    }
