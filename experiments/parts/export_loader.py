"""Finds the people of photographs. Needs the files beside it, numpy, jax and flatbuffers.

    from find_people import find_people

    people = find_people(image)  # uint8 RGB [height, width, 3]
    people["keypoints"]  # [N, K, 2], x and y in the picture's pixels, best person first
    people["keypoint_scores"], people["scores"], people["boxes"]  # [N, K], [N], [N, 4]

The first call compiles, on whatever device jax has. `about.json` names the keypoints.
"""

from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).parent
PROGRAM = export.deserialize(bytearray((HERE / "program.bin").read_bytes()))
WEIGHTS = jax.device_put(dict(np.load(HERE / "weights.npz")))
RUN = jax.jit(PROGRAM.call)


def find_people(image):
    """People of a picture, as a dict of arrays; a list of them for a list of pictures."""
    count, rows, columns, _ = PROGRAM.in_avals[0].shape
    images = image if isinstance(image, list | tuple) else [image]
    if len(images) > count:
        raise ValueError(f"{len(images)} pictures; this program takes at most {count} a call")
    buffer, size = np.zeros((count, rows, columns, 3), np.uint8), np.ones((count, 2), np.int32)
    for i, x in enumerate(images):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3 or 0 in x.shape:
            raise ValueError(f"a picture must be uint8 RGB [H, W, 3], got {x.dtype} {x.shape}")
        if x.shape[0] > rows - 8 or x.shape[1] > columns - 8:
            raise ValueError(
                f"the picture has {x.shape[0]} rows and {x.shape[1]} columns; this program takes "
                f"at most {rows - 8} and {columns - 8}: shrink it, or export with a larger --size"
            )
        buffer[i, : x.shape[0], : x.shape[1]], size[i] = x, x.shape[:2]
    found = jax.device_get(RUN(buffer, size, WEIGHTS))
    valid = found.pop("valid")
    people = [{name: x[i][valid[i]] for name, x in found.items()} for i in range(len(images))]
    return people if isinstance(image, list | tuple) else people[0]
