"""Sweeps: their points, and a whole run on tiny scenes."""

import csv
import dataclasses
import json
import re
import shutil
from types import SimpleNamespace

import jax
import pytest

from data_pipeline import synthetic
from experiments import configs, evaluate, sweep, train
from experiments.parts import ablations, measure, sweep_jobs, sweep_table, training
from experiments.parts.experiment import DetectorExperiment, PoseExperiment, override
from experiments.parts.points import Base, Point, check_names, resolve, settings_of
from experiments.parts.sweep_jobs import differences
from g_rmi.inference.settings import Settings
from g_rmi.nn.resnet import ResNetConfig

BASES = {
    "pose_resnet101": "detector_resnet101",
    "pose_resnet50": "detector_resnet101",
    "pose_small": "detector_small",
    "pose_synthetic": "detector_synthetic",
}

# Sweeps over what one head, or a bottom-up network, has.
OTHERS = {
    "candidates": ("parts_resnet101", "parts_small"),
    "chain": ("pose_chain_resnet50", "pose_chain_small"),
    "geometry": ("parts_resnet101", "parts_small"),
    "iterations": ("pose_recurrent", "pose_recurrent_small"),
    "solver": ("parts_resnet101", "parts_small"),
}

# Points, pose networks and detectors of each.
SIZES = {
    "auxiliary": (2, 2, 0),
    "averaging": (2, 1, 0),
    "box_source": (3, 1, 2),
    "candidates": (5, 1, 0),
    "cascade": (5, 5, 0),
    "chain": (7, 5, 0),
    "crop_depth": (4, 4, 0),
    "decoding": (4, 1, 0),
    "detector_axes": (12, 1, 12),
    "detectors": (9, 1, 3),
    "geometry": (4, 1, 0),
    "heads": (8, 6, 0),
    "iterations": (4, 2, 0),
    "loss_weight": (5, 5, 0),
    "oks_threshold": (6, 1, 1),
    "radius": (4, 4, 0),
    "score": (3, 1, 1),
    "solver": (4, 1, 0),
}

TINY = [
    *("--base", "pose_synthetic", "--width", "8", "--fpn-channels", "8", "--steps", "2"),
    *("--crop-height", "33", "--crop-width", "33", "--radius", "4", "--batch-size", "4"),
    *("--log-every", "1", "--checkpoint-every", "1", "--threads", "1", "--launcher", "debug"),
]


