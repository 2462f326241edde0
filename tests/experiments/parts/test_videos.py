"""Videos that are whole, cut, or of a codec that is not there."""

import struct

import cv2
import numpy as np
import pytest

from data_pipeline.images import ImageError
from experiments.parts.containers import is_broken, is_cut
from experiments.parts.videos import Video

WHOLE = {"mkv": "mp4v", "mp4": "mp4v", "avi": "MJPG"}


def encoded(tmp_path, ending, frames=20):
    """The bytes of a video of noise."""
    path = tmp_path / f"whole.{ending}"
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*WHOLE[ending]), 25, (96, 72))
    random = np.random.default_rng(0)
    for _ in range(frames):
        file.write(random.integers(0, 256, (72, 96, 3), np.uint8))
    file.release()
    return path.read_bytes()


def read(tmp_path, name, data):
    """Reads to the end; what is said there."""
    path = tmp_path / name
    path.write_bytes(data)
    with Video(path) as video:
        list(video.frames(1))
        return video.check_end()


@pytest.mark.parametrize("ending", WHOLE)
def test_a_file_knows_whether_it_is_cut(ending, tmp_path):
    data = encoded(tmp_path, ending)
    path = tmp_path / f"clip.{ending}"
    for length, cut in ((len(data), False), (len(data) // 2, True), (len(data) - 1, True)):
        path.write_bytes(data[:length])
        assert is_cut(path) is cut
    path.write_bytes(b"no container of any kind")
    assert not is_cut(path)
    path.write_bytes(b"")
    assert not is_cut(path)


@pytest.mark.parametrize("ending", WHOLE)
def test_all_of_a_whole_one_is_read(ending, tmp_path):
    assert read(tmp_path, f"clip.{ending}", encoded(tmp_path, ending)) is None


def test_an_estimate_of_twice_the_frames_is_only_noted(tmp_path):
    data = encoded(tmp_path, "mkv")
    at = data.index(b"\x44\x89\x88") + 3  # the duration, as a longer sound track makes it
    (length,) = struct.unpack(">d", data[at : at + 8])
    data = data[:at] + struct.pack(">d", 2 * length) + data[at + 8 :]
    assert "20 of 40 frames" in (read(tmp_path, "clip.mkv", data) or "")


def test_a_cut_one_is_refused(tmp_path):
    for ending in ("mkv", "avi"):
        data = encoded(tmp_path, ending)
        with pytest.raises(ImageError, match=r"only \d+ of \d+ frames can be read: .* cut off"):
            read(tmp_path, f"clip.{ending}", data[: len(data) // 2])


@pytest.mark.parametrize("fill", ["zeros", "noise"])
@pytest.mark.parametrize("ending", WHOLE)
def test_a_damaged_one_is_refused(ending, fill, tmp_path):
    data = bytearray(encoded(tmp_path, ending))
    part = slice(len(data) // 3, 2 * len(data) // 3)
    length = part.stop - part.start
    data[part] = bytes(length) if fill == "zeros" else np.random.default_rng(0).bytes(length)
    assert not is_broken(tmp_path / f"whole.{ending}")
    with pytest.raises(ImageError, match=r"only \d+ of 20 frames can be read: .* damaged"):
        read(tmp_path, f"clip.{ending}", data)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        (b"V_AV1", "AV01"),
        (b"V_MPEGI/ISO/VVC", "codec, vvc1|not a video"),  # newer builds know it
        (b"V_PRORES", "codec|not a video"),
    ],
)
def test_a_codec_that_is_not_there_is_named(name, codec, tmp_path, capfd):
    data = encoded(tmp_path, "mkv")
    at = data.index(b"V_MPEG4/ISO/ASP")
    data = data[:at] + name.ljust(15, b"\0") + data[at + 15 :]
    with pytest.raises(ImageError, match=codec):
        read(tmp_path, "clip.mkv", data)
