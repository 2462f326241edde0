"""Photographs, videos and rubbish in; people, drawings and one line about each rubbish out."""

import csv
import io
import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline.images import ImageError, decode
from experiments import main as console
from experiments import predict
from experiments.parts.inputs import find
from experiments.parts.journal import Journal, remove_journals
from experiments.parts.run import Job, people_of
from experiments.parts.videos import Video
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.skeleton import COCO
from g_rmi.types import People
from tests.networks import save_both, scene
from tests.oracles.tracking import STANDING


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The arguments that name both networks; untrained, so that every box will do."""
    detector, pose = save_both(tmp_path_factory.mktemp("runs"))
    common = [
        "--max-people",
        "3",
        "--chunk",
        "3",
        "--batch-size",
        "2",
        "--min-box-score",
        "0",
        "--min-score",
        "0",
    ]
    return ["--detector", str(detector), "--pose", str(pose), *common]


def encode(array, form="PNG", **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def write_video(path, frames=5, size=(80, 60)):
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, size)
    for i in range(frames):
        file.write(np.roll(scene(size[1], size[0]), 4 * i, axis=1))
    file.release()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three good pictures, upright all of one shape, two broken ones, and what is no picture."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "below").mkdir()
    good = encode(scene(), "JPEG", quality=95)
    (folder / "a.jpg").write_bytes(good)
    alpha = np.dstack([scene(), np.where(scene()[..., 0] > 100, 255, 0).astype(np.uint8)])
    (folder / "below" / "alpha.png").write_bytes(encode(alpha))
    (folder / "turned.jpg").write_bytes(encode(scene(80, 60), "JPEG", exif=exif(6)))
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("nothing to look at")
    return folder


@pytest.fixture
def looked_at(monkeypatch):
    """Pictures that went through the networks, blank ones that fill a batch aside."""
    pictures = []
    call = PosePipeline.__call__

    def counted(self, images, *boxes):
        pictures.extend(image for image in images if image.any())
        return call(self, images, *boxes)

    monkeypatch.setattr(PosePipeline, "__call__", counted)
    return pictures


def people_in(out):
    return json.loads((out / "keypoints.json").read_text())


def test_a_folder_with_broken_files(networks, folder, tmp_path, capfd, looked_at):
    assert predict.main([*networks, str(folder), "--out", str(tmp_path)]) == 1
    told = capfd.readouterr()
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert str(folder / "cut.jpg") in errors[0]
    assert "truncated" in errors[0]
    assert str(folder / "text.jpg") in errors[1]
    assert told.err.count("preparing for") == 1  # for all sizes together
    assert "3 of 5 inputs" in told.out
    found = people_in(tmp_path)
    ids = {person["file_name"]: person["image_id"] for person in found}
    assert ids == {"a.jpg": 1, "below/alpha.png": 2, "turned.jpg": 5}
    for person in found:
        x, y, w, h = person["bbox"]
        assert min(x, y) >= 0
        assert x + w <= 80
        assert y + h <= 60
        assert len(person["keypoints"]) == 51
        assert person["category_id"] == 1
    for name in ids:
        drawn = cv2.imread(str((tmp_path / name).with_suffix(".jpg")))
        assert drawn.shape == (60, 80, 3)
    assert not list(tmp_path.rglob("*.part"))

    # Again: nothing is left to do but for the broken ones; a lost drawing is drawn again.
    before, lost = (tmp_path / "keypoints.json").read_bytes(), tmp_path / "a.jpg"
    pixels = lost.read_bytes()
    lost.unlink()
    looked_at.clear()
    assert predict.main([*networks, str(folder), "--out", str(tmp_path)]) == 1
    assert looked_at == []
    assert (tmp_path / "keypoints.json").read_bytes() == before
    assert lost.read_bytes() == pixels


def test_results_are_the_pipelines(networks, folder, tmp_path):
    arguments = [str(folder / "below" / "alpha.png"), "--out", str(tmp_path), "--no-draw"]
    assert predict.main([*networks, *arguments]) == 0
    on_white = np.where(scene()[..., :1] > 100, scene(), 255).astype(np.uint8)
    settings = Settings(max_people=3, min_box_score=0.0, min_score=0.0, crops_at_once=3)
    pipeline = PosePipeline.load(networks[1], networks[3], settings=settings)
    people, _ = pipeline([on_white, np.zeros_like(on_white)])
    found = people_in(tmp_path)
    assert len(found) == len(people.scores) > 0
    for person, joints, score in zip(found, people.keypoints, people.scores):
        found_joints = np.reshape(person["keypoints"], (17, 3))
        np.testing.assert_allclose(found_joints[:, :2], joints, atol=0.01)
        assert person["score"] == pytest.approx(score, rel=1e-3)
    assert not list(tmp_path.glob("*.jpg"))


def test_an_interrupted_run_goes_on(networks, tmp_path, monkeypatch, looked_at, capsys):
    photographs, out = tmp_path / "in", tmp_path / "out"
    photographs.mkdir()
    for i in range(5):
        (photographs / f"{i + 10}.png").write_bytes(encode(scene(seed=i)))
    arguments = [*networks, str(photographs), "--out", str(out)]
    call = PosePipeline.__call__

    def interrupted(self, images, *boxes):
        if len(looked_at) == 4:
            raise KeyboardInterrupt
        return call(self, images, *boxes)

    with monkeypatch.context() as patch:
        patch.setattr(PosePipeline, "__call__", interrupted)
        assert predict.main(arguments) == predict.INTERRUPTED
    assert not (out / "keypoints.json").exists()
    journal = out / "journal.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 1 + 4
    # As if killed while the fourth line was written.
    journal.write_text("\n".join(lines[:4]) + "\n" + lines[4][:30])
    looked_at.clear()
    assert predict.main(arguments) == 0
    assert len(looked_at) == 2
    interrupted_once = people_in(out)
    assert predict.main([*arguments, "--overwrite"]) == 0
    # Equal up to rounding: the pictures met others in their batches.
    for a, b in zip(people_in(out), interrupted_once, strict=True):
        assert a["file_name"] == b["file_name"]
        assert a["bbox"] == pytest.approx(b["bbox"], abs=0.011)
        assert a["score"] == pytest.approx(b["score"], rel=1e-3)
    assert {person["image_id"] for person in interrupted_once} == set(range(10, 15))
    # A picture that changed is looked at again, and other options are refused.
    (photographs / "12.png").write_bytes(encode(scene(seed=9)))
    looked_at.clear()
    assert predict.main(arguments) == 0
    assert len(looked_at) == 1
    with pytest.raises(ValueError, match=r"min_score was 0\.0, is 0\.5 \(--overwrite"):
        predict.main([*arguments, "--min-score", "0.5"])


def test_a_video_goes_on_too(networks, tmp_path, monkeypatch, looked_at):
    video, out = write_video(tmp_path / "v.mp4"), tmp_path / "out"
    arguments = [*networks, str(video), "--out", str(out)]
    call = PosePipeline.__call__

    def interrupted(self, images, *boxes):
        if len(looked_at) == 2:
            raise KeyboardInterrupt
        return call(self, images, *boxes)

    with monkeypatch.context() as patch:
        patch.setattr(PosePipeline, "__call__", interrupted)
        assert predict.main(arguments) == predict.INTERRUPTED
    assert sorted(path.name for path in out.iterdir()) == [".lock", "journal.jsonl"]
    looked_at.clear()
    assert predict.main(arguments) == 0
    assert len(looked_at) == 3
    found = people_in(out)
    assert {(p["image_id"], p["frame"]) for p in found} == {(i + 1, i) for i in range(5)}
    with Video(out / "v.mp4") as drawn:
        assert len(list(drawn.frames(1))) == 5
        assert drawn.fps == 10
    # Nothing is left to do; a lost drawing needs no network either.
    (out / "v.mp4").unlink()
    looked_at.clear()
    assert predict.main(arguments) == 0
    assert (out / "v.mp4").exists()
    assert predict.main(arguments) == 0
    assert looked_at == []
    assert people_in(out) == found
    every = [*networks, str(video), "--out", str(tmp_path / "every"), "--every", "2", "--csv"]
    assert predict.main(every) == 0
    assert {(p["frame"], p["time"]) for p in people_in(tmp_path / "every")} == {
        (0, 0.0),
        (2, 0.2),
        (4, 0.4),
    }
    assert_same_table(tmp_path / "every")


def assert_same_table(out):
    """`people.csv` has the digits of `keypoints.json`, character by character."""
    text = (out / "keypoints.json").read_text()
    people = json.loads(text, parse_float=str, parse_int=str)
    with open(out / "people.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(people) > 0
    for row, person in zip(rows, people):
        for name in ("file_name", "frame", "time", "track_id", "score"):
            assert row[name] == person.get(name, "")
        box = [row[f"bbox_{name}"] for name in ("x", "y", "width", "height")]
        assert box == person["bbox"]
        for k, joint in enumerate(COCO.names):
            x, y, score = person["keypoints"][3 * k : 3 * k + 3]
            assert row[f"{joint}_score"] == score
            assert (row[f"{joint}_x"], row[f"{joint}_y"]) in ((x, y), ("", ""))


@pytest.fixture
def walkers(monkeypatch):
    """In place of the networks: two who pass each other, the further the brighter the frame.

    The list that is given has the number of each frame that was looked at.
    """
    frames = []

    def call(self, images, *boxes):
        found = []
        for image in images:
            i = round(image.mean() / 8) - 1
            frames.extend([i] if i >= 0 else [])
            poses = [
                STANDING * 40 + (x, 55) for x in ((20 + 3 * i, 60 - 3 * i)[:: 1 - 2 * (i % 2)])
            ]
            box = [[*pose.min(0), *pose.max(0)] for pose in poses]
            scores = np.array([0.75, 0.5], np.float32)
            joints = np.repeat(scores[:, None], 17, 1)
            found.append(People(np.float32(poses), joints, scores, np.float32(box)))
        return found

    monkeypatch.setattr(PosePipeline, "__call__", call)
    return frames


def grey(i):
    """A frame that says its number."""
    return np.full((60, 80, 3), 8 * (i + 1), np.uint8)


def ids_in(out):
    """By picture or frame, the ids from left to right on the first one's day."""
    found = {}
    for person in people_in(out):
        key = person.get("frame", person["file_name"])
        found.setdefault(key, []).append(person["track_id"])
    return list(found.values())


