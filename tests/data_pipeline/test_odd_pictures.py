"""Pictures that are not what one expects: right canvases, or one line that names the file."""

import json
import struct

import cv2
import numpy as np
import pytest

from data_pipeline.config import DetectorAugmentation, DetectorDataConfig
from data_pipeline.loader import canvases, detection_batches
from data_pipeline.readers import read
from data_pipeline.schema import DataError

CANVAS = (32, 48)


def evaluated(dataset):
    return list(canvases(dataset, canvas=CANVAS, batch_size=1, threads=2))


def exif_turned(data):
    tiff = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def gradient(height, width):
    """Red grows to the right, green downwards; blue is full."""
    red, green = np.linspace(0, 255, width), np.linspace(0, 255, height)
    image = np.full((height, width, 3), 255.0)
    image[..., 0], image[..., 1] = red, green[:, None]
    return np.rint(image).astype(np.uint8)


def encoded(image, extension=".png"):
    ok, data = cv2.imencode(extension, image)
    assert ok
    return data.tobytes()


def bgr(height, width):
    return gradient(height, width)[..., ::-1]


RGBA = np.dstack([bgr(64, 96), np.full((64, 96), 255, np.uint8)])

# File, rows and columns, rows and columns on the canvas.
ODD = {
    "one pixel": (encoded(bgr(1, 1)), (1, 1), (32, 32)),
    "one row": (encoded(bgr(1, 60)), (1, 60), (1, 48)),
    "one column": (encoded(bgr(60, 1), ".jpg"), (60, 1), (48, 1)),
    "very wide": (encoded(bgr(50, 10_000), ".jpg"), (50, 10_000), (1, 48)),
    "very high": (encoded(bgr(10_000, 50)), (10_000, 50), (48, 1)),
    "small": (encoded(bgr(2, 3)), (2, 3), (32, 48)),
    "alpha": (encoded(RGBA), (64, 96), (32, 48)),
    "16 bit": (encoded(bgr(64, 96).astype(np.uint16) * 257), (64, 96), (32, 48)),
    "turned by EXIF": (exif_turned(encoded(bgr(64, 96), ".jpg")), (64, 96), (32, 48)),
}  # fmt: skip


def directory_of(tmp_path, data, height, width):
    """A set of one picture with one person in it, half of it wide and high."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/odd.png").write_bytes(data)
    box = [0, 0, width / 2, height / 2]
    content = {
        "images": [{"id": 1, "file_name": "odd.png", "width": width, "height": height}],
        "annotations": [{"id": 2, "image_id": 1, "bbox": box, "area": 1}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return read(tmp_path, "train")


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_make_right_canvases(tmp_path, name):
    data, (height, width), size = ODD[name]
    dataset = directory_of(tmp_path, data, height, width)
    (batch,) = evaluated(dataset)
    canvas = CANVAS if width >= height else CANVAS[::-1]
    assert batch["image"].shape == (1, *canvas, 3)
    assert batch["size"][0].tolist() == list(size)
    rows, columns = size
    image = batch["image"][0]
    assert not image[rows:].any()
    assert not image[:, columns:].any()
    assert (image[:rows, :columns, 2] > 200).all()
    for channel, side, count in ((0, width, columns), (1, height, rows)):
        line = image[0, :columns, 0] if channel == 0 else image[:rows, 0, 1]
        if count > 1:  # the whole range is seen where there is one
            assert line[0] < 12
            assert line[-1] > 240 or side == 1
    assert np.isfinite(batch["scale"]).all()
    augmentation = DetectorAugmentation(scale=(0.5, 2.0), colour_jitter=0.5, mosaic=0.3)
    config = DetectorDataConfig(augmentation=augmentation, threads=1)
    iterator = detection_batches([dataset], canvas=CANVAS, config=config, batch_size=3, seed=0)
    for _ in range(4):
        _, arrays = next(iterator)
        assert arrays.image.shape == (3, *canvas, 3)
        assert np.isfinite(arrays.boxes).all()


def test_a_grey_picture(tmp_path):
    dataset = directory_of(tmp_path, encoded(bgr(64, 96)[..., 1]), 64, 96)
    (batch,) = evaluated(dataset)
    image = batch["image"][0].astype(int)
    assert (image == image[..., :1]).all()
    assert np.ptp(image) > 200


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(bgr(64, 96), ".jpg")[:-300], "JPEG file is cut off"),
        (encoded(bgr(64, 96))[:200], "not decodable"),
        (encoded(bgr(64, 95)), "is 95 x 64, its annotations say 96 x 64"),
        (b"GIF89a" + bytes(100), "not a picture"),
        (b"", "not a picture: 0 bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 64\n", "a program in PostScript"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, data, words, capfd):
    dataset = directory_of(tmp_path, data, 64, 96)
    with pytest.raises(DataError, match=f"odd.png: {words}") as error:
        evaluated(dataset)
    assert "\n" not in str(error.value)


def test_a_side_too_long_to_be_sampled_is_refused_by_name(tmp_path):
    dataset = directory_of(tmp_path, encoded(bgr(1, 300_000)), 1, 300_000)
    with pytest.raises(DataError, match=r"odd.png: 300000 x 1: a side is too long"):
        evaluated(dataset)