@pytest.fixture(scope="module", autouse=True)
def _users_promotion():
    """What users run under: optax's Adam mixes a Python float with its count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_sweeps_are_the_functions_of_their_file():
    assert sorted(ablations.SWEEPS) == sorted(SIZES)


@pytest.mark.parametrize(
    ("name", "base"), [(name, base) for name in SIZES for base in OTHERS.get(name, BASES)]
)
def test_all_points_resolve(name, base):
    bases = Base(configs.get(base), configs.get(BASES.get(base, "detector_synthetic")))
    needs = [resolve(point, bases) for point in ablations.get(name, bases)]
    detectors = {need.detector for need in needs} - {None}
    assert (len(needs), len({need.pose for need in needs}), len(detectors)) == SIZES[name]
    assert bases.pose in {need.pose for need in needs}
    assert ablations.title(name)[-1] == "?"


@pytest.mark.parametrize("name", OTHERS)
def test_a_sweep_over_another_head_says_so(name):
    wanted = r"needs the head '(chain|recurrent)', not 'disks'|needs a bottom-up network: --base"
    with pytest.raises(ValueError, match=wanted):
        ablations.get(name, Base(configs.get("pose_small")))


@pytest.mark.parametrize("name", ["oks_threshold", "decoding", "crop_depth"])
def test_a_bottom_up_network_has_neither_boxes_nor_their_settings(name):
    base = Base(configs.get("parts_small"))
    with pytest.raises(
        ValueError, match=r"needs (boxes, which a bottom-up|the head .disks.|a pose network)"
    ):
        [resolve(point, base) for point in ablations.get(name, base)]


def test_on_another_backbone_detectors_are_compared_and_depths_are_not():
    base = override(configs.get("detector_small"), {"model.backbone.kind": "efficientnet_lite"})
    bases = Base(configs.get("pose_small"), base)
    models = [resolve(p, bases).detector.model for p in ablations.get("detectors", bases)]
    assert {str(model.backbone) for model in models} == {"EfficientNet-Lite 1 x 1"}
    with pytest.raises(ValueError, match="compares ResNets; the base's backbone is EfficientNet-L"):
        ablations.get("detector_axes", bases)


def test_the_papers_values_are_among_the_points():
    base = Base(PoseExperiment(), DetectorExperiment())
    pose = [resolve(p, base).pose.model for p in ablations.get("crop_depth", base)]
    assert [(m.backbone.depth, m.crop_height, m.crop_width) for m in pose] == [
        (50, 257, 185),
        (50, 353, 257),
        (101, 257, 185),
        (101, 353, 257),
    ]
    fast, accurate, truth = (resolve(p, base) for p in ablations.get("box_source", base))
    assert fast.detector.model.canvas == (600, 900)
    assert accurate.detector.model.canvas == (800, 1200)
    assert truth.detector is None
    thresholds = [settings_of(p).oks_nms for p in ablations.get("oks_threshold", base)]
    assert thresholds == [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]


def test_one_training_gives_both_of_its_weights():
    without = override(PoseExperiment(), {"optim.ema_decay": 0.0})
    half = override(without, {"optim.ema_decay": 0.5})
    for base, decay in ((Base(without), 0.9999), (Base(half), 0.5)):
        average, last = ablations.get("averaging", base)
        assert resolve(average, base) == resolve(last, base)
        assert resolve(last, base).pose.optim.ema_decay == decay
        assert (average.averaged, last.averaged) == (True, False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model.head.radios": 12.0},
            "point 'x': no field 'model.head.radios'; did you mean 'model.head.radius'",
        ),
        ({"radius": 12.0}, "no field 'radius'; choices: model.head.radius"),
        ({"model.radius": 12.0}, "did you mean 'model.head.radius'"),
        ({"model": 3}, "no field 'model'"),
        ({"model.head.radius": "12"}, "model.head.radius = '12': must be float"),
        ({"model.crop_height": 354}, "model.crop_height = 354: must be 8 n"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        resolve(Point("x", fields), Base(PoseExperiment()))


@pytest.mark.parametrize(
    ("base", "detector"),
    [("pose_small", "detector_small"), ("pose_modern", None), ("heads_2026_11", None)],
)
def test_a_base_has_the_detector_of_its_name(base, detector):
    assert sweep.namesake(base) == detector


def test_points_have_different_names():
    with pytest.raises(ValueError, match="two points are named 'x'"):
        check_names([Point("x"), Point("x", averaged=False)])


def test_changes_become_part_of_a_file_name():
    fields = {"model.canvas": (600, 900), "optim.momentum": 0.5}
    changed = override(DetectorExperiment(), fields)
    assert changed.model.canvas == (600, 900)
    assert differences(changed, DetectorExperiment()) == "canvas_600x900_momentum_0.5"
    fields = {"model.head.kind": "gaussian", "model.head.sigma": 2.5}
    changed = override(PoseExperiment(), fields)  # whose fields the base's head has not
    assert differences(changed, PoseExperiment()).startswith("kind_gaussian_sigma_2.5")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight training scenes, four to validate on."""
    directory = tmp_path_factory.mktemp("data") / "scenes"
    return synthetic.make(directory, train_images=8, val_images=4, size=(96, 128), workers=1)


