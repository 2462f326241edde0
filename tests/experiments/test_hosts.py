"""Evaluation and bulk prediction on two hosts of two devices each: as on one device."""

import json
import signal
import time

import cv2
import numpy as np
import pytest

from data_pipeline import synthetic
from tests.experiments import slurm
from tests.networks import DETECTOR, save_both, scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return save_both(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Nine pictures: one more than two hosts can share evenly."""
    directory = tmp_path_factory.mktemp("data") / "scenes"
    return synthetic.make(directory, train_images=1, val_images=9, size=(96, 128), workers=1)


def read(out, name):
    return json.loads((out / name).read_text())


def relabel(data, copy, change):
    """A copy of the data whose people were changed, for numbers that are neither 0 nor 1."""
    (copy / "annotations").mkdir(parents=True)
    for same in ("val2017", "train2017", "annotations/person_keypoints_train2017.json"):
        (copy / same).symlink_to(data / same)
    name = "annotations/person_keypoints_val2017.json"
    truth = read(data, name)
    truth["annotations"] = change(truth["annotations"])
    (copy / name).write_text(json.dumps(truth))
    return copy


def assert_same(one, two, names):
    """The same results in the same order, and the same numbers, up to rounding."""
    for name in names:
        ours, theirs = read(one, name), read(two, name)
        assert len(ours) == len(theirs) > 4
        for a, b in zip(ours, theirs, strict=True):
            assert a["image_id"] == b["image_id"]
            for key in ("bbox", "keypoints"):
                np.testing.assert_allclose(a.get(key, []), b.get(key, []), atol=0.011)
            assert a["score"] == pytest.approx(b["score"], rel=1e-3)
    assert read(one, "metrics.json") == pytest.approx(read(two, "metrics.json"), abs=1e-6)


def evaluate_both_ways(arguments, tmp_path, cache):
    common = [*arguments, "--pictures", "1"]
    module = "experiments.evaluate"
    slurm.run(module, [*common, "--out", tmp_path / "one"], cache=cache)
    both = [*common, "--out", tmp_path / "two"]
    (first, _), (second, _) = slurm.run(module, both, hosts=2, devices=2, cache=cache)
    assert "wrote metrics.json" in first
    assert "wrote" not in second
    return tmp_path / "one", tmp_path / "two"


def test_poses_on_two_hosts(networks, data, tmp_path, cache):
    _, pose = networks
    keep_all = ["--workdir", pose, "--data", data, "--oks-threshold", "1"]
    slurm.run("experiments.evaluate", [*keep_all, "--out", tmp_path / "all"], cache=cache)
    found = read(tmp_path / "all", "keypoints.json")

    def change(people):
        """Every second annotation is what the network sees."""
        labelled = [p for p in people if p["num_keypoints"] and not p["iscrowd"]]
        assert [p["image_id"] for p in labelled] == [f["image_id"] for f in found]
        for person, pose in list(zip(labelled, found))[::2]:
            joints = np.reshape(pose["keypoints"], (17, 3))
            joints[:, 2] = 2
            person |= {"keypoints": joints.ravel().tolist(), "num_keypoints": 17}
        return people

    data = relabel(data, tmp_path / "data", change)
    assert len(found) % 4
    arguments = ["--workdir", pose, "--data", data, "--batch-size", "3", "--table"]
    one, two = evaluate_both_ways(arguments, tmp_path, cache)
    assert 0.2 < read(one, "metrics.json")["AP"] < 0.9
    assert_same(one, two, ["keypoints.json", "boxes.json"])
    ours, theirs = read(one, "options.json"), read(two, "options.json")
    assert list(ours) == list(theirs)
    for name, numbers in ours.items():
        assert numbers == pytest.approx(theirs[name], abs=1e-6), name


def test_boxes_on_two_hosts(networks, data, tmp_path, cache):
    detector, _ = networks
    everything = ["--workdir", detector, "--data", data, "--out", tmp_path / "all"]
    slurm.run("experiments.evaluate", everything, cache=cache)
    found = read(tmp_path / "all", "boxes.json")

    def change(people):
        """The people are what the detector sees, but for every third box."""
        seen = [f for i, f in enumerate(found) if i % 3]
        return [
            people[0] | {"id": i, "image_id": f["image_id"], "bbox": f["bbox"]}
            for i, f in enumerate(seen, 1)
        ]

    data = relabel(data, tmp_path / "data", change)
    arguments = ["--workdir", detector, "--data", data, "--batch-size", "1"]
    one, two = evaluate_both_ways(arguments, tmp_path, cache)
    assert 0.2 < read(one, "metrics.json")["box_AP"] < 0.99
    assert_same(one, two, ["boxes.json"])
    # The training loop finds on two hosts what the program finds on one device.
    training = [
        *("--config", "detector_synthetic", "--init", detector, "--data", data, "--steps", "1"),
        *("--batch-size", "4", "--learning-rate", "1e-6", "--threads", "1"),
        *(word for name, value in vars(DETECTOR.model).items() for word in option(name, value)),
        *("--workdir", tmp_path / "run"),
    ]
    slurm.run("experiments.train", training, hosts=2, devices=2, cache=cache)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1:]
    evaluated = {k.removeprefix("eval/"): v for k, v in json.loads(line).items() if "eval/" in k}
    after = ["--workdir", tmp_path / "run", "--data", data]
    slurm.run("experiments.evaluate", after, cache=cache)
    assert evaluated["box_AR100"] > 0
    assert evaluated == pytest.approx(
        read(tmp_path / "run" / "evaluation", "metrics.json"), abs=1e-6
    )


def option(name, value):
    """A field of a config as words of a command line."""
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name.replace('_', '-')}", *map(str, values)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Nine pictures of one size."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(9):
        cv2.imwrite(str(folder / f"{i}.png"), scene(seed=i))
    return folder


@pytest.fixture(scope="module")
def predict(networks, photographs, cache, tmp_path_factory):
    """Arguments of a prediction, and what it finds if it is left alone."""
    detector, pose = networks
    options = [
        "--max-people",
        "3",
        "--chunk",
        "3",
        "--batch-size",
        "1",
        "--min-box-score",
        "0",
        "--min-score",
        "0",
    ]
    arguments = ["--detector", detector, "--pose", pose, *options, photographs]
    out = tmp_path_factory.mktemp("alone")
    slurm.run("experiments.predict", [*arguments, "--out", out], cache=cache)
    return arguments, (out / "keypoints.json").read_bytes()


def test_prediction_on_two_hosts(predict, photographs, tmp_path, cache):
    arguments, alone = predict
    out = ["--out", tmp_path]
    (first, _), (second, _) = slurm.run(
        "experiments.predict", [*arguments, *out], hosts=2, devices=2, cache=cache
    )
    assert "9 of 9 inputs done" in first
    assert "wrote" not in second
    assert (tmp_path / "keypoints.json").read_bytes() == alone
    parts = [len((tmp_path / f"journal{i}.jsonl").read_text().splitlines()) for i in ("", "-1")]
    assert parts == [1 + 5, 1 + 4]
    assert len(list(tmp_path.glob("*.jpg"))) == 9
    # One host goes on with what two have done; two say what is broken.
    journal = tmp_path / "journal-1.jsonl"
    journal.write_text("".join(line + "\n" for line in journal.read_text().splitlines()[:3]))
    slurm.run("experiments.predict", [*arguments, *out], cache=cache)
    assert (tmp_path / "keypoints.json").read_bytes() == alone
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 6 + 2
    broken = photographs / "8.png"
    picture = broken.read_bytes()
    try:
        broken.write_bytes(picture[:99])
        more = [photographs.parent / "x.png"]
        more[0].write_text("no picture")
        (first, _), (_, errors) = slurm.run(
            *("experiments.predict", [*arguments, *more, *out]),
            **{"hosts": 2, "devices": 1, "cache": cache, "code": 1},
        )
    finally:
        broken.write_bytes(picture)
    assert "8 of 10 inputs done" in first
    assert "x.png" in errors


def test_a_prediction_killed_anywhere_goes_on(predict, tmp_path, cache):
    """Killed before the first picture, after some, and while the journal is written."""
    arguments, alone = predict
    journal, out = tmp_path / "journal.jsonl", ["--out", tmp_path]
    for lines in (0, 1, 3, 6):
        (process,) = slurm.start(
            "experiments.predict", [*arguments, *out], hosts=0, devices=1, cache=cache
        )
        while process.poll() is None and (
            not journal.exists() or len(journal.read_bytes().splitlines()) < lines
        ):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "keypoints.json").exists()
    done = len(journal.read_text().splitlines())
    assert done >= 6
    with journal.open("rb+") as file:  # as if killed in the middle of a line
        file.truncate(journal.stat().st_size - 10)
    slurm.run("experiments.predict", [*arguments, *out], cache=cache)
    assert (tmp_path / "keypoints.json").read_bytes() == alone
    assert len(list(tmp_path.glob("*.jpg"))) == 9
    assert not list(tmp_path.glob(".*.part"))
