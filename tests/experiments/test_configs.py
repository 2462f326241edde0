"""Every config: complete; one step and one prediction fit together and lower (no compute)."""

import csv
import dataclasses
import datetime
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments import configs, sweep
from experiments.parts import cli
from experiments.parts.training import Arguments
from g_rmi.pose.task import PoseTask
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state
from g_rmi.training.step import train_step
from g_rmi.types import DetectionBatch, PartsBatch, PoseBatch

LOG = Path(__file__).resolve().parents[2] / "experiments" / "runs" / "log.csv"


def networks(stage):
    """A config of every network of the stage: others train the same in another way."""
    found = {}
    for name in sorted(configs.names(), reverse=True):  # of twins, the one with the shorter name
        experiment = configs.get(name)
        network = dataclasses.replace(experiment.model, dtype="float32")
        if experiment.stage == stage:
            found[network] = name
    return sorted(found.values())


POSE, DETECTOR, PARTS = map(networks, ("pose", "detector", "parts"))


def arrays(rows):
    return lambda dtype, *shape: jax.ShapeDtypeStruct((rows, *shape), dtype)


def pose_batch(model, rows, others=2, joints=17):
    array = arrays(rows)
    return PoseBatch(
        image=array(jnp.uint8, model.crop_height, model.crop_width, 3),
        keypoints=array(jnp.float32, joints, 2),
        visible=array(jnp.bool_, joints),
        occluded=array(jnp.bool_, joints),
        visibility_known=array(jnp.bool_, joints),
        labelled=array(jnp.bool_, joints),
        other_keypoints=array(jnp.float32, others, joints, 2),
        other_visible=array(jnp.bool_, others, joints),
        weight=array(jnp.float32),
    )


def detection_batch(canvas, rows, boxes=5):
    array = arrays(rows)
    return DetectionBatch(
        image=array(jnp.uint8, *canvas, 3),
        size=array(jnp.int32, 2),
        boxes=array(jnp.float32, boxes, 4),
        person=array(jnp.bool_, boxes),
        ignore=array(jnp.bool_, boxes),
        weight=array(jnp.float32),
    )


def parts_batch(canvas, rows, people=4, joints=17):
    array = arrays(rows)
    return PartsBatch(
        image=array(jnp.uint8, *canvas, 3),
        size=array(jnp.int32, 2),
        boxes=array(jnp.float32, people, 4),
        ignore=array(jnp.bool_, people),
        keypoints=array(jnp.float32, people, joints, 2),
        visible=array(jnp.bool_, people, joints),
        labelled=array(jnp.bool_, joints),
        complete=array(jnp.bool_),
        weight=array(jnp.float32),
    )


def lowered(function, *arguments):
    """Shapes of the results of a function that lowers for TPUs and GPUs."""
    traced = jax.jit(function).trace(*arguments)
    traced.lower(lowering_platforms=("tpu", "cuda"))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), traced.out_info)