@pytest.fixture(scope="module")
def out(data, tmp_path_factory):
    """A sweep of three points that share a training of two steps."""
    out = tmp_path_factory.mktemp("runs") / "ablations"
    arguments = ["--config", "decoding", *TINY, "--data", str(data), "--out", str(out)]
    assert sweep.main(arguments) == 0
    return out


def run(out, data, config="decoding", *more):
    return sweep.main(["--config", config, *TINY, "--data", str(data), "--out", str(out), *more])


def read(out, config="decoding"):
    with (out / f"{config}.csv").open() as file:
        return {row["point"]: row for row in csv.DictReader(file)}


def test_a_sweep_leaves_a_table_and_a_plot(out):
    table = read(out)
    assert list(table) == [
        "argmax",
        "argmax + offset",
        "Hough voting",
        "Hough voting, OKS's kernel",
    ]
    assert {row["status"] for row in table.values()} == {"done"}
    metrics = json.loads((out / "points/decoding/argmax/metrics.json").read_text())
    assert float(table["argmax"]["AP"]) == pytest.approx(metrics["AP"], abs=1e-6)
    assert "box_AP" in metrics
    text = (out / "decoding.md").read_text()
    assert "    python -m experiments.sweep --config decoding --base pose_synthetic" in text
    assert text.count("\n| ") == 6
    assert (out / "decoding.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list((out / "trainings").iterdir())) == 1


def test_its_numbers_are_those_of_evaluate(out, data, tmp_path):
    (workdir,) = (out / "trainings").iterdir()
    arguments = ["--workdir", str(workdir), "--data", str(data), "--pictures", "0"]
    evaluate.main([*arguments, "--out", str(tmp_path), "--method", "argmax"])
    theirs = json.loads((tmp_path / "metrics.json").read_text())
    ours = json.loads((out / "points/decoding/argmax/metrics.json").read_text())
    assert ours == {name: theirs[name] for name in ours}


def test_what_is_done_is_not_done_again(out, data, monkeypatch):
    monkeypatch.setattr(sweep, "run_jobs", None)
    assert run(out, data) == 0
    assert run(out, data, "decoding", "--log-every", "2") == 0  # changes no number


@pytest.mark.slow
def test_sweeps_share_a_training_and_both_weights_count(out, data, monkeypatch):
    loaded = []

    def load_task(workdir, *, stage, average):
        assert stage == "pose"
        loaded.append(average)
        return evaluate.load_task(workdir, average=average)

    monkeypatch.setattr(training, "run", None)
    monkeypatch.setattr(sweep_jobs, "load_task", load_task)
    assert run(out, data, "averaging") == 0
    assert loaded == [True, False]
    table = read(out, "averaging")
    assert table["average"]["status"] == table["last weights"]["status"] == "done"
    (workdir,) = (out / "trainings").iterdir()
    average, last = (evaluate.load_task(workdir, average=a)[1]["params"] for a in (True, False))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), average, last)
    assert not all(jax.tree.leaves(same))


@pytest.mark.slow
def test_a_killed_training_continues(out, data, tmp_path, capsys):
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "points")
    (workdir,) = (tmp_path / "out" / "trainings").iterdir()
    shutil.rmtree(workdir / "checkpoints" / "2")
    assert run(tmp_path / "out", data) == 0
    assert "at step 1" in capsys.readouterr().out
    assert read(tmp_path / "out") == read(out) | {
        name: row | {"minutes": read(tmp_path / "out")[name]["minutes"]}
        for name, row in read(out).items()
    }


