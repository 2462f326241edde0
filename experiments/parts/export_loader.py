"""Finds the people of photographs. Needs the files beside it, numpy, jax and flatbuffers.

    from find_people import find_people

    people = find_people(image)  # uint8 RGB [height, width, 3], or a picture of PIL's
    people["keypoints"]  # [N, K, 2], x and y in the picture's pixels, best person first
    people["keypoint_scores"], people["scores"], people["boxes"]  # [N, K], [N], [N, 4]
    people["visibility"]  # [N, K], of networks that say which joints one sees

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


def _shrunk(x, factor):
    """Means of blocks of pixels; the last row and column are repeated to fill a block."""
    x = np.pad(x, ((0, -x.shape[0] % factor), (0, -x.shape[1] % factor), (0, 0)), "edge")
    blocks = x.reshape(len(x) // factor, factor, -1, factor, 3)
    return blocks.mean((1, 3), np.float32).round().astype(np.uint8)


def find_people(image):
    """People of a picture, as a dict of arrays; a list of them for a list of pictures.

    Pictures that are larger than the program's are shrunk by a whole factor first; the results are
    in their own pixels all the same.
    """
    count, rows, columns, _ = PROGRAM.in_avals[0].shape
    images = image if isinstance(image, list | tuple) else [image]
    if len(images) > count:
        raise ValueError(f"{len(images)} pictures; this program takes at most {count} a call")
    buffer, size = np.zeros((count, rows, columns, 3), np.uint8), np.ones((count, 2), np.int32)
    factors = []
    for i, x in enumerate(map(_pixels, images)):
        factors.append(max(-(-x.shape[0] // (rows - 8)), -(-x.shape[1] // (columns - 8))))
        x = _shrunk(x, factors[i])
        buffer[i, : x.shape[0], : x.shape[1]], size[i] = x, x.shape[:2]
    found = jax.device_get(RUN(buffer, size, WEIGHTS))
    valid, people = found.pop("valid"), []
    for i, factor in enumerate(factors):
        people.append({name: x[i][valid[i]] for name, x in found.items()})
        people[i]["keypoints"] = people[i]["keypoints"] * factor + (factor - 1) / 2
        people[i]["boxes"] = people[i]["boxes"] * factor
    return people if isinstance(image, list | tuple) else people[0]
