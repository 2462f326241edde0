"""Encoded pictures: their header, decoding at a reduced size, and cutting a crop out of them."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipeline.schema import Dataset
from g_rmi.geometry import Affine, apply_affine, invert_affine

Picture = UInt8[np.ndarray, "_ _ 3"]  # RGB of any size

MAX_PIXELS = 178_956_970  # What Pillow, too, refuses as a decompression bomb.
MAX_SIDE = 32_766  # OpenCV's limit for pictures it samples.

# Keypoints and boxes refer to the stored pixels: an EXIF orientation is not applied.
_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
DECODE_FLAGS = {
    1: _DECODE,
    2: _DECODE | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: _DECODE | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: _DECODE | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_IMAGE = b"\xff\xd9"


class ImageError(ValueError):
    """A picture that cannot be decoded or is not what its annotations say."""


class Header(NamedTuple):
    """Size and format of an encoded picture, in stored pixels."""

    width: int
    height: int
    format: str


def read_header(data: bytes) -> Header:
    """Reads the size of a JPEG or PNG file without decoding it.

    An ImageError if it is neither, is cut off, or has more than `MAX_PIXELS`.
    """
    if data[:2] == b"\xff\xd8":
        header = _jpeg_header(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        header = Header(width, height, "png")
    else:
        raise ImageError(f"neither JPEG nor PNG: {len(data)} bytes that start with {data[:4]!r}")
    if header.width * header.height > MAX_PIXELS:
        raise ImageError(f"{header.width} x {header.height} is more than {MAX_PIXELS} pixels")
    return header


def _jpeg_header(data: bytes) -> Header:
    at = 2
    while at + 9 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            break
        if marker in _SOF:
            # After the frame header 0xff 0xd9 can only be the end; a thumbnail's lies before it.
            if data.rfind(_END_OF_IMAGE, at) < 0:
                raise ImageError("JPEG file is cut off")
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return Header(width, height, "jpeg")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        at += 1 if marker == 0xFF else 2 + length
    raise ImageError("JPEG file without a frame header")


def decode(data: bytes, *, reduction: int = 1) -> Picture:
    """Decodes a JPEG or PNG file to RGB; grey, CMYK, palette and alpha become three channels.

    With a reduction r of 2, 4 or 8, pixel i of the result is the mean of the pixels r i ...
    r (i + 1) - 1; JPEG does it inside the decoder, at less cost. An ImageError if the content is
    broken, or as of `read_header`.
    """
    inside = read_header(data).format == "jpeg"
    flags = DECODE_FLAGS[reduction if inside else 1]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"not decodable: {error.err}") from None
    if image is None:
        raise ImageError(f"{'JPEG' if inside else 'PNG'} file is not decodable")
    return image if inside else shrink(image, reduction)


def shrink(image: Picture, factor: int) -> Picture:
    """Means of `factor` x `factor` pixels; the last row and column are repeated to fill a block."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    bottom, right = -height % factor, -width % factor
    image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    size = (image.shape[1] // factor, image.shape[0] // factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def reduction_of(affine: Affine) -> int:
    """The reduction to decode with before a map to a crop: 1, 2, 4 or 8.

    The largest that leaves a crop pixel at least one pixel of the reduced picture wide, so that
    bilinear sampling meets at most a twofold shrinking.
    """
    (a, b, _), (c, d, _) = affine.tolist()
    area = 1 / abs(a * d - b * c)  # of a crop pixel, in image pixels
    return next(r for r in (8, 4, 2, 1) if area >= r * r or r == 1)


def cut(
    data: bytes,
    affine: Affine,
    *,
    height: int,
    width: int,
    size: tuple[int, int] | None = None,
    repeat_edge: bool = False,
    out: Picture | None = None,
) -> Picture:
    """Decodes a picture and cuts a crop of `height` x `width` pixels out of it, bilinear.

    `affine` maps image points to crop pixels, see `g_rmi.geometry.box_to_crop`. Outside the picture
    are zeros or, with `repeat_edge`, its edge, so that it does not fade to black. Where `size` is
    given, the picture must have that width and height. The crop is written to `out` where there is
    one: fresh memory costs a tenth of the time for large crops. An ImageError if the picture is not
    decodable, of another size, or with a side past `MAX_SIDE` where it is sampled.
    """
    header = read_header(data)
    if size is not None and size != header[:2]:
        raise ImageError(
            f"is {header.width} x {header.height}, its annotations say {size[0]} x {size[1]}"
        )
    reduction = reduction_of(affine)
    image = decode(data, reduction=reduction)
    if max(image.shape) > MAX_SIDE:
        raise ImageError(f"{header.width} x {header.height}: a side is too long to be sampled")
    border = cv2.BORDER_REPLICATE if repeat_edge else cv2.BORDER_CONSTANT
    if reduction > 1:  # pixel i of the means of r pixels each has its centre at r i + (r - 1) / 2
        whole, affine = affine, affine * (reduction, reduction, 1)
        affine[:, 2] += (whole[:, 0] + whole[:, 1]) * ((reduction - 1) / 2)
    return cv2.warpAffine(image, affine, (width, height), dst=out, borderMode=border)


def cut_image(dataset: Dataset, row: int, affine: Affine, **options: Any) -> Picture:
    """Cuts a crop out of a picture of a data set; options as of `cut`, errors name the file."""
    size = (int(dataset.images.width[row]), int(dataset.images.height[row]))
    try:
        return cut(dataset.source.read(row), affine, size=size, **options)
    except (ImageError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"{dataset.source.name(row)}: {text}") from None


def clear_outside(image: Picture, affine: Affine, *, size: tuple[int, int]) -> Picture:
    """Sets the crop pixels that lie outside the picture of `size` (width, height) to zero."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    last = np.array(size) - 1.0
    seen = apply_affine(invert_affine(affine), corners)
    if (seen >= 0).all() and (seen <= last).all():
        return image
    picture = np.array([[0, 0], [last[0], 0], last, [0, last[1]]])
    mask = np.zeros((height, width), np.uint8)
    polygon = np.rint(apply_affine(affine, picture)).astype(np.int32)
    cv2.fillConvexPoly(mask, polygon, 255)
    return cv2.bitwise_and(image, image, mask=mask)