def test_a_failed_point_is_named_and_tried_again(out, data, monkeypatch, capsys):
    def two(base):
        """Two points?"""
        yield Point("good", settings={"ranking": "product"})
        yield Point("diverges", {"optim.learning_rate": 1e30})

    monkeypatch.setitem(ablations.SWEEPS, "two", two)

    def diverge(arguments):
        raise FloatingPointError(f"not finite at {arguments.experiment.optim.learning_rate}\nmore")

    monkeypatch.setattr(training, "run", diverge)
    assert run(out, data, "two") == 1
    assert "failed: diverges;" in capsys.readouterr().out
    table = read(out, "two")
    assert table["good"]["status"] == "done"
    assert table["diverges"]["status"] == "failed: FloatingPointError: not finite at 1e+30"
    assert table["diverges"]["AP"] == ""
    assert re.search(r"^\| diverges +\| +- \|", (out / "two.md").read_text(), re.MULTILINE)

    monkeypatch.setattr(training, "run", lambda arguments: 1 / 0)
    assert run(out, data, "two") == 1
    table = read(out, "two")
    assert table["good"]["status"] == "done"
    assert table["diverges"]["status"] == "failed: ZeroDivisionError: division by zero"


def test_a_given_training_stands_for_the_base_and_nothing_else(out, data, tmp_path, monkeypatch):
    (workdir,) = (out / "trainings").glob("pose_[0-9a-f]*")
    given = ["--base", str(workdir), "--data", str(data), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(training, "run", None)
        assert sweep.main(["--config", "decoding", *given, "--launcher", "debug"]) == 0
    assert not (tmp_path / "out" / "trainings").exists()
    theirs, ours = (
        {name: row["AP"] for name, row in read(directory).items()}
        for directory in (tmp_path / "out", out)
    )
    assert theirs == ours
    arguments = sweep.Arguments("radius", tmp_path, base=str(workdir))
    base = sweep.read_experiment(str(workdir))
    made = sweep.training(base, base, str(workdir), arguments)
    assert made == sweep_jobs.Training.given(workdir)
    assert made.finished
    changed = override(base, {"model.head.radius": 2.0})
    other = sweep.training(changed, base, str(workdir), arguments)
    assert "radius_2.0" in other.workdir.name
    assert not other.finished


@pytest.mark.slow
def test_points_look_into_the_boxes_of_a_detector(out, data, tmp_path, monkeypatch):
    tiny = ["--width", "8", "--rpn-channels", "8", "--canvas", "64", "80", "--proposals", "6"]
    tiny += ["--box-samples", "4", "--roi-size", "4", "--batch-size", "4", "--threads", "1"]
    detector = ["--config", "detector_synthetic", "--data", str(data), "--steps", "1", *tiny]
    train.main([*detector, "--workdir", str(tmp_path / "detector")])
    (workdir,) = (out / "trainings").glob("pose_[0-9a-f]*")
    monkeypatch.setattr(training, "run", None)
    given = ["--base", str(workdir), "--detector", str(tmp_path / "detector")]
    given += ["--data", str(data), "--out", str(tmp_path / "out"), "--launcher", "debug"]
    assert sweep.main(["--config", "score", *given]) == 0
    assert {row["status"] for row in read(tmp_path / "out", "score").values()} == {"done"}
    boxes = json.loads(next((tmp_path / "out" / "boxes").iterdir()).read_text())
    assert boxes
    assert all(len(box["bbox"]) == 4 for box in boxes)
    assert not (tmp_path / "out" / "trainings").exists()


RECURRENT = "--channels 2 --kernels 3"
CHAIN = "--channels 2 --decoder-channels 2 --doublings 0 --truth-steps 1 --output-stride 32"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "words", "trainings"),
    [
        ("iterations", "pose_recurrent_small", RECURRENT, 2),
        ("chain", "pose_chain_small", CHAIN, 5),
    ],
)
def test_points_that_differ_at_test_time_share_a_training(
    data, tmp_path, name, config, words, trainings
):
    radius = TINY.index("--radius")
    tiny = [*TINY[2:radius], *TINY[radius + 2 :], *words.split()]
    out = tmp_path / "out"
    given = ["--base", config, "--data", str(data), "--out", str(out)]
    assert sweep.main(["--config", name, *given, *tiny]) == 0
    table = read(out, name)
    assert {row["status"] for row in table.values()} == {"done"}
    assert len(list((out / "trainings").iterdir())) == trainings
    identities = [json.loads(p.read_text()) for p in out.glob("points/*/*/config.json")]
    assert len({json.dumps(identity) for identity in identities}) == len(table)