@pytest.mark.parametrize("smooth", [False, True])
def test_people_of_a_video_are_followed_also_after_an_interruption(
    networks, tmp_path, monkeypatch, walkers, capsys, smooth
):
    file = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for i in range(9):
        file.write(grey(i))
    file.release()
    arguments = [*networks, str(tmp_path / "v.avi"), "--smooth" if smooth else "--track"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert predict.main([*arguments, "--out", str(whole)]) == 0
    assert "18 detections in 9 frames, 2 tracks" in capsys.readouterr().out
    assert ids_in(whole) == [[1, 2], [2, 1]] * 4 + [[1, 2]]
    lines = (whole / "journal.jsonl").read_text().splitlines()
    times = [json.loads(line).get("time") for line in lines[1:-1]]
    assert times == pytest.approx([i / 10 for i in range(9)])

    call = PosePipeline.__call__

    def interrupted(self, images, *boxes):
        if len(walkers) == 9 + 4:
            raise KeyboardInterrupt
        return call(self, images, *boxes)

    with monkeypatch.context() as patch:
        patch.setattr(PosePipeline, "__call__", interrupted)
        assert predict.main([*arguments, "--out", str(out)]) == predict.INTERRUPTED
    for _ in range(2):  # going on, and with nothing left to do
        assert predict.main([*arguments, "--out", str(out)]) == 0
        assert people_in(out) == people_in(whole)
    assert walkers == [*range(9), *range(4), *range(4, 9)]
    assert (out / "v.mp4").read_bytes() == (whole / "v.mp4").read_bytes()
    with pytest.raises(ValueError, match="track was True, is None"):
        predict.main([*arguments[:-1], "--out", str(out)])


def test_the_pictures_of_a_folder_are_followed_in_the_order_of_their_numbers(
    networks, tmp_path, walkers, capsys
):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(9, 12):  # 10 comes after 9
            (folder / name / f"{i}.png").write_bytes(encode(grey(i)))
    arguments = [*networks, str(folder), "--out", str(out), "--track"]
    assert predict.main(arguments) == 0
    by_name = dict(zip(["a/10", "a/11", "a/9", "b/10", "b/11", "b/9"], ids_in(out), strict=True))
    for name in ("a", "b"):
        assert [by_name[f"{name}/{i}"] for i in (9, 10, 11)] == [[1, 2], [2, 1], [1, 2]]
    before, drawn = people_in(out), {path: path.read_bytes() for path in out.rglob("*.jpg")}
    assert len(drawn) == 6
    # What comes later is drawn again when one before it has changed.
    (out / "keypoints.json").unlink()  # as after an interruption, with nothing drawn
    for path in drawn:
        path.unlink()
    assert predict.main(arguments) == 0
    assert people_in(out) == before
    assert {path: path.read_bytes() for path in out.rglob("*.jpg")} == drawn
    other = grey(10)
    other[:8, :8] += 20
    (folder / "a" / "10.png").write_bytes(encode(other))
    assert predict.main(arguments) == 0
    assert len(walkers) == 7
    assert [p for p in people_in(out) if p["file_name"][0] == "b"] == before[6:]
    for path, pixels in drawn.items():
        assert (path.read_bytes() == pixels) == (path != out / "a" / "10.jpg")
    for given, message in (
        (["-", "--track"], "-: on one picture nobody can be followed"),
        ([str(folder), "--frame-rate", "0"], "--frame-rate 0.0: must be more than 0"),
    ):
        with pytest.raises(SystemExit):
            predict.main([*networks, *given, "--out", str(tmp_path / "refused")])
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_standard_input_and_broken_videos(networks, tmp_path, monkeypatch, capsys):
    class Stdin:
        buffer = io.BytesIO(encode(scene()))

    monkeypatch.setattr("sys.stdin", Stdin)
    whole = write_video(tmp_path / "v.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    inputs = ["-", str(tmp_path / "cut.mp4")]
    assert predict.main([*networks, *inputs, "--out", str(tmp_path / "out")]) == 1
    assert {p["file_name"] for p in people_in(tmp_path / "out")} == {"stdin"}
    assert (tmp_path / "out" / "stdin.jpg").exists()
    assert "cut.mp4: not a video" in " ".join(capsys.readouterr().err.split())


def test_a_video_of_huge_frames_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.parts.videos.MAX_PIXELS", 100)
    with pytest.raises(ImageError, match=r"frames of \d+ x \d+ are more than 100 pixels"):
        Video(write_video(tmp_path / "v.mp4"))


def test_boxes_from_a_file_need_no_detector(networks, folder, tmp_path):
    boxes = {"a": [[5, 5, 40, 50], [30, 10, 70, 55]], "turned.jpg": []}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    inputs = [str(folder / "a.jpg"), str(folder / "turned.jpg")]
    given = ["--boxes", str(tmp_path / "boxes.json"), "--oks-threshold", "1"]
    arguments = [*networks[2:], *inputs, *given, "--out", str(tmp_path / "out")]
    assert predict.main(arguments) == 0
    found = people_in(tmp_path / "out")
    assert {p["file_name"] for p in found} == {"a.jpg"}
    assert sorted(p["bbox"] for p in found) == [[5, 5, 35, 45], [30, 10, 40, 45]]
    with pytest.raises(ValueError, match=r"detector .*: of no use where boxes are given"):
        predict.main([*networks, *arguments[len(networks) - 2 :], "--overwrite"])
    assert PosePipeline.load(pose=networks[3], boxes_given=True).detector is None


def test_a_box_that_is_noticed_late_costs_its_picture(
    networks, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("data_pipeline.boxes._SEEN", 1)
    boxes = {"a.jpg": [[5, 5, 40, 50]], "turned.jpg": [[500, 5, 540, 50]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    given = [*networks[2:], "--boxes", str(tmp_path / "boxes.json"), "--out", str(tmp_path / "out")]
    pictures = [str(folder / name) for name in boxes]
    assert predict.main([*given, *pictures]) == 1
    assert "turned.jpg: boxes must be" in " ".join(capsys.readouterr().err.split())
    assert {person["file_name"] for person in people_in(tmp_path / "out")} == {"a.jpg"}


def test_scores_of_a_file_of_boxes_rank_people(networks, folder, tmp_path, capsys):
    boxes = {0.5: [5, 5, 35, 45], 0.75: [30, 10, 40, 45], 0.25: [0, 0, 20, 20]}
    found = [
        {"image_id": "a", "category_id": 1, "bbox": box, "score": score}
        for score, box in boxes.items()
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(found))
    given = ["--boxes", str(tmp_path / "boxes.json"), "--ranking", "box", "--oks-nms", "1"]
    arguments = [*networks[2:-4], str(folder / "a.jpg"), *given, "--min-box-score", "0.3"]
    assert predict.main([*arguments, "--no-draw", "--out", str(tmp_path / "out")]) == 0
    assert "boxes.json: 1 boxes are not looked into" in capsys.readouterr().out
    people = people_in(tmp_path / "out")  # that of .25 is below the least box score
    assert {p["score"]: p["bbox"] for p in people} == {s: boxes[s] for s in (0.75, 0.5)}


def brightest(images, boxes=None, scores=None):
    """A pipeline by hand: the joint is the brightest pixel, the box its surroundings."""
    found = []
    for i, image in enumerate(images):
        y, x = np.unravel_index(image[..., 0].argmax(), image.shape[:2])
        box = [[x, y, x + 1, y + 1]] if boxes is None else boxes[i]
        point = np.full((len(box), 17, 2), (x, y), np.float32)
        ones = np.ones((len(box), 17), np.float32)
        found.append(People(point, ones, ones[:, 0], np.array(box, np.float32).reshape(-1, 4)))
    brightest.batches.append(len(images))
    return found


def run(jobs, **options):
    brightest.batches = []
    options = {"batch_size": 2, "max_side": 1000, "before": lambda image: None} | options
    return [(job.key, people) for job, people in people_of(brightest, jobs, **options)]


def test_batches_are_of_one_size_and_alike():
    shapes = {"a": (60, 80), "b": (80, 60), "c": (61, 79), "d": (20, 30), "e": (600, 700)}
    told = []
    found = run(
        [Job(k, np.zeros((*s, 3), np.uint8)) for k, s in shapes.items()], before=told.append
    )
    assert [key for key, _ in found] == ["a", "c", "b", "d", "e"]
    assert brightest.batches == [2, 2, 2, 2]
    assert [image.shape[:2] for image in told] == [(60, 80), (80, 60), (20, 30), (600, 700)]


def test_large_pictures_are_shrunk_and_people_are_not():
    """2,500 pixels become 834: the bright block of 3 x 3 has its centre at (301, 601)."""
    image = np.zeros((1000, 2500, 3), np.uint8)
    image[600:603, 300:303] = 255
    ((_, people),) = run([Job("large", image)])
    np.testing.assert_allclose(people.keypoints[0, 0], (301, 601))
    np.testing.assert_allclose(people.boxes, [[300, 600, 303, 603]])
    ((_, people),) = run([Job("given", image, (np.array([[10, 20, 130, 140.0]]), np.ones(1)))])
    np.testing.assert_allclose(people.boxes, [[10, 20, 130, 140]], rtol=1e-6)


ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_applied(orientation):
    stored = scene(16, 24)
    for form in ("PNG", "JPEG"):
        upright = decode(encode(stored, form, exif=exif(orientation), quality=100))
        wanted = ORIENTATIONS[orientation](stored).astype(int)
        assert upright.shape == wanted.shape
        assert np.abs(upright - wanted).mean() < (1e-9 if form == "PNG" else 6)


def test_every_kind_of_pixel_becomes_rgb():
    rgb, grey = scene(8, 8), scene(8, 8)[..., 0]
    three = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(decode(encode(rgb)), rgb)
    np.testing.assert_array_equal(decode(encode(grey)), three)
    np.testing.assert_array_equal(decode(encode(grey.astype(np.uint16) * 257)), three)
    np.testing.assert_array_equal(decode(encode(grey > 100)), 255 * (three > 100))
    deep = cv2.imencode(".png", rgb[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode(deep), rgb)
    clear = np.dstack([rgb, np.zeros((8, 8), np.uint8)])
    np.testing.assert_array_equal(decode(encode(clear)), np.full((8, 8, 3), 255))
    cmyk = Image.merge("CMYK", [Image.new("L", (8, 8), value) for value in (0, 255, 255, 0)])
    red = decode(encode(cmyk, "JPEG", quality=100)).astype(int)
    assert np.abs(red - (255, 0, 0)).max() < 4
    palette = Image.fromarray(rgb).quantize(4)
    assert decode(encode(palette, transparency=0)).shape == (8, 8, 3)


def test_what_cannot_be_decoded_is_said():
    png, jpeg = encode(scene()), encode(scene(), "JPEG")
    size = b"IHDR" + 2 * (2**14).to_bytes(4, "big") + png[24:29]
    bomb = png[:12] + size + zlib.crc32(size).to_bytes(4, "big") + png[33:]
    for data, message in [
        (b"", "0 bytes"),
        (b"no picture", "not a picture"),
        (png[: len(png) // 2], "not decodable"),
        (jpeg[: len(jpeg) // 2], "truncated"),
        (bomb, "more than 178956970 pixels"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "convert it to JPEG"),
        (encode(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
        (encode(Image.new("L", (40000, 1))), "40000 x 1: a side is too long"),
    ]:
        with pytest.raises(ImageError, match=message):
            decode(data)


def test_inputs_are_found_by_folder_pattern_and_name(folder, tmp_path, monkeypatch):
    names = [source.name for source in find([str(folder)], leave_out=tmp_path)]
    assert names == ["a.jpg", "below/alpha.png", "cut.jpg", "text.jpg", "turned.jpg"]
    assert find([str(folder)], leave_out=folder / "below")[1].name == "cut.jpg"
    monkeypatch.chdir(folder)
    assert [s.name for s in find(["t*.jpg", "turned.jpg", "-"], leave_out=tmp_path)] == [
        "text.jpg",
        "turned.jpg",
        "stdin",
    ]
    (tmp_path / "a.jpg").write_bytes(b"")
    twice = find(["a.jpg", str(tmp_path / "a.jpg")], leave_out=tmp_path / "out")
    assert len({source.name for source in twice}) == 2
    assert all(source.name.endswith("/a.jpg") for source in twice)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no input: give pictures"),
        (["nowhere.jpg"], r"nowhere\.jpg: no such file or folder"),
        (["*.nothing"], r"\*\.nothing: no file matches"),
        (["emp*"], r"emp\*: no picture in it, of"),
        ([""], "an empty word: no such file or folder"),
        (["empty"], r"empty: no picture in it, of \.avif .*; its 1 videos must be named"),
        (["out"], "must not go into the folder"),
    ],
)
def test_no_input_is_named(inputs, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        predict.main(["--pose", "p", "--detector", "d", *inputs, "--out", "out"])


def test_an_input_is_never_drawn_over(folder, tmp_path):
    sources = find([str(folder / "a.jpg")], leave_out=tmp_path)
    with pytest.raises(ValueError, match="would be drawn over"):
        predict.drawings(sources, folder)
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.jpg").write_bytes(b"")
    files = predict.drawings(find([str(tmp_path)], leave_out=folder), folder)
    assert files == {"a.jpg": folder / "a.jpg.jpg", "a.png": folder / "a.png.jpg"}


def test_linked_folders_are_searched_once(tmp_path):
    for name in ("in/a/x.jpg", "elsewhere/y.jpg", "in/b/z.jpg", "out/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    links = {"a/up": ".", "a/b": "in/b", "linked": "elsewhere", "twice": "elsewhere", "o": "out"}
    for name, target in links.items():
        there = tmp_path / ("in" if target == "." else target)
        (tmp_path / "in" / name).symlink_to(there, target_is_directory=True)
    found = find([str(tmp_path / "in")], leave_out=tmp_path / "out")
    assert [source.name for source in found] == ["a/x.jpg", "b/z.jpg", "linked/y.jpg"]


def test_a_pattern_passes_over_what_is_no_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "out", "in"):
        (tmp_path / name).mkdir()
    for name in ("out/drawn.jpg", "in/b.jpg", "a.jpg"):
        (tmp_path / name).touch()
    for link, target in (("gone.jpg", "nowhere.jpg"), ("loop.jpg", "loop.jpg")):
        (tmp_path / link).symlink_to(target)
    found = find(["*"], leave_out=Path("out"))
    assert [source.name for source in found] == ["a.jpg", "gone.jpg", "b.jpg", "loop.jpg"]
    assert len(predict.drawings(found, Path("out"))) == 4


def test_results_of_other_inputs_are_not_overwritten(networks, tmp_path, capsys):
    for name in ("monday/x.png", "tuesday/x.png", "tuesday/" + "l" * 250 + ".png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(scene()))
    monday, tuesday, out = (str(tmp_path / name) for name in ("monday", "tuesday", "out"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.jpg").write_text("the user's own")
    with pytest.raises(ValueError, match=r"out: x\.jpg is there; --overwrite"):
        predict.main([*networks, monday, "--out", out])
    (tmp_path / "out" / "x.jpg").unlink()
    assert predict.main([*networks, monday, "--out", out]) == 0
    with pytest.raises(ValueError, match=r"out holds results of other inputs, .*monday/x\.png"):
        predict.main([*networks, tuesday, "--out", out])
    (tmp_path / "monday" / "y.png").write_bytes(encode(scene(seed=1)))  # more of the same
    assert predict.main([*networks, monday, "--out", out]) == 0
    capsys.readouterr()
    # All but the drawing whose name would be longer than there can be.
    (tmp_path / tuesday / ("l" * 250 + ".webp")).write_bytes(encode(scene()))
    assert predict.main([*networks, tuesday, "--out", out, "--overwrite"]) == 1
    assert "too long" in capsys.readouterr().err.lower().replace("\n", " ")
    assert "x.png" in {person["file_name"] for person in people_in(tmp_path / "out")}


def test_a_damaged_journal_is_named(tmp_path):
    path, record = tmp_path / "journal.jsonl", {"name": "x", "frame": None, "stamp": [3, 4]}
    with Journal(tmp_path, {"a": 1}) as journal:
        journal.add(record)
    with Journal(tmp_path, {"a": 1}) as journal:
        assert journal.find("x", None, [3, 4]) == record
        assert journal.find("x", None, [3, 5]) is None
    path.write_text('{"a": 1}\nno record\n')
    with pytest.raises(ValueError, match=r"journal\.jsonl is damaged"):
        Journal(tmp_path, {"a": 1})
    remove_journals(tmp_path)
    with Journal(tmp_path, {"a": 2}) as journal:
        assert journal.records == {}


def test_hosts_know_what_the_others_did(tmp_path):
    first, second = ({"name": name, "frame": None, "stamp": [1]} for name in "xy")
    with Journal(tmp_path, {"a": 1}) as one, Journal(tmp_path, {"a": 1}, host=1) as other:
        one.add(first)
        other.add(second)
        assert one.find("y", None, [1]) is None
        one.refresh()
        assert one.find("y", None, [1]) == second
    assert {path.name for path in tmp_path.iterdir()} == {"journal.jsonl", "journal-1.jsonl"}
    with Journal(tmp_path, {"a": 1}) as alone:
        assert alone.find("y", None, [1]) == second
    with pytest.raises(ValueError, match="a was 1, is 2"):
        Journal(tmp_path, {"a": 2}, host=2)


def test_the_console_command(capsys):
    assert console.main(["--help"]) == 0
    assert "predict" in capsys.readouterr().out
    assert console.main([]) == 2
    with pytest.raises(ValueError, match="did you mean 'predict'"):
        console.main(["predit"])
    with pytest.raises(SystemExit):
        console.main(["predict", "--help"])
    assert "--min-box-score" in capsys.readouterr().out
