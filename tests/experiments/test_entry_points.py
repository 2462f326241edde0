"""Each program as a user runs it, on a tiny synthetic data directory."""

import functools
import json
import re
import sys

import cv2
import jax
import numpy as np
import pytest

from data_pipeline import readers, synthetic
from experiments import doctor, evaluate, export, label, predict, train
from experiments.benchmarks import pipeline as pipeline_benchmark
from experiments.parts import cli, measure
from g_rmi.evaluation.truth import BOX_METRICS, KEYPOINT_METRICS
from g_rmi.inference.load import load_task
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.training.checkpoint import load_variables
from g_rmi.training.weights import write_weights

PROGRAMS = {"evaluate": evaluate, "label": label, "predict": predict}
TINY = [
    *("--config", "pose_synthetic", "--width", "8", "--fpn-channels", "8"),
    *("--crop-height", "33", "--crop-width", "33", "--radius", "4"),
    *("--batch-size", "8", "--log-every", "1", "--checkpoint-every", "1", "--threads", "1"),
]
TINY_DETECTOR = [
    *("--config", "detector_synthetic", "--width", "8", "--rpn-channels", "8", "--canvas", "64"),
    *("80", "--proposals", "6", "--box-samples", "4", "--roi-size", "4", "--batch-size", "4"),
    *("--log-every", "1", "--checkpoint-every", "1", "--threads", "1"),
]


@pytest.fixture(scope="module", autouse=True)
def _users_promotion():
    """What users run under: optax's Adam mixes a Python float with its count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve training scenes, six to validate on."""
    directory = tmp_path_factory.mktemp("data") / "scenes"
    return synthetic.make(directory, train_images=12, val_images=6, size=(96, 128), workers=1)