def test_detectors_are_alike_but_for_their_kind():
    base = Base(configs.get("pose_small"), configs.get("detector_small"))
    points = ablations.get("detectors", base)
    models = [resolve(point, base).detector.model for point in points]
    assert {type(model).kind for model in models} == {"faster_rcnn", "rfcn", "ssd"}
    assert {(m.backbone, m.canvas, m.output_stride) for m in models} == {
        (ResNetConfig(depth=26, width=32), (256, 352), 16)
    }
    mined = {m.kind: m.hard_examples for m in models if m.kind != "ssd"}
    assert mined == {"faster_rcnn": 0, "rfcn": 32}
    assert resolve(points[4], base).detector == configs.get("detector_rfcn_small")
    assert resolve(points[8], base).detector == configs.get("detector_ssd_small")
    assert points[0].detector_test == {"model.proposals": 10, "model.candidates": 500}
    assert [point.detector_test.get("model.proposals") for point in points] == [
        *(10, 50, 100, 300, 10, 50, 100, 300, None)
    ]
    axes = [resolve(p, base).detector.model for p in ablations.get("detector_axes", base)]
    assert [(m.canvas, m.output_stride, m.backbone.depth) for m in axes[:4]] == [
        ((256, 352), 16, 26),
        ((128, 176), 16, 26),
        ((256, 352), 8, 26),
        ((256, 352), 16, 50),
    ]
    with pytest.raises(ValueError, match="name a config or training with --detector"):
        ablations.get("detectors", Base(base.pose))


@pytest.mark.slow
def test_detectors_are_compared_by_their_boxes(data, tmp_path):
    """Three trainings of a step; fewer proposals share them; no pose network is made."""
    tiny = "--width 8 --rpn-channels 8 --canvas 64 80 --proposals 30 --box-samples 4 --roi-size 4"
    words = f"--config detector_synthetic --steps 1 --batch-size 4 --threads 1 {tiny}".split()
    train.main([*words, "--data", str(data), "--workdir", str(tmp_path / "detector")])
    given = ["--base", "pose_synthetic", "--detector", str(tmp_path / "detector")]
    out = tmp_path / "out"
    given += ["--data", str(data), "--out", str(out), "--launcher", "debug"]
    assert sweep.main(["--config", "detectors", *given]) == 0
    table = read(out, "detectors")
    assert {row["status"] for row in table.values()} == {"done"}
    assert {"rfcn, 300 proposals", "faster_rcnn, 10 proposals", "ssd"} <= set(table)
    assert all(0 <= float(row["box_AP"]) <= 1 for row in table.values())
    assert all(float(row["ms"]) > 0 for row in table.values())
    of = {name: float(row["parameters_m"]) for name, row in table.items()}
    assert of["rfcn, 300 proposals"] == of["rfcn, 10 proposals"]
    file = out / "points" / "detectors" / "costs.json"
    before = file.read_bytes()
    assert sweep.main(["--config", "detectors", *given]) == 0
    assert file.read_bytes() == before
    assert len(list((out / "trainings").iterdir())) == 2
    assert len(list((out / "boxes").iterdir())) == 9
    assert (out / "detectors.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "oks_treshold"], "no sweep 'oks_treshold'; did you mean 'oks_threshold'"),
        (["--base", "pose_resnet110"], "did you mean 'pose_resnet101'"),
        (["--base", "runs/pose"], "runs/pose is not a workdir: it has no config.json"),
        (["--base", "detector_small"], "--base detector_small: must be of a pose network"),
        (["--detector", "pose_small"], "--detector pose_small: must be of a detector"),
        (["--pretrained", "50", "r50.safetensors"], "no weights for depth 101, which a point"),
        (["--base", "pose_resnet50"], "point '0.1': needs boxes: name a detector's config"),
        (["--data", "nowhere"], "no data directory"),
    ],
)
def test_a_mistake_is_one_message(arguments, message, data, tmp_path):
    given = ["--config", "oks_threshold", "--out", str(tmp_path / "x"), "--data", str(data)]
    with pytest.raises(ValueError, match=message) as error:
        sweep.main([*given, *arguments])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()