def one_step(task, experiment, batch):
    """Shapes of the state and the metrics of one step, which must keep those of the state."""
    optimizer = make_optimizer(experiment.optim, experiment.train.steps)

    def create():
        return create_state(task, optimizer, jax.random.key(0), average=True)

    step = train_step(task, optimizer, ema_decay=0.9)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes a float with its count
        state = jax.eval_shape(create)
        after, metrics = lowered(step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    return state, metrics


@pytest.mark.parametrize("name", POSE)
def test_one_step_and_one_prediction_of_the_pose_network_fit(name):
    experiment = configs.get(name)
    task = PoseTask(experiment.model)
    state, metrics = one_step(task, experiment, pose_batch(experiment.model, 2))
    head = experiment.model.head
    assert {"loss", *head.weights} <= metrics.keys()
    variables = {"params": state.params, **state.model_state}
    image = jax.ShapeDtypeStruct(
        (3, experiment.model.crop_height, experiment.model.crop_width, 3), jnp.uint8
    )
    maps = lowered(lambda v, x: task.predict(v, x, flip_test=True), variables, image)
    assert maps.keys() == {field.name for field in head.fields}
    stride = 4 if experiment.model.fpn_channels else experiment.model.output_stride
    own = {"chain": 4 * (stride // 16), "recurrent": 4, "parts": 8, "cascade heatmap": 4}
    for field in head.fields:
        finer = own.get(f"{head.kind} {field.name}", own.get(head.kind, stride))
        grid = experiment.model.grid.every(finer)
        vector = (2,) if field.vector else ()
        assert maps[field.name].shape == (3, *grid, *(17,) * field.joints, *vector)


@pytest.mark.parametrize("name", DETECTOR)
def test_one_step_and_one_prediction_of_the_detector_fit(name):
    experiment = configs.get(name)
    task = experiment.model.task()
    state, metrics = one_step(task, experiment, detection_batch(experiment.model.canvas, 2))
    assert {"loss", "class", "box"} <= metrics.keys()
    variables = {"params": state.params, **state.model_state}
    portrait = detection_batch(experiment.model.canvas[::-1], 3)
    predict = functools.partial(task.predict, flip_test=True)
    found = lowered(predict, variables, portrait.image, portrait.size)
    assert found.boxes.shape == (3, experiment.model.detections, 4)


@pytest.mark.parametrize("name", PARTS)
def test_one_step_and_one_prediction_of_the_bottom_up_network_fit(name):
    experiment = configs.get(name)
    task = experiment.model.task()
    state, metrics = one_step(task, experiment, parts_batch(experiment.model.canvas, 2))
    assert {"loss", *experiment.model.head.weights} <= metrics.keys()
    variables = {"params": state.params, **state.model_state}
    portrait = parts_batch(experiment.model.canvas[::-1], 3)
    poses, boxes, valid = lowered(task.predict, variables, portrait.image, portrait.size)
    people = 3, experiment.model.decoding.max_people
    assert (poses.keypoints.shape, boxes.shape) == ((*people, 17, 2), (*people, 4))
    assert valid.shape == people


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'pose_resnet101'"):
        configs.get("pose_resnet110")


OWN = """
from experiments.configs import pose_synthetic
from experiments.parts.experiment import override

def get_config():
    return override(pose_synthetic.get_config(), {"train.steps": 7})
"""


def test_a_file_of_the_users_is_a_config(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    assert configs.is_config(str(tmp_path / "mine.py"))
    assert configs.get(str(tmp_path / "mine.py")).train.steps == 7
    arguments = cli.parse(
        Arguments(), ["--config", str(tmp_path / "mine.py"), "--width", "8"], prog="train"
    )
    assert (arguments.experiment.train.steps, arguments.experiment.model.backbone.width) == (7, 8)
    assert arguments.directory == Path("runs/mine")
    assert sweep.read_experiment(str(tmp_path / "mine.py")).train.steps == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"^no config file .*/mine\.py$"),
        ("x = 1", r"mine\.py: has no function get_config\(\)$"),
        ("get_config = dict", r"get_config\(\) returns dict, must be a PoseExperiment, Detect"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, text, message):
    if text:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        configs.get(str(tmp_path / "mine.py"))


def test_the_configs_and_sweeps_are_listed(capsys):
    for words in (["--config", "list"], ["--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.parse(Arguments(), words, prog="train")
        assert not ended.value.code
        out = capsys.readouterr().out
        assert re.search(r"^ +pose_resnet50 +The paper's lighter pose network: ", out, re.MULTILINE)
        assert all(name in out for name in configs.names())
    for words in (["--list"], ["--config", "list"]):
        assert sweep.main(words) == 0
        out = capsys.readouterr().out
        assert re.search(r"^ +radius +R: how large should a joint's disk be\?$", out, re.MULTILINE)


def test_the_papers_network_has_its_size():
    # 42.6 M parameters and 57.0 G multiply-adds per crop (paper), auxiliary head aside. XLA counts
    # 61.9 G for ours, normalisation and the 45 x 33 grid included.
    task = PoseTask(configs.get("pose_resnet101").model)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    params = {k: v for k, v in variables["params"].items() if k != "auxiliary"}
    millions = sum(x.size for x in jax.tree.leaves(params)) / 1e6
    assert 42.55 < millions < 42.65
    image = jax.ShapeDtypeStruct((1, 353, 257, 3), jnp.uint8)
    cost = jax.jit(task.predict).lower(variables, image).cost_analysis()
    assert cost["flops"] / 2 / 57.0e9 == pytest.approx(1.09, abs=0.02)


def test_the_log_is_a_table():
    with LOG.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 200
    for row in rows:
        assert None not in row, row
        datetime.date.fromisoformat(row["date"])
        assert re.fullmatch("[0-9a-f]{7}", row["commit"]), row
        assert row["config"] in configs.names(), row
        numbers = [float(row[name]) for name in ("AP", "AP50", "AP75", "PCK") if row[name]]
        assert numbers, row
        assert all(0 <= number <= 1 for number in numbers), row
    shipped = [row for row in rows if row["note"].endswith("mean of all three: shipped")]
    assert [(row["set"], row["AP"], row["AP50"], row["PCK"]) for row in shipped] == [
        ("COCO-mini val", ".410", ".733", ".777"),
        ("LSPET val", ".564", ".818", ".734"),
    ]
