"""A contact sheet: scenes beside each other, with and without their labels."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipeline.synthetic.backdrop import photograph, photographs
from data_pipeline.synthetic.compose import scene
from g_rmi.geometry import from_xywh
from g_rmi.skeleton import COCO
from g_rmi.viz import draw


def draw_labels(
    picture: UInt8[np.ndarray, "h w 3"], annotations: list[dict]
) -> UInt8[np.ndarray, "h w 3"]:
    """Boxes and skeletons on a copy; joints that nobody can see are hollow."""
    joints = np.reshape([a["keypoints"] for a in annotations], (-1, len(COCO), 3))
    boxes = from_xywh(np.reshape([a["bbox"] for a in annotations], (-1, 4)))
    return draw.draw_people(
        picture,
        joints[..., :2],
        np.ones(joints.shape[:2]),
        boxes=boxes - [0, 0, 1, 1],
        visibility=joints[..., 2].astype(int),
    )


def contact_sheet(
    *,
    seed: int = 0,
    size: tuple[int, int],
    backgrounds: Path | None = None,
    rows: int = 6,
    columns: int = 6,
    labels: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """The first training scenes of `make` as one picture; every second one has its labels drawn."""
    cells, files = [], photographs(backgrounds) if backgrounds else []
    for index in range(rows * columns):
        rng = np.random.default_rng([seed, 0, index])
        background = photograph(rng, files, *size)
        picture, annotations = scene(rng, height=size[0], width=size[1], background=background)
        cells.append(draw_labels(picture, annotations) if labels and index % 2 else picture)
    return draw.contact_sheet(cells, columns=columns, cell=size)