def test_decodings_that_only_rank_differently_share_predictions(monkeypatch):
    predicted = []

    def predict(task, variables, dataset, boxes, look, *, batch_size):
        predicted.append(look)
        return len(predicted)

    def score(truth, dataset, boxes, people, settings):
        return SimpleNamespace(metrics={"people": people, "threshold": settings.oks_nms})

    monkeypatch.setattr(measure, "predict_poses", predict)
    monkeypatch.setattr(measure, "score_poses", score)
    variants = [
        Settings(oks_nms=0.1, ranking="box"),
        Settings(decoding="argmax", oks_nms=0.2),
        Settings(oks_nms=0.3),
        Settings(flip_test=True, oks_nms=0.4),
        Settings(rotation_test=True, oks_nms=0.5),
        Settings(decoding="argmax", oks_nms=0.6),
    ]
    rows = [e.metrics for e in measure.evaluate_each(None, {}, None, None, None, variants)]
    assert [row["people"] for row in rows] == [1, 2, 1, 3, 4, 2]
    assert [row["threshold"] for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert predicted == [
        (None, False, False),
        ("argmax", False, False),
        (None, True, False),
        (None, False, True),
    ]


def test_numbers_of_another_point_do_not_count(tmp_path):
    pose = sweep_jobs.Training(tmp_path / "pose", {"step": 1})
    run = sweep_jobs.Run(Point("x"), tmp_path / "x", pose, None, (tmp_path,), 30)
    assert run.metrics is None
    run.save({"AP": 0.5})
    assert run.metrics == {"AP": 0.5}
    found = tmp_path / "boxes.json", sweep_jobs.Training(tmp_path / "detector", {"step": 2})
    for change in (
        {"point": Point("x", settings={"rotation_test": True})},
        {"point": Point("x", averaged=False)},
        {"pose": dataclasses.replace(pose, identity={"step": 2})},
        {"boxes": found},
        {"data": (tmp_path / "data",)},
    ):
        assert dataclasses.replace(run, **change).metrics is None, change
    assert dataclasses.replace(
        run, max_per_image=20
    ).metrics  # of which annotated boxes know nothing
    looked = dataclasses.replace(run, boxes=found)
    looked.save({"AP": 0.25})
    assert dataclasses.replace(looked, max_per_image=20).metrics is None
    (run.directory / "metrics.json").write_text('{"AP"')  # killed while writing
    assert looked.metrics is None


def test_training_time_is_that_of_the_steps(tmp_path):
    (tmp_path / "config.json").write_text('{"train": {"batch_size": 10}}')
    rates = [(1, None), (4, 2.0), (6, 5.0)]  # 4 steps at 2 / s, 2 steps at 5 / s
    lines = [{"step": step, "train/examples_per_second": rate} for step, rate in rates]
    lines.append({"step": 6, "eval/AP": 0.5})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = sweep_jobs.Training(tmp_path, {})
    assert training.minutes == pytest.approx((40 / 2 + 20 / 5) / 60)
    assert dataclasses.replace(training, workdir=tmp_path / "x").minutes is None


def test_a_bar_in_a_message_stays_in_its_cell():
    row = sweep_table.Row("a | b", None, None, "failed: int | str")
    text = sweep_table.as_markdown([row], "Title?", "command")
    cells = re.split(r"(?<!\\)\|", text.splitlines()[-1])[1:-1]
    assert [cell.strip() for cell in cells] == [r"a \| b", *"-" * 11, r"failed: int \| str"]