@pytest.fixture(scope="module")
def only_train(data, tmp_path_factory):
    """The training scenes alone: there is nothing to evaluate."""
    directory = tmp_path_factory.mktemp("only_train")
    (directory / "annotations").mkdir()
    for name in ("annotations/person_keypoints_train2017.json", "train2017"):
        (directory / name).symlink_to(data / name)
    return directory


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    """A training of two steps."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train.main([*TINY, "--steps", "2", "--data", str(data), "--workdir", str(workdir)])
    return workdir


def test_train_leaves_checkpoints_config_and_metrics(workdir):
    assert json.loads((workdir / "config.json").read_text())["model"]["crop_height"] == 33
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {"train/loss", "eval/AP"} <= set().union(*lines)
    assert (workdir / "checkpoints" / "2").is_dir()


def test_the_same_command_continues(workdir, data, tmp_path, capsys):
    train.main([*TINY, "--steps", "3", "--data", str(data), "--workdir", str(workdir)])
    assert "step 2" in capsys.readouterr().out
    assert (workdir / "checkpoints" / "3").is_dir()


def test_another_training_starts_from_its_weights(workdir, only_train, tmp_path):
    arguments = ["--steps", "1", "--data", str(only_train), "--init", str(workdir)]
    train.main([*TINY, *arguments, "--workdir", str(tmp_path / "next")])
    with pytest.raises(ValueError, match=r"has shape .*, the model"):
        train.main([*TINY, *arguments, "--workdir", str(tmp_path / "narrower"), "--width", "4"])


def test_a_dry_run_says_all_and_leaves_nothing(data, tmp_path, capsys):
    arguments = ["--steps", "2", "--data", str(data), "--workdir", str(tmp_path / "run")]
    train.main([*TINY, *arguments, "--dry-run"])
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert '"crop_height": 33' in out
    people = readers.read(data, "train").people
    usable = int((~people.is_crowd & people.has_inside & (people.num_keypoints >= 1)).sum())
    assert f"train data: {data}: 12 images, {len(people)} people; {usable} to train on" in out
    assert f"a pass is {usable / 8:.0f} steps" in out
    assert f"val data: {data}: 6 images" in out
    assert re.search(r"devices: \d+ x cpu\n", out)
    assert re.search(r"parameters: \d+\.\d M\n", out)
    assert re.search(r"each step on each device: \d+\.\d GFLOPs, [\d.]+ [MG]iB of memory\n", out)
    assert out.endswith(f"2 steps; would begin {tmp_path / 'run'}\n")


def test_a_dry_run_refuses_what_the_training_would(data, tmp_path, monkeypatch):
    where = data / "annotations/person_keypoints_val2017.json"
    text = re.sub(r'"area": ?[\d.]+', '"area":0', where.read_text())
    other = tmp_path / "data/annotations"
    other.mkdir(parents=True)
    for name in ("train2017", "val2017", "annotations/person_keypoints_train2017.json"):
        (tmp_path / "data" / name).symlink_to(data / name)
    (other / where.name).write_text(text)
    arguments = ["--data", str(tmp_path / "data"), "--workdir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match=r"val: annotation .* has no area"):
        train.main([*TINY, *arguments, "--dry-run"])
    arguments = ["--data", str(data), "--workdir", str(tmp_path / "run"), "--init", str(other)]
    with pytest.raises(ValueError, match=r"annotations is not a workdir"):
        train.main([*TINY, *arguments, "--dry-run"])


def test_the_log_says_what_happens_and_what_is_next(only_train, data, tmp_path, capsys):
    run, arguments = tmp_path / "a run", [*TINY, "--profile", "2", "--steps", "5"]
    train.main([*arguments, "--data", str(data), "--workdir", str(run)])
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("evaluating 6 images ...")
    assert re.fullmatch(
        r"step 5  AP (\.\d{3}|-)  AP50 (\.\d{3}|-)  AP75 .*APM .*APL \S+", lines[at + 1]
    )
    command = f"python -m experiments.evaluate --workdir '{run}' --data {data}"
    assert lines[-1] == f"wrote {run}; next: {command}"
    (trace,) = (run / "profile").rglob("*.xplane.pb")  # what TensorBoard reads
    text = trace.read_bytes()
    assert text.count(b"step_num") >= 1


def test_weights_and_biases_that_is_not_installed(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"--wandb: not installed; `pip install 'g-rmi\[wandb\]'`"):
        train.main([*TINY, "--wandb", "poses", "--workdir", str(tmp_path / "run")])
    assert not list(tmp_path.rglob("*.json*"))


def test_evaluate_with_annotated_boxes(workdir, data, tmp_path):
    out = tmp_path / "out"
    arguments = ["--workdir", str(workdir), "--data", str(data), "--out", str(out)]
    evaluate.main([*arguments, "--pictures", "2", "--table"])
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(KEYPOINT_METRICS) <= metrics.keys()
    assert 0.3 < metrics["box_AP"] <= 1.0  # people without a joint have no box here
    assert 0 <= metrics["PCK"] <= 1
    rows = json.loads((out / "options.json").read_text())
    wanted = {"decoding = argmax", "flip_test = True", "rotation_test = True", "ranking = box"}
    assert wanted | {"oks_nms = 0.9"} <= set(rows)
    results = json.loads((out / "keypoints.json").read_text())
    assert all(len(result["keypoints"]) == 51 for result in results)
    pictures = sorted((out / "pictures").glob("*.jpg"))
    assert len(pictures) == 3
    assert np.ptp(cv2.imread(str(pictures[0]))) > 100


def test_a_checkpoint_is_chosen(workdir, data, tmp_path):
    arguments = ["--workdir", str(workdir), "--data", str(data), "--pictures", "0"]
    evaluate.main([*arguments, "--out", str(tmp_path), "--checkpoint", "best"])
    found = json.loads((tmp_path / "metrics.json").read_text())["AP"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert found == max(line.get("eval/AP", -1) for line in lines)
    with pytest.raises(ValueError, match=r"tiny has no checkpoint '9'; choices: .*1, latest, best"):
        evaluate.main([*arguments, "--checkpoint", "9"])
    weights = tmp_path / "first.safetensors"
    export.main(["weights", "--workdir", str(workdir), "--checkpoint", "1", "--out", str(weights)])
    _, first = evaluate.load_task(workdir, "1")
    _, read = evaluate.load_task(weights)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6)
    jax.tree.map(close, read, first)
    with pytest.raises(ValueError, match=r"first.safetensors is a file of one checkpoint"):
        evaluate.main(["--workdir", str(weights), "--checkpoint", "best", "--data", str(data)])


def test_evaluate_with_boxes_from_a_file(workdir, data, tmp_path):
    arguments = ["--workdir", str(workdir), "--data", str(data), "--pictures", "0"]
    evaluate.main([*arguments, "--out", str(tmp_path / "gt")])
    boxes = tmp_path / "gt" / "boxes.json"
    evaluate.main([*arguments, "--out", str(tmp_path / "file"), "--boxes", str(boxes)])
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("gt", "file")
    )
    assert {k: first[k] for k in KEYPOINT_METRICS} == {k: second[k] for k in KEYPOINT_METRICS}


def test_evaluate_without_any_box(workdir, data, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    arguments = ["--workdir", str(workdir), "--data", str(data), "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"--boxes .*none.json: no box to look into"):
        evaluate.main([*arguments, "--boxes", str(tmp_path / "none.json")])


@pytest.fixture(scope="module")
def detector(data, tmp_path_factory):
    """A training of the detector, one step and its continuation by another."""
    workdir = tmp_path_factory.mktemp("runs") / "detector"
    arguments = [*TINY_DETECTOR, "--data", str(data), "--workdir", str(workdir)]
    train.main([*arguments, "--steps", "1"])
    train.main([*arguments, "--steps", "2"])
    return workdir


def test_the_detector_trains_and_continues(detector):
    assert json.loads((detector / "config.json").read_text())["stage"] == "detector"
    lines = [json.loads(line) for line in (detector / "metrics.jsonl").read_text().splitlines()]
    assert {"train/objectness", "eval/box_AP"} <= set().union(*lines)
    assert (detector / "checkpoints" / "2").is_dir()


def test_the_pose_network_looks_into_the_detectors_boxes(
    detector, workdir, data, tmp_path, monkeypatch
):
    arguments = ["--data", str(data), "--pictures", "2"]
    evaluate.main(
        [
            "--workdir",
            str(detector),
            "--out",
            str(tmp_path / "boxes"),
            "--min-box-score",
            "0",
            *arguments,
        ]
    )
    metrics = json.loads((tmp_path / "boxes" / "metrics.json").read_text())
    assert set(BOX_METRICS) == metrics.keys()
    found = json.loads((tmp_path / "boxes" / "boxes.json").read_text())
    assert found
    assert len(list((tmp_path / "boxes" / "pictures").glob("*.jpg"))) == 3
    evaluate.main(
        [
            *("--workdir", str(workdir), "--out", str(tmp_path / "poses")),
            *("--boxes", str(tmp_path / "boxes" / "boxes.json"), "--max-per-image", "3"),
            *arguments,
        ]
    )
    poses = json.loads((tmp_path / "poses" / "metrics.json").read_text())
    assert 0 < poses["boxes"] <= 3 * 6
    assert set(KEYPOINT_METRICS) <= poses.keys()
    looked, predict = [], measure.predict_poses

    def counted(task, variables, dataset, boxes, decoding, **options):
        looked.append((len(boxes), decoding))
        return predict(task, variables, dataset, boxes, decoding, **options)

    monkeypatch.setattr(measure, "predict_poses", counted)
    evaluate.main(
        [
            *("--workdir", str(workdir), "--out", str(tmp_path / "both"), "--max-per-image", "3"),
            *("--boxes", "detector", "--detector", str(detector), "--table"),
            *arguments,
        ]
    )
    # Hough, by OKS, argmax, argmax and offset, flipped, turned; and the annotated boxes.
    assert len(looked) == len(set(looked)) == 6 + 1
    rows = json.loads((tmp_path / "both" / "options.json").read_text())
    assert len([name for name in rows if name.startswith(("detector boxes", "gt boxes"))]) == 15
    assert rows["as given"] == rows["detector boxes, pose score, OKS-NMS"]
    text = (tmp_path / "both" / "options.md").read_text()
    assert text.count("\n| ") + 1 == len(rows) + 2 * 2  # heads and rulers
    both = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert both == pytest.approx(poses, abs=1e-4)  # the file has two decimals
    with pytest.raises(ValueError, match="go together"):
        evaluate.main(["--workdir", str(workdir), "--boxes", "detector", *arguments])


def test_the_pipeline_loads_both_and_is_timed(detector, workdir, tmp_path, capsys):
    weights = ["--detector", str(detector), "--pose", str(workdir)]
    given = ["--height=60", "--width=80", "--people", "0", "2", "--rounds=1"]
    pipeline_benchmark.main([*weights, *given, "--out", str(tmp_path)])
    assert re.search(r"\| poses of 2 +\| ours +\| ", capsys.readouterr().out)
    with pytest.raises(ValueError, match="is a pose network; a detector is needed"):
        PosePipeline.load(detector=workdir, pose=workdir)


def test_both_stages_write_a_report(detector, workdir, data, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    write_weights(weights, *load_variables(workdir))
    for stage, name in ((detector, "box_AP"), (workdir, "AP"), (weights, "AP")):
        out = tmp_path / stage.stem
        arguments = ["--workdir", str(stage), "--data", str(data), "--pictures", "1"]
        evaluate.main([*arguments, "--out", str(out), "--report"])
        assert f"wrote {out / 'report.html'}" in capsys.readouterr().out
        text = (out / "report.html").read_text()
        assert f"<dt>{name}</dt><dd>0." in text
        assert "learning_rate" in text  # of the config


@pytest.mark.parametrize(
    "option", [("--boxes", "x.json"), ("--decoding", "argmax"), ("--rotation-test",)]
)
def test_pose_options_are_refused_for_a_detector(detector, data, option):
    with pytest.raises(ValueError, match=f"{option[0]}: .* holds a detector"):
        evaluate.main(["--workdir", str(detector), "--data", str(data), *option])


def test_the_flip_test_reaches_the_detector(detector, workdir, data, tmp_path):
    def boxes(out, *arguments):
        arguments = ["--data", str(data), "--pictures", "0", *map(str, arguments)]
        evaluate.main([*arguments, "--out", str(tmp_path / out)])
        return json.loads((tmp_path / out / "boxes.json").read_text())

    once = boxes("once", "--workdir", detector)
    flipped = boxes("flipped", "--workdir", detector, "--flip-test")
    assert once != flipped
    looked_into = ("--boxes", "detector", "--detector", detector, "--flip-test")
    assert boxes("poses", "--workdir", workdir, *looked_into) == flipped


def test_the_other_stage_gives_its_resnet(detector, workdir, only_train, tmp_path):
    arguments = ["--steps", "1", "--data", str(only_train)]
    starts = [(TINY_DETECTOR, workdir), (TINY, detector)]
    for i, (config, other) in enumerate(starts):
        here = ["--workdir", str(tmp_path / str(i)), "--init", str(other)]
        still = ["--learning-rate", "1e-12", "--ema-decay", "0"]
        train.main([*config, *arguments, *here, *still])
        theirs, ours = (
            task.backbone(variables)["params"]
            for task, variables in map(load_task, (other, tmp_path / str(i)))
        )
        assert {"conv1", "block1_unit0", "block4_unit0"} <= ours.keys()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), theirs, ours)
    with pytest.raises(ValueError, match="width is 8 there, 4 here"):
        train.main([*TINY, *arguments, *here[:2], "--init", str(detector), "--width", "4"])


def test_training_without_a_validation_split(only_train, tmp_path, capsys):
    arguments = ["--steps", "1", "--data", str(only_train), "--workdir", str(tmp_path / "run")]
    train.main([*TINY_DETECTOR, *arguments])
    assert "training without evaluation" in capsys.readouterr().out


def test_doctor(data, capsys):
    assert doctor.main(["--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "12 pictures" in out
    assert re.search(r"computes\W+ok\W+a known product is right", out)
    assert "LOOK" not in out
    assert doctor.main(["--data", str(data / "nowhere")]) == 1


@pytest.mark.parametrize("images", [[], [{"id": 1, "file_name": "a", "width": 9, "height": 9}]])
def test_doctor_looks_twice_at_nobody(images, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a").touch()
    content = {"images": images, "annotations": []}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert next(sound for *_, sound in doctor.data_directory(tmp_path)) is False


@pytest.mark.parametrize("program", ["evaluate", "label", "predict"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("--batch-size", "0"), ("--batch-size", "-3"), ("--min-keypoint-score", "nan")],
)
def test_numbers_that_mean_nothing(program, option, value, tmp_path, capsys):
    given = ["in.jpg"] if program == "predict" else ["--workdir", "w", "--data", "d"]
    with pytest.raises((ValueError, SystemExit)) as error:
        PROGRAMS[program].main([*given, "--out", str(tmp_path / "out"), option, value])
    said = str(error.value) + "".join(capsys.readouterr())
    assert option[2:].replace("-", "_") in said.replace("-", "_")
    assert "must be" in said or "at least 1" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "pose_resnet110"], "did you mean 'pose_resnet101'"),
        ([*TINY, "--data", "nowhere"], "error: --data: no data directory nowhere"),
        (["--rotation", "nan"], "rotation = nan: must be between 0 and 180"),
        (["--box-scale", "inf"], "box_scale = inf: must be positive"),
        (["--learning-rate", "-1"], "learning_rate = -1.0: must be positive"),
        (["--ema-decay", "1.5"], "ema_decay = 1.5: must be in [0, 1)"),
        (["--crop-height", "130"], "crop_height = 130: must be 32 n"),
        (["--stepz", "3"], "--steps"),
    ],
)
def test_a_mistake_is_one_message(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    with pytest.raises(SystemExit) as exit:
        cli.run(train.main)
    assert exit.value.code == 2
    said = " ".join("".join(capsys.readouterr()).replace("│", " ").split())
    assert message in said
    assert "G_RMI_TRACEBACK" not in said


@pytest.mark.parametrize("changes", [{"iscrowd": 1}, {"bbox": [5, 5, 0, 9]}], ids=str)
def test_nobody_is_nobody_to_train_on(changes, tmp_path):
    (tmp_path / "images").mkdir()
    person = {"id": 1, "image_id": 1, "bbox": [1, 1, 5, 5], "area": 9} | changes
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no person to train on"):
        train.main([*TINY_DETECTOR, "--data", str(tmp_path), "--workdir", str(tmp_path / "run")])


def test_a_changed_config_names_the_field(workdir, data):
    arguments = ["--steps", "4", "--data", str(data), "--workdir", str(workdir)]
    with pytest.raises(ValueError, match=r"optim\.learning_rate was 0\.003, is 0\.5"):
        train.main([*TINY, *arguments, "--learning-rate", "0.5"])


def test_evaluating_what_is_no_training(tmp_path, data):
    with pytest.raises(ValueError, match="not"):
        evaluate.main(["--workdir", str(tmp_path), "--data", str(data)])
