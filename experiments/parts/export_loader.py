"""Finds the people of photographs. Needs the files beside it, numpy, jax and flatbuffers.

    from find_people import find_people

    people = find_people(image)  # uint8 RGB [height, width, 3], or a picture of PIL's
    people["keypoints"]  # [N, K, 2], x and y in the picture's pixels, best person first
    people["keypoint_scores"], people["scores"], people["boxes"]  # [N, K], [N], [N, 4]

The first call compiles, on whatever device jax has. `about.json` names the keypoints.
"""

import io
from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).parent


def _read(name, read):
    try:
        return read((HERE / name).read_bytes())
    except Exception as error:  # damage shows up as any of a dozen types
        raise ValueError(f"{HERE / name} is missing, cut or damaged; export again") from error


WEIGHTS = jax.device_put(_read("weights.npz", lambda data: dict(np.load(io.BytesIO(data)))))
PROGRAM = _read("program.bin", lambda data: export.deserialize(bytearray(data)))
RUN = jax.jit(PROGRAM.call)


def _pixels(x):
    """A picture as an array; PIL's are turned upright by EXIF, transparency becomes white."""
    if hasattr(x, "has_transparency_data") and not x.mode.startswith(("I", "F")):
        from PIL import Image, ImageOps

        x = ImageOps.exif_transpose(x)
        if x.has_transparency_data:
            x = x.convert("RGBA")
            x = Image.alpha_composite(Image.new("RGBA", x.size, "white"), x)
        x = np.asarray(x.convert("RGB"))
    shape, kind = getattr(x, "shape", ()), getattr(x, "dtype", type(x).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        got = f"{kind} {shape}" if shape else f"{kind}: {x!r:.60}"
        raise ValueError(f"a picture must be uint8 RGB [H, W, 3], or one of PIL's, got {got}")
    return x


def find_people(image):
    """People of a picture, as a dict of arrays; a list of them for a list of pictures."""
    count, rows, columns, _ = PROGRAM.in_avals[0].shape
    images = image if isinstance(image, list | tuple) else [image]
    if len(images) > count:
        raise ValueError(f"{len(images)} pictures; this program takes at most {count} a call")
    buffer, size = np.zeros((count, rows, columns, 3), np.uint8), np.ones((count, 2), np.int32)
    for i, x in enumerate(map(_pixels, images)):
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
