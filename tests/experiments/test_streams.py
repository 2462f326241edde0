"""Streams made here: motion JPEG over loopback, a pipe, a file that grows."""

import contextlib
import csv
import http.server
import json
import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from experiments import predict
from experiments.parts import streams
from experiments.parts.inputs import stream_of
from experiments.parts.videos import Video, VideoFile, browsers_play
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.types import People
from tests.networks import save_both, scene


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    detector, pose = save_both(tmp_path_factory.mktemp("runs"))
    return ["--detector", str(detector), "--pose", str(pose)]


@pytest.fixture
def slow(monkeypatch):
    """One person a frame, who takes a while to find; the frames that were looked at."""
    seen = []

    def call(self, images, *_):
        seen.extend(images)
        time.sleep(0.1)
        points, scores = np.full((1, 17, 2), 20.0), np.full((1, 17), 0.9)
        person = People(points, scores, np.array([0.8]), np.array([[5.0, 5.0, 60.0, 50.0]]))
        return [person] * len(images)

    monkeypatch.setattr(PosePipeline, "__call__", call)
    return seen


def frame(i):
    """Says in its mean colour which one it is."""
    return np.full((60, 81, 3), 8 * (i % 30), np.uint8)


class Camera(http.server.BaseHTTPRequestHandler):
    """Motion JPEG, 100 frames a second at best; the server says when they are `enough`."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        while not self.server.enough():
            i = len(self.server.sent)
            data = cv2.imencode(".jpg", frame(i))[1].tobytes()
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.server.sent.append(time.monotonic())
            try:
                self.wfile.write(head.encode() + data + b"\r\n")
            except OSError:  # whoever looked has gone
                return
            time.sleep(0.01)

    def log_message(self, *_):
        pass


@pytest.fixture
def camera():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.sent, server.enough, server.daemon_threads = [], lambda: False, True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.address = f"http://name:secret@127.0.0.1:{server.server_port}/live"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def found(out):
    return json.loads((out / "keypoints.json").read_text())


def written(path):
    with Video(path) as video:
        return [(video.time, image) for _, image in video.frames(1)]


def test_the_newest_frame_comes_first(networks, camera, tmp_path, slow, capsys):
    out, sent = tmp_path / "out", camera.sent
    camera.enough = lambda: len(slow) >= 6 and len(sent) >= 60
    assert predict.main([*networks, camera.address, "--out", str(out), "--csv", "--track"]) == 0
    people = found(out)
    numbers, times = ([person[name] for person in people] for name in ("frame", "time"))
    assert 6 <= len(slow) == len(people) < len(sent) / 2
    assert numbers == sorted(set(numbers))
    assert times == sorted(set(times))
    # When frames came, not how many a second a container without times is said to have.
    assert times[-1] - times[0] == pytest.approx(sent[numbers[-1]] - sent[numbers[0]], abs=0.3)
    assert all(abs(image.mean() - 8 * (i % 30)) <= 4 for image, i in zip(slow, numbers))
    assert {person["track_id"] for person in people} == {1}
    said = capsys.readouterr().out
    dropped = int(said.split(" frames, ")[1].split(" ")[0])
    assert 10 < dropped <= len(sent) - len(people)
    assert "secret" not in said + (out / "keypoints.json").read_text()
    rows = list(csv.DictReader((out / "people.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == numbers
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "keypoints.json",
        "people.csv",
        "127.0.0.1_live.mp4",
    }
    drawn = written(out / "127.0.0.1_live.mp4")
    assert drawn[-1][0] == pytest.approx(times[-1] - times[0], abs=0.2)


def test_an_interruption_leaves_whole_files(networks, camera, tmp_path, slow, monkeypatch, capsys):
    call = PosePipeline.__call__

    def interrupted(self, images, *boxes):
        if len(slow) == 3:
            signal.raise_signal(signal.SIGINT)
        return call(self, images, *boxes)

    monkeypatch.setattr(PosePipeline, "__call__", interrupted)
    assert predict.main([*networks, camera.address, "--out", str(tmp_path)]) == 0
    assert len(found(tmp_path)) == 4
    assert len(written(tmp_path / "127.0.0.1_live.mp4")) >= 4
    with pytest.raises(ValueError, match=r"keypoints\.json is there; --overwrite replaces it"):
        predict.main([*networks, camera.address, "--out", str(tmp_path)])

    def twice(self, images, *boxes):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PosePipeline, "__call__", twice)
    out = tmp_path / "twice"
    assert predict.main([*networks, camera.address, "--out", str(out)]) == predict.INTERRUPTED
    assert "nothing is written" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The bytes of two seconds at 10 frames a second, in a container that can be cut anywhere."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (81, 60))
    for i in range(20):
        file.write(frame(i))
    file.release()
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_pipes_and_growing_files(networks, clip, tmp_path, slow, monkeypatch, kind):
    """Each frame's time is the container's, however late it comes."""
    monkeypatch.setattr(streams, "SILENCE", 2)
    monkeypatch.setattr(streams, "_TIMEOUTS", [*streams._TIMEOUTS[:3], 2000])
    path, out = tmp_path / "live.mkv", tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(clip[: len(clip) // 4])

    def write():
        with open(path, "ab" if kind == "file" else "wb", buffering=0) as file:
            if kind == "file":
                time.sleep(1.0)
            for i in range(0 if kind == "pipe" else len(clip) // 4, len(clip), 2000):
                file.write(clip[i : i + 2000])
                time.sleep(0.05)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    live = ["--live"] if kind == "file" else []
    assert predict.main([*networks, str(path), "--out", str(out), *live, "--no-draw"]) == 0
    thread.join()
    people = found(out)
    assert people[-1]["frame"] >= 15
    for person in people:
        assert person["time"] == pytest.approx(person["frame"] / 10, abs=0.01)
        assert person["file_name"] == "live.mkv"


def test_what_is_a_stream(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "a.mkv").touch()
    for words, wanted in (
        (["0"], "0"),
        (["1"], None),  # a folder
        (["rtsp://camera/1"], "rtsp://camera/1"),
        (["HTTP://camera/1"], "HTTP://camera/1"),
        (["a.mkv"], None),
        (["-"], None),
    ):
        assert stream_of(words, live=False) == wanted
    assert stream_of(["a.mkv"], live=True) == "a.mkv"
    with pytest.raises(ValueError, match="0: a stream must be the only input, got 2"):
        stream_of(["a.jpg", "0"], live=False)
    with pytest.raises(ValueError, match=r"b\.mkv: no such file, which --live is for"):
        stream_of(["b.mkv"], live=True)
    assert streams.name_of("rtsp://me:secret@camera.local:554/a/b?key=1") == "camera.local_a_b"
    assert streams.name_of("0") == "camera_0"


def test_streams_that_cannot_be_opened_are_named(networks, tmp_path):
    for address, message in (
        ("97", "97: no such camera"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/: cannot be opened"),
    ):
        with pytest.raises(ValueError, match=message):
            predict.main([*networks, address, "--out", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="--boxes: 0 is a stream"):
        predict.main([*networks, "0", "--out", str(tmp_path), "--boxes", "b.json"])


@pytest.mark.parametrize("library", ["opencv", "pyav"])
def test_a_live_video_lasts_as_long_as_it_did(tmp_path, monkeypatch, library):
    """Frames after 0, .1, .5 and 1 s; of odd sides."""
    if library == "pyav":
        pytest.importorskip("av")
        assert browsers_play()
    else:
        monkeypatch.setattr("experiments.parts.videos._pyav", lambda: None)
    path = tmp_path / "a.mp4"
    with VideoFile(path, 20.0, live=True) as file:
        for i, moment in enumerate((3.0, 3.1, 3.5, 4.0)):
            file.write(scene(61, 81, i), moment)
    frames = written(path)
    assert frames[0][0] == pytest.approx(0, abs=0.01)
    assert frames[-1][0] == pytest.approx(1, abs=0.051)
    assert len(frames) == (4 if library == "pyav" else 21)
    if library == "pyav":
        assert b"avc1" in path.read_bytes()
        assert frames[2][0] == pytest.approx(0.5, abs=0.01)
    with contextlib.suppress(RuntimeError), VideoFile(tmp_path / "b.mp4", 20.0) as file:
        file.write(scene(60, 80), 0.0)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
