import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline import images
from data_pipeline.images import (
    ImageError,
    clear_outside,
    cut,
    decode,
    read_header,
    reduction_of,
)
from g_rmi.geometry import apply_affine, box_to_crop


def encode(image, extension=".jpg", quality=95):
    """RGB to bytes."""
    image = image if image.ndim == 2 else image[..., ::-1]
    ok, data = cv2.imencode(extension, image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return data.tobytes()


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def blob(height, width, x, y, sigma):
    """A bright Gaussian spot whose centre of mass is (x, y)."""
    i, j = np.mgrid[:height, :width]
    spot = 255 * np.exp(-((j - x) ** 2 + (i - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.round(spot).astype(np.uint8)[..., None], 3, axis=2)


def centre_of_mass(image):
    weight = image[..., 0].astype(float)
    weight[weight < 20] = 0
    i, j = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weight * j).sum(), (weight * i).sum()]) / weight.sum()


def bilinear(image, affine, height, width):
    """Loop-written sampling with zeros outside, in float."""
    linear = np.linalg.inv(affine[:, :2])
    crop = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            x, y = linear @ (np.array([j, i]) - affine[:, 2])
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            for v, u in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
                if 0 <= v < image.shape[0] and 0 <= u < image.shape[1]:
                    crop[i, j] += (1 - abs(x - u)) * (1 - abs(y - v)) * image[v, u]
    return crop


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_the_header_of_a_grey_or_coloured_picture(extension):
    kind = {".jpg": "jpeg", ".png": "png"}[extension]
    assert read_header(encode(noise(37, 53), extension))[:3] == (53, 37, kind)
    assert read_header(encode(noise(37, 53)[..., 0], extension))[:3] == (53, 37, kind)


def test_pictures_come_as_rgb():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert decode(encode(red, ".png"))[5, 5].tolist() == [255, 0, 0]
    for reduction in (1, 2, 4, 8):
        r, g, b = decode(encode(red), reduction=reduction)[0, 0].astype(int)
        assert r > 240
        assert max(g, b) < 15


