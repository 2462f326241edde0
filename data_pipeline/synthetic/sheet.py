"""A contact sheet: scenes beside each other, with and without their labels."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipeline.synthetic.backdrop import photograph, photographs
from data_pipeline.synthetic.compose import scene
from g_rmi.skeleton import COCO

_LEFT, _RIGHT, _MIDDLE = (60, 140, 255), (255, 90, 60), (80, 230, 80)


def _side(joint: int) -> tuple[int, int, int]:
    name = COCO.names[joint]
    return _LEFT if name.startswith("left") else _RIGHT if name.startswith("right") else _MIDDLE


def draw_labels(
    picture: UInt8[np.ndarray, "h w 3"], annotations: list[dict]
) -> UInt8[np.ndarray, "h w 3"]:
    """Boxes and skeletons on a copy: left blue, right red; rings are joints nobody can see."""
    picture = picture.copy()
    for annotation in annotations:
        x, y, w, h = (int(v) for v in annotation["bbox"])
        cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), (255, 255, 0))
        joints = np.reshape(annotation["keypoints"], (-1, 3))
        at = np.round(joints[:, :2]).astype(int).tolist()
        for a, b in COCO.limbs:
            if joints[a, 2] and joints[b, 2]:
                rgb = _side(a) if _side(a) == _side(b) else _MIDDLE
                cv2.line(picture, at[a], at[b], rgb, 1, cv2.LINE_AA)
        for k, (_, _, flag) in enumerate(joints):
            if flag:
                cv2.circle(picture, at[k], 2, _side(k), -1 if flag == 2 else 1, cv2.LINE_AA)
    return picture


def contact_sheet(
    *,
    seed: int = 0,
    size: tuple[int, int],
    backgrounds: Path | None = None,
    rows: int = 6,
    columns: int = 6,
    labels: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """The first training scenes of a seed as one picture.

    Args:
      seed: As of `make`.
      size: (height, width) of a scene.
      backgrounds: As of `make`.
      rows: Scenes down.
      columns: Scenes across.
      labels: Draw boxes and joints into every second column.
    """
    cells, files = [], photographs(backgrounds) if backgrounds else []
    for index in range(rows * columns):
        rng = np.random.default_rng([seed, 0, index])
        background = photograph(rng, files, *size)
        picture, annotations = scene(rng, height=size[0], width=size[1], background=background)
        cells.append(draw_labels(picture, annotations) if labels and index % 2 else picture)
    lines = [np.hstack(cells[r * columns : (r + 1) * columns]) for r in range(rows)]
    return np.vstack(lines)
