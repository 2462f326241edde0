import dataclasses
import json
import re

import jax
import pytest

from experiments import configs
from experiments.benchmarks import memory, train_step
from experiments.benchmarks.made import evaluation_batch, made_up_batch
from experiments.parts import cli
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.training.sharding import data_mesh
from tests.networks import draw

TINY = ["--width=4", "--batch-size=2"]
TINY_POSE = [*TINY, "--fpn-channels=8", "--crop-height=33", "--crop-width=33"]
TINY_DETECTOR = [*TINY, "--canvas", "64", "80", "--proposals=6", "--box-samples=4", "--roi-size=4"]
GIVEN = {"pose_synthetic": TINY_POSE, "detector_synthetic": TINY_DETECTOR}


def experiment_of(name):
    return cli.parse(memory.Arguments(), ["--config", name, *GIVEN[name]], prog="memory").experiment


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("pose_synthetic", "evaluation"),
        pytest.param("pose_synthetic", "training", marks=pytest.mark.slow),
        pytest.param("detector_synthetic", "training", marks=pytest.mark.slow),
        pytest.param("detector_synthetic", "evaluation", marks=pytest.mark.slow),
    ],
)
def test_memory_of_a_step(name, program):
    experiment = experiment_of(name)
    use = memory.measure(experiment, program, data_mesh(jax.devices()[:1]))
    variables = draw(experiment.model.task())
    count = size(variables["params"]) // 4
    assert memory.count_parameters(experiment) == count
    if program == "training":  # AdamW keeps two numbers for each parameter, averages one of all
        least, batch = size(variables) * 2 + 8 * count, made_up_batch(experiment)
    else:
        least, batch = size(variables), evaluation_batch(experiment, 32)
    assert least < use.arguments <= least + size(batch) + 100  # counters
    assert use.arguments + use.temporaries < use.peak
    assert use.temporaries > 0
    assert use.flops > 2 * count  # every weight takes part in a multiplication and an addition


def size(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def test_the_table_has_a_line_for_each_step(monkeypatch, capsys, tmp_path):
    def measure(experiment, program, mesh):
        assert experiment.model.dtype == "bfloat16"
        return memory.Use(2.5e9, 3 * 2**20, 2**30, 3 * 2**29)

    monkeypatch.setattr(memory, "measure", measure)
    monkeypatch.setattr(memory, "count_parameters", lambda experiment: 42_640_000)
    given = ["--config", "pose_resnet101", "--dtype=bfloat16", "--out", str(tmp_path)]
    memory.main([*given, "--batch-size", "4"])
    out = re.sub(" +", " ", capsys.readouterr().out)
    assert "| 1 x cpu | step | batch per device | parameters | GFLOPs |" in out
    line = "| training | 4 | 42.6 M | 2.5 | 3.0 MiB | 1.00 GiB | 1.50 GiB | |"
    assert f"| `pose_resnet101` {line}" in out
    assert "| `pose_resnet101` | evaluation | 32 | " in out
    assert len(json.loads((tmp_path / "memory_pose_resnet101.json").read_text())["rows"]) == 2
    memory.main([*given, "--programs", "evaluation"])
    assert len(json.loads((tmp_path / "memory_pose_resnet101.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "pose_smal"], "no config 'pose_smal'; did you mean 'pose_small'"),
        (["--config", "pose_small", "--platform=tpu", "--topology=1"], "topology = '1': must be"),
    ],
)
def test_wrong_configs(words, message):
    with pytest.raises(ValueError, match=message):
        memory.main(words)


def test_what_does_not_fit_is_a_line(monkeypatch):
    def compile_step(experiment, program, mesh):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total "
            "memory required for HLO temporaries (21.51G) exceeds available HBM (15.75G)."
        )

    monkeypatch.setattr(memory, "compile_step", compile_step)
    monkeypatch.setattr(memory, "count_parameters", lambda experiment: 1)
    mesh, experiment = data_mesh(jax.devices()[:1]), configs.get("pose_small")
    assert memory.measure(experiment, "training", mesh) == "21.51G of 15.75G"
    cells = list(memory.row("x", experiment, "training", mesh).values())
    assert cells[-2:] == ["needs 21.51G of 15.75G", "no"]


def test_only_pose_networks_have_a_twin():
    with pytest.raises(ValueError, match="detector_small: only pose networks"):
        train_step.main(["--config=detector_small"])


@pytest.mark.parametrize(("topology", "chips"), [("v5e:1x1", 1), ("v5e:2x2", 4)])
def test_tpu_topologies(topology, chips):
    pytest.importorskip("libtpu", reason="compiles for TPUs")
    assert len(memory.devices("tpu", topology)) == chips


def test_wrong_topologies(monkeypatch):
    with pytest.raises(ValueError, match=r"topology = 'v5e': must be like v5e:1x1"):
        memory.devices("tpu", "v5e")
    monkeypatch.setattr(memory.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install libtpu"):
        memory.devices("tpu", "v5e:1x1")


@pytest.mark.slow
def test_against_pytorch(tmp_path):
    pytest.importorskip("torch")
    given = ["--config=pose_synthetic", *TINY_POSE, "--rounds=2", "--out", str(tmp_path)]
    train_step.main(given)
    rows = json.loads((tmp_path / "train_step.json").read_text())["rows"]
    assert [row["rival"] for row in rows] == [
        "ours",
        "PyTorch, contiguous_format",
        "PyTorch, channels_last",
        "our whole training step",
    ]
    assert all(row["per_second"] > 0 for row in rows)
    jax.clear_caches()


PROGRAM = """
  %all-reduce.1 = (f32[3,4]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1
  %x = bf16[8,2]{1,0} all-gather(%c), dimensions={0}
  %y = f32[100]{0} add(%all-reduce.1, %d)
  ROOT %z = (f32[5]{0}, f32[5]{0}) all-reduce-start(%e)
"""


def test_messages_are_the_results_of_collectives():
    assert memory.message_sizes(PROGRAM) == [4 * 13, 2 * 16, 4 * 10]


def test_prediction_is_the_arithmetic_it_says():
    chip = memory.Chip(peak=100e12, link=50e9)
    assert memory.predict(4e12, 10**9, (4, chip), share=0.4) == pytest.approx((0.1, 1.5 / 50))
    assert memory.predict(4e12, 10**9, (1, chip), share=0.4)[1] == 0


def test_the_message_of_a_step_is_its_gradient():
    experiment = configs.get("pose_synthetic")
    model = dataclasses.replace(
        experiment.model, backbone=ResNetConfig(depth=26, width=4), fpn_channels=8
    )
    train = dataclasses.replace(experiment.train, batch_size=2)
    experiment = dataclasses.replace(experiment, model=model, train=train)
    _, messages = memory.work_per_device(experiment)
    task = experiment.model.task()
    variables = jax.eval_shape(task.init, jax.random.key(0))
    gradient = sum(4 * x.size for x in jax.tree.leaves(variables["params"]))
    # Beside it go the batch's statistics and the metrics.
    assert gradient <= sum(messages) < 1.2 * gradient


def test_a_prediction_has_a_cell_for_each_machine(monkeypatch):
    monkeypatch.setattr(memory, "work_per_device", lambda experiment: (4e12, [2**20, 2**20]))
    row = memory.prediction("x", configs.get("pose_small"), 0.4)
    assert list(row) == ["config", "per device and step", *memory.MACHINES]
    assert row["per device and step"] == "4,000 GFLOPs, 2 MiB in 2 messages"
    assert row["TPU v4-8"] == "36 + 0.0 ms, 3,518/s"
