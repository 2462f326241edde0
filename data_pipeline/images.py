"""Encoded pictures: their header, decoding at a reduced size, and cutting a crop out of them.

Every program sees a picture as people do: upright by its EXIF orientation, on white where it is
transparent. Only where the size that annotations give is that of the stored pixels alone are these
cut as they are stored.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_pipeline.schema import Dataset
from g_rmi.geometry import Affine, apply_affine, invert_affine

Picture = UInt8[np.ndarray, "_ _ 3"]  # RGB of any size

MAX_PIXELS = 178_956_970  # What Pillow, too, refuses as a decompression bomb.
MAX_SIDE = 32_766  # OpenCV's limit for pictures it samples.

_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
DECODE_FLAGS = {
    1: _DECODE,
    2: _DECODE | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: _DECODE | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: _DECODE | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

# Endings of pictures. HEIC is no format that can be decoded here: found, so that it is reported and
# not passed over.
PICTURES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2"),
    *(".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)

_END_OF_IMAGE = b"\xff\xd9"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC = (b"heic", b"heix", b"mif1", b"msf1", b"hevc")
_PNG_ORIENTATION = (b"eXIf", b"type exif", b"tiff:Orientation")


class ImageError(ValueError):
    """A picture that cannot be decoded or is not what its annotations say."""


class Header(NamedTuple):
    """Size and format of an encoded picture, upright."""

    width: int
    height: int
    format: str
    orientation: int = 1  # EXIF's: 1 is upright, 5 to 8 exchange width and height
    whole: bool = True  # its end is there

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as people see it."""
        return self.width, self.height

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the pixels as they are stored."""
        return self.size if self.orientation < 5 else self.size[::-1]


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[tuple[Image.Image, Header]]:
    """A picture that is measured and not yet decoded; whatever goes wrong is an ImageError."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        raise ImageError("HEIC pictures cannot be decoded; convert it to JPEG")
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; size is checked here
            with Image.open(stream) as image:
                yield image, _measured(image, data, stream.tell())
    except Image.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS} pixels") from None
    except Image.UnidentifiedImageError:
        kind = "a pointer of Git LFS, not a picture" if data[:7] == b"version" else "not a picture"
        text = f"{kind}: {len(data)} bytes that start with {bytes(data[:8])!r}"
        raise ImageError(text) from None
    except ImageError:
        raise
    except Exception as error:  # damage shows up as any of a dozen types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageError(f"not decodable: {reason:.120}") from None


def _measured(image: Image.Image, data: bytes, at: int) -> Header:
    """The header of an opened picture, whose first pixel comes after `at` bytes."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{image.width} x {image.height} is more than {MAX_PIXELS} pixels")
    if max(image.size) > MAX_SIDE:
        sides = f"{image.width} x {image.height}"
        raise ImageError(f"{sides}: a side is too long to be sampled, more than {MAX_SIDE} pixels")
    form = {"MPO": "jpeg"}.get(image.format or "", (image.format or "").lower())
    if form == "eps":
        raise ImageError("a program in PostScript, which is not run; convert it to JPEG")
    # Pillow turns a TIFF by itself, and decodes a PNG to look for an orientation.
    blind = form == "tiff" or (form == "png" and not any(m in data for m in _PNG_ORIENTATION))
    blind |= form == "jpeg" and image.info.keys().isdisjoint(("exif", "xmp"))
    orientation = 1
    if not blind:
        with contextlib.suppress(Exception):  # of metadata that are damaged, the pixels are not
            orientation = image.getexif().get(_ORIENTATION, 1)
    orientation = orientation if orientation in _UPRIGHT else 1
    size = image.size if orientation < 5 else image.size[::-1]
    whole = form != "jpeg" or data.rfind(_END_OF_IMAGE, at) >= 0
    return Header(*size, form, orientation, whole)


def read_header(data: bytes) -> Header:
    """Reads the size of a picture without decoding it.

    An ImageError if it is none, is a JPEG that is cut off, has more than `MAX_PIXELS`, or more than
    `MAX_SIDE` along a side.
    """
    with _opened(data) as (_, header):
        return _checked(header)


def _checked(header: Header, size: tuple[int, int] | None = None) -> Header:
    """The header of a picture that is whole and of that size, upright or as it is stored."""
    if not header.whole:
        raise ImageError("JPEG file is cut off")
    if size is not None and size not in (header.size, header.stored):
        raise ImageError(
            f"is {header.width} x {header.height}, its annotations say {size[0]} x {size[1]}"
        )
    return header


def check_size(data: bytes, size: tuple[int, int]) -> None:
    """Raises an ImageError unless a picture can be read and has the size that annotations give."""
    with _opened(data) as (_, header):
        _checked(header, size)


def decode(data: bytes, *, reduction: int = 1, stored: bool = False) -> Picture:
    """Decodes a picture, of any format that Pillow reads, as people see it.

    The orientation in its EXIF data is applied, unless the `stored` pixels are asked for;
    transparent parts lie on white; grey, palette, CMYK and 16 bits become 8-bit RGB; of an
    animation the first picture is taken. With a reduction r of 2, 4 or 8, pixel i of the result is
    the mean of the pixels r i ... r (i + 1) - 1; JPEG does it inside the decoder, at less cost. An
    ImageError if the content is broken, or as of `read_header`.
    """
    with _opened(data) as (image, header):
        return _pixels(image, header, data, reduction, stored=stored)


def _pixels(
    image: Image.Image, header: Header, data: bytes, reduction: int, *, stored: bool
) -> Picture:
    as_stored = stored or header.orientation == 1
    if header.format == "jpeg" and header.whole and as_stored and image.mode in ("L", "RGB"):
        found = cv2.imdecode(np.frombuffer(data, np.uint8), DECODE_FLAGS[reduction])
        if found is None:
            raise ImageError("JPEG file is not decodable")
        return found
    if not as_stored:
        image = image.transpose(_UPRIGHT[header.orientation])
    return shrink(_to_rgb(image), reduction)


def _to_rgb(image: Image.Image) -> Picture:
    if image.mode == "F":
        raise ImageError("pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError("pixels are 32-bit numbers of unknown range")
        return np.repeat((grey // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        image = paper
    return np.asarray(image.convert("RGB"))


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
    given, the picture must have that width and height, upright or as it is stored. The crop is
    written to `out` where there is one: fresh memory costs a tenth of the time for large crops. An
    ImageError if the picture is not decodable, or of another size.
    """
    reduction = reduction_of(affine)
    with _opened(data) as (opened, header):
        stored = _checked(header, size).size != (size or header.size)
        image = _pixels(opened, header, data, reduction, stored=stored)
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