def test_grey_alpha_and_deep_pictures_become_three_channels():
    grey = noise(16, 16)[..., 0]
    for reduction in (1, 2):
        image = decode(encode(grey), reduction=reduction)
        assert image.shape == (16 // reduction, 16 // reduction, 3)
        assert (image[..., 0] == image[..., 2]).all()
    opacity = np.where(np.arange(256).reshape(16, 16) < 99, 0, 255).astype(np.uint8)
    ok, data = cv2.imencode(".png", np.dstack([noise(16, 16), opacity]))
    assert ok
    seen = np.where(opacity[..., None] > 0, noise(16, 16)[..., ::-1], 255)
    assert (decode(data.tobytes()) == seen).all()
    ok, data = cv2.imencode(".png", grey.astype(np.uint16) * 257)
    assert ok
    assert (decode(data.tobytes())[..., 1] == grey).all()


def test_a_cmyk_picture_becomes_rgb(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    path = tmp_path / "cmyk.jpg"
    pil.fromarray(noise(24, 24)).convert("CMYK").save(path, quality=95)
    image = decode(path.read_bytes())
    assert image.shape == (24, 24, 3)
    assert np.abs(image.astype(int) - noise(24, 24)).mean() < 8


def turned(data, orientation):
    """A JPEG whose EXIF says how to turn it: one entry, tag 0x0112, type short."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_damaged_metadata_do_not_cost_the_picture(form):
    stream, image = io.BytesIO(), noise(20, 30)
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(image).save(stream, form, exif=b"Exif\0\0damaged", **options)
    assert read_header(stream.getvalue()).size == (30, 20)
    if form != "JPEG":
        np.testing.assert_array_equal(decode(stream.getvalue()), image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduction", [1, 4])
def test_an_exif_orientation_is_applied_as_opencv_does(orientation, reduction):
    data = turned(encode(noise(20, 30)), orientation)
    wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    found = decode(data, reduction=reduction)
    assert read_header(data).size == wanted.shape[1::-1]
    assert np.abs(found.astype(int) - images.shrink(wanted, reduction)).mean() < 6
    assert (decode(data, stored=True) == decode(encode(noise(20, 30)))).all()


@pytest.mark.parametrize(
    ("orientation", "size", "stored"),
    [(6, (20, 30), False), (6, (30, 20), True), (3, (30, 20), False), (1, (30, 20), False)],
)
def test_annotations_mean_the_pixels_whose_size_they_give(orientation, size, stored):
    image = noise(20, 30)
    data = turned(encode(image, quality=100), orientation)
    affine = box_to_crop(np.array([0.0, 0, 11, 7]), height=8, width=12)
    crop = cut(data, affine, height=8, width=12, size=size)
    assert (crop == decode(data, stored=stored)[:8, :12]).all()
    with pytest.raises(ImageError, match="its annotations say 31 x 20"):
        cut(data, affine, height=8, width=12, size=(31, 20))


@pytest.mark.parametrize("form", ["webp", "gif", "bmp", "tiff", "avif"])
def test_other_formats_are_read(form):
    stream = io.BytesIO()
    Image.fromarray(noise(20, 30)).save(stream, form)
    assert read_header(stream.getvalue())[:3] == (30, 20, form)
    far = np.abs(decode(stream.getvalue()).astype(int) - noise(20, 30))
    assert far.mean() < 20


def png_of_size(width, height):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def test_bombs_are_refused_before_decoding():
    with pytest.raises(ImageError, match="more than 178956970 pixels"):
        decode(png_of_size(20_000, 20_000))
    data = bytearray(encode(noise(16, 16)))
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(ImageError, match="more than 178956970 pixels"):
        decode(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        encode(noise(64, 64))[:200],
        encode(noise(64, 64))[:-300],
        encode(noise(64, 64), ".png")[:60],
        png_of_size(8, 8),
        b"version https://git-lfs.github.com/spec/v1",
    ],
    ids=["empty", "text", "start", "header", "cut", "cut-late", "cut-png", "no-pixels", "lfs"],
)
def test_broken_files_are_refused(data, capfd):
    with pytest.raises(ImageError) as error:
        decode(data)
    assert "\n" not in str(error.value)


def test_a_cut_off_picture_is_not_taken_for_a_grey_one():
    data = encode(noise(64, 64))
    read_header(data + b"trailing bytes")
    with pytest.raises(ImageError, match="cut off"):
        read_header(data[:-2])


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_reduced_pixel_is_the_mean_of_its_block(reduction, extension):
    image = noise(48, 64)
    blocks = image.reshape(48 // reduction, reduction, 64 // reduction, reduction, 3)
    got = decode(encode(image, extension, quality=100), reduction=reduction)
    assert np.abs(got - blocks.mean(axis=(1, 3))).mean() < 2.5  # libjpeg works in the DCT domain


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_reduction_rounds_the_size_up(extension):
    data = encode(noise(21, 30), extension)
    assert decode(data, reduction=4).shape == (6, 8, 3)


def test_reduction_follows_the_scale():
    def reduction(step, angle=0.0):
        box = np.array([10.0, 20.0, 10 + step * 64, 20 + step * 96])
        return reduction_of(box_to_crop(box, height=97, width=65, angle=angle, flip=angle > 0))

    assert [reduction(s) for s in (0.5, 1.99, 2.01, 3.99, 4.01, 7.9, 8.1, 30)] == [
        1, 1, 2, 2, 4, 4, 8, 8,
    ]  # fmt: skip
    assert reduction(4.01, angle=0.7) == 4


@pytest.mark.parametrize(("angle", "flip"), [(0.0, False), (0.4, False), (-1.0, True)])
def test_cutting_is_bilinear_with_zeros_outside(angle, flip):
    image = noise(40, 50)
    box = np.array([-10.3, 4.2, 31.5, 47.9])
    affine = box_to_crop(box, height=33, width=25, angle=angle, flip=flip)
    crop = cut(encode(image, ".png"), affine, height=33, width=25)
    want = bilinear(image, affine, 33, 25)
    # cv2 rounds sampling positions to 1/32 pixel.
    assert np.abs(crop - want).max() < 24
    assert np.abs(crop - want).mean() < 1.5


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("step", [0.7, 1.6, 2.7, 5.5, 11.0])
@pytest.mark.parametrize(("angle", "flip"), [(0.0, False), (0.5, True)])
def test_a_spot_lands_where_the_map_says(extension, step, angle, flip):
    height, width = 97, 65
    x, y = 371.3, 402.6
    data = encode(blob(803, 701, x, y, sigma=2.5 * step), extension)
    box = np.array([x - 20.4 * step, y - 40.7 * step, x + 43.6 * step, y + 55.3 * step])
    affine = box_to_crop(box, height=height, width=width, angle=angle, flip=flip)
    assert reduction_of(affine) == {0.7: 1, 1.6: 1, 2.7: 2, 5.5: 4, 11.0: 8}[step]
    crop = cut(data, affine, height=height, width=width)
    away = centre_of_mass(crop) - apply_affine(affine, np.array([x, y]))
    assert np.abs(away).max() < 0.06


def test_a_picture_of_another_size_is_refused():
    data = encode(noise(20, 30))
    affine = box_to_crop(np.array([0.0, 0, 29, 19]), height=9, width=9)
    cut(data, affine, height=9, width=9, size=(30, 20))
    with pytest.raises(ImageError, match="is 30 x 20, its annotations say 20 x 30"):
        cut(data, affine, height=9, width=9, size=(20, 30))


def test_clearing_touches_only_what_lies_outside():
    affine = box_to_crop(np.array([-10.0, -5, 40, 70]), height=61, width=41, angle=0.3)
    crop = np.full((61, 41, 3), 9, np.uint8)
    cleared = clear_outside(crop, affine, size=(50, 50))
    inside = images.invert_affine(affine)
    for i in range(61):
        for j in range(41):
            x, y = apply_affine(inside, np.array([j, i], float))
            margin = min(x, y, 49 - x, 49 - y)
            if abs(margin) > 2:  # the outline is rounded to whole crop pixels
                assert (cleared[i, j] == 9).all() == (margin > 0)
    everything = box_to_crop(np.array([0.0, 0, 49, 49]), height=61, width=41)
    assert clear_outside(crop, everything, size=(50, 50)) is crop
